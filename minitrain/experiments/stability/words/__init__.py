"""What the page says: sentences and cells made from the numbers, and the reasons for the settings."""
