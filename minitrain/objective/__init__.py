"""What training makes small, and what is measured beside it: losses, metrics, targets, and how they fit the net."""
