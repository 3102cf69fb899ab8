"""Running statistics of batch norms that are found, or moved, by more than one batch after the other."""
