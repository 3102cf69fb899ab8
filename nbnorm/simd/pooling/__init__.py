"""Maxima of windows: `windows` for rows that are longer than a vector, `halving` for 2x2 windows in narrow planes."""
