"""The drawings of the page; matplotlib is imported when they are drawn."""
