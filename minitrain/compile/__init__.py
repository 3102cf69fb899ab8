"""From a graph to calls in preallocated memory: fuse (Graph -> Graph), memory (lifetimes -> offsets), plan (Plan)."""
