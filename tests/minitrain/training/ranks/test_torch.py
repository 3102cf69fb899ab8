"""Ranks against PyTorch: its batch norm of the whole batch in one process, and DDP over gloo where there is none."""

import pytest

pytest.importorskip("mpi4py")
pytest.importorskip("torch")

import ranks

PROGRAM = """
    import json, socket
    import torch
    from mpi4py import MPI
    from torch import nn
    from minitrain import Input, Model, Trainer, layers, losses, optimizers
    from spread_nets import *

    comm, rank, ranks = MPI.COMM_WORLD, MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
    torch.set_num_threads(1)
    x, y = conv_data()

    def ours(norm):
        i = Input((2, 5, 5))
        h = layers.Conv2d(4, 3, padding=1, name="conv")(i)
        h = layers.ReLU()(layers.BatchNorm(name="norm")(h) if norm else h)
        return Model(i, layers.Dense(CLASSES, name="head")(layers.Flatten()(h)), seed=0, dtype="float64")

    class Theirs(nn.Module):
        def __init__(self, model, norm):
            super().__init__()
            self.conv, self.head = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(100, CLASSES)
            self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
            self.double()
            with torch.no_grad():
                for part, name in (("conv", "weight"), ("conv", "bias"), ("head", "weight"), ("head", "bias")):
                    theirs = getattr(getattr(self, part), name)
                    theirs.copy_(torch.from_numpy(model.params[f"{part}.{name}"].copy()))

        def forward(self, x):
            return self.head(torch.relu(self.norm(self.conv(x))).flatten(1))

    def largest(model, module, steps, called, samples, own):
        trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1, momentum=0.9), comm=comm)
        optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
        for step in range(steps):
            chosen = np.arange(step * samples, (step + 1) * samples) % SAMPLES
            trainer.step(x[chosen], y[chosen])
            optimizer.zero_grad()
            xb, yb = torch.from_numpy(x[chosen][own]), torch.from_numpy(y[chosen][own])
            nn.functional.cross_entropy(called(xb), yb).backward()
            optimizer.step()
        named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        renamed = {"norm.gamma": "norm.weight", "norm.beta": "norm.bias"}
        return max(float(np.abs(each - named[renamed.get(name, name)].detach().numpy()).max())
                   for name, each in {**model.params, **model.state}.items())

    # Batch norm: 7 samples, of which no two ranks have the same number, or none at all.
    model = ours(True)
    module = Theirs(model, True)
    found = [largest(model, module, 10, module, 7, slice(None)), largest(ours(True), Theirs(ours(True), True), 0,
                                                                         None, 7, slice(None))]

    # None: DDP over gloo, on the same parts.
    port = None
    if rank == 0:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{comm.bcast(port)}"
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    model = ours(False)
    module = Theirs(model, False)
    called = nn.parallel.DistributedDataParallel(module)
    found.append(largest(model, module, 10, called, 8, slice(8 * rank // ranks, 8 * (rank + 1) // ranks)))
    if rank == 0:
        print(json.dumps(found))
    torch.distributed.destroy_process_group()
"""


def test_agrees_with_batch_norm_of_the_whole_batch_and_with_ddp(tmp_path):
    ((pooled, at_first, ddp),) = ranks.printed(ranks.run_program(2, tmp_path, PROGRAM))
    assert at_first == 0.0  # both begin with the same weights
    assert 0.0 < pooled < 1e-12
    assert 0.0 < ddp < 1e-12
