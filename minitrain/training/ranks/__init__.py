"""Training that is spread over the processes of an MPI program, its ranks.

All ranks have the whole data set, the same seed and therefore the same batches; each computes a part of every batch.

- `division`: which samples of a batch are a part, and whose it is. Of its shape alone.
- `group`: what ranks say to each other; one process alone is a group, too.
- `lockstep`: the parts of one rank, layer by layer, so that batch norms can meet between measuring and normalizing.
- `tree`: sums in an order that does not depend on who holds what.
- `spread`: one update, and evaluation.
- `alike`: ranks that do not do the same are refused at the beginning.
"""
