"""What goes wrong on one rank is said by all of them, or ends all of them, within seconds."""

import pytest

pytest.importorskip("mpi4py")

import ranks

from minitrain import losses, optimizers
from minitrain.checkpoint import load_checkpoint

SAID = '''
    import copy, json
    from mpi4py import MPI
    from minitrain import Input, Model, Trainer, layers, losses, optimizers
    from spread_nets import *

    comm, rank = MPI.COMM_WORLD, MPI.COMM_WORLD.rank
    x, y = conv_data()
    nan = x.copy()
    nan[40, 0, 2, 2] = np.nan

    class Broken(losses.SoftmaxCrossEntropy):
        """Outputs and losses are finite, and a gradient is not."""
        def __call__(self, outputs, targets, gradient=None):
            loss = super().__call__(outputs, targets, gradient)
            if gradient is not None:
                gradient[40] = np.nan
            return loss

    def conditional():
        i, classes = Input((3,)), Input((), dtype="int64")
        return Model([i, classes], layers.Dense(3)(layers.ConditionalBatchNorm(2)(i, classes)), seed=0)

    def trainer(model=None, comm=comm, loss=losses.SoftmaxCrossEntropy()):
        return Trainer(model or conv_net(), loss, optimizers.SGD(0.1), comm=comm)

    def fit(model=conv_net, data=(x, y), **options):
        return lambda: trained(model(), data, comm, **options)

    cases = {
        "batch size": fit(batch_size=8 + rank),
        "data": fit(data=(x + rank, y)),
        "samples": fit(data=(x[: 20 + rank], y[: 20 + rank])),
        "weights": fit(model=lambda: conv_net(seed=rank)),
        "layers": fit(model=lambda: conv_net(norm=lambda: layers.BatchNorm(momentum=0.1 * (1 + rank)))),
        "epochs": fit(epochs=1 + rank),
        "a wrong argument on one rank": fit(batch_size=8 if rank == 0 else 0),
        "nan": fit(data=(nan, y), batch_size=SAMPLES),
        "nan gradient": lambda: trainer(loss=Broken()).step(x, y),
        "conditional": lambda: trainer(conditional()),
        "no communicator": lambda: trainer(comm=3),
        "a copy": lambda: copy.deepcopy(trainer()),
    }
    for name, run in cases.items():
        try:
            run()
        except Exception as error:
            said = [type(error).__name__, str(error)]
        else:
            said = ["", ""]
        every = comm.gather(said)
        if rank == 0:
            print(json.dumps([name, every]), flush=True)
'''


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    found = dict(ranks.printed(ranks.run_program(2, tmp_path_factory.mktemp("said"), SAID)))
    return {name: [(kind, text.splitlines()) for kind, text in every] for name, every in found.items()}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("batch size", ["ranks differ in batch_size", "got 8 on rank 0 of 2", "and 9 on rank 1 of 2"]),
        ("data", ["ranks differ in data", "48 samples", "rank 1 of 2"]),
        ("samples", ["ranks differ in data", "20 samples", "21 samples"]),
        ("weights", ["ranks differ in parameters and state"]),
        ("layers", ["ranks differ in layers of the model"]),
        ("epochs", ["ranks differ in epochs", "(0, 1)", "(0, 2)"]),
    ],
)
def test_ranks_that_do_not_do_the_same_are_refused(said, name, words):
    for kind, (first, *_) in said[name]:
        assert kind == "ValueError"
        for word in words:
            assert word in first


def test_what_one_rank_refuses_all_refuse(said):
    (kind, lines), (own_kind, own) = said["a wrong argument on one rank"]
    assert kind == own_kind == "ValueError"
    assert own[0].startswith("batch_size: expected")
    assert lines[0].startswith("rank 1 of 2 (node ")
    assert lines[0].endswith(own[0])


@pytest.mark.parametrize("name", ["nan", "nan gradient"])
def test_a_nan_names_rank_node_and_samples(said, name):
    for kind, lines in said[name]:
        assert kind == "NonFiniteLossError"
        assert "first seen on rank 1 of 2 (node " in lines[-1]
        assert lines[-1].endswith("samples 24 to 47 of the batch of 48")


def test_what_has_no_form_for_ranks(said):
    for kind, lines in said["conditional"]:
        assert kind == "ValueError"
        assert "sync_batch_norm=False" in lines[0]
    for kind, lines in said["no communicator"]:
        assert kind == "TypeError"
        assert lines[0].startswith("comm: expected a communicator of mpi4py")
    for kind, lines in said["a copy"]:
        assert kind == "TypeError"
        assert "copy its model" in lines[0]


ENDS = """
    import os, signal, sys
    from mpi4py import MPI
    from minitrain import callbacks
    from spread_nets import *

    class At(callbacks.Callback):
        def on_batch_end(self, trainer, batch, loss):
            if trainer.steps == 7 and trainer.rank == 1:
                {act}

    saved = callbacks.Checkpoint("run.checkpoint", every_steps=2)
    trainer, history = trained(conv_net(), conv_data(), MPI.COMM_WORLD, callbacks=[saved, At()], epochs=100)
    print("ended:", trainer.rank, trainer.steps, history.interrupted, flush=True)
"""
ENDED = "ended:"


def end(folder, act):
    """Run a training on two ranks of which the second one does something after the seventh step."""
    return ranks.run_program(2, folder, ENDS.replace("{act}", act), cwd=folder)


def steps_of_checkpoint(folder):
    """The steps of a checkpoint that is whole: one process goes on from it."""
    loss, optimizer = losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1, momentum=0.9)
    return load_checkpoint(folder / "run.checkpoint", loss, optimizer).steps


def test_an_exception_on_one_rank_ends_all(tmp_path):
    done = end(tmp_path, 'raise OSError("the disk of this node is full")')
    assert done.returncode not in (0, None)
    assert ENDED not in done.stdout
    assert "rank 1 of 2 (node " in done.stderr
    assert "OSError: the disk of this node is full" in done.stderr
    assert steps_of_checkpoint(tmp_path) == 6


def test_a_rank_that_is_killed_ends_all(tmp_path):
    done = end(tmp_path, "os.kill(os.getpid(), signal.SIGKILL)")
    assert done.returncode not in (0, None)
    assert ENDED not in done.stdout
    assert steps_of_checkpoint(tmp_path) == 6


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_to_one_rank_ends_all_behind_the_same_step(tmp_path, number):
    done = end(tmp_path, f"os.kill(os.getpid(), signal.{number})")
    assert done.returncode == 0, done.stderr
    lines = [line.split()[1:] for line in sorted(done.stdout.splitlines())]
    steps = int(lines[0][1])
    assert lines == [["0", str(steps), "True"], ["1", str(steps), "True"]]
    assert 7 <= steps <= 8
    assert steps_of_checkpoint(tmp_path) == steps


RUN = """
    import json, os, signal, warnings
    from mpi4py import MPI
    from minitrain import callbacks, losses, optimizers
    from minitrain.checkpoint import load_checkpoint
    from spread_nets import *

    warnings.simplefilter("error")
    comm, EPOCHS = MPI.COMM_WORLD, 3

    class Stops(callbacks.Callback):
        def on_batch_end(self, trainer, batch, loss):
            if {stops} and trainer.steps == 8 and trainer.rank == comm.size - 1:
                os.kill(os.getpid(), signal.SIGTERM)

    fit = dict(batch_size=7, validation_split=0.2, seed=3, verbose=False)
    loss, optimizer, options = losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1, momentum=0.9), {"deterministic": True}
    if os.path.exists("run.checkpoint"):
        trainer = load_checkpoint("run.checkpoint", loss, optimizer, comm=comm, **options)
    else:
        trainer = Trainer(conv_net(dtype="float32"), loss, optimizer, comm=comm, **options)
    saved = callbacks.Checkpoint("{saved}", every_steps=2)
    watched = [callbacks.EarlyStopping(patience=9), callbacks.ExponentialMovingAverage(0.9)]
    history = trainer.fit(*conv_data(), epochs=EPOCHS - trainer.epoch, callbacks=[*watched, saved, Stops()], **fit)
    if comm.rank == 0:
        last = [each[-1] for each in measured(history).values()]
        weights = hashlib.sha256(trainer.model.flat_params.tobytes() + trainer.model.flat_state.tobytes())
        print(json.dumps([trainer.steps, history.interrupted, weights.hexdigest(), last]))
"""


def test_a_run_goes_on_with_another_number_of_ranks_bit_for_bit(tmp_path):
    def run(number, saved, stops):
        program = RUN.replace("{stops}", str(stops)).replace("{saved}", saved)
        (found,) = ranks.printed(ranks.run_program(number, tmp_path, program, cwd=tmp_path))
        return found

    whole = run(1, "whole.checkpoint", False)
    steps, interrupted, *_ = run(2, "run.checkpoint", True)
    assert interrupted
    assert steps < whole[0]
    assert run(3, "run.checkpoint", False) == whole
