"""What the studies are set to and what they measure, with what follows from the numbers."""
