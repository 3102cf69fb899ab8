"""Training on several ranks against training in one process, for real: with `mpiexec`, uneven and empty parts."""

import pytest

pytest.importorskip("mpi4py")

import ranks

AS_ONE = """
    import json
    from mpi4py import MPI
    from minitrain import augment, layers
    from spread_nets import *

    comm = MPI.COMM_WORLD
    conv, masked = conv_data(), data_with_lengths()
    weights = np.arange(SAMPLES) % 4
    def of(**options):
        return lambda: conv_net(norm=lambda: layers.BatchNorm(**options))
    # Of two values a channel, what the gradient leaves is a difference of numbers that are equal but for eps.
    few = 1.0
    cases = {
        "even parts": (conv_net, conv, {}),
        "7 + 1 samples": (conv_net, (conv[0][:15], conv[1][:15]), {}),
        "a sample for some ranks only": (of(eps=few), (conv[0][:2], conv[1][:2]), {"batch_size": 2, "epochs": 20}),
        "lengths": (net_with_lengths, masked, {}),
        "ghosts": (of(ghost_size=2, eps=few), conv, {}),
        "renorm": (of(renorm=layers.Renorm(2.0, 1.0)), conv, {}),
        "threshold": (of(threshold=1.0), conv, {}),
        "without bias": (of(debias=True, bias=False), conv, {}),
        "no running statistics": (of(track_running_stats=False), conv, {}),
        "accumulate": (conv_net, conv, {"accumulate": 3}),
        "weights": (conv_net, conv, {"sample_weight": weights}),
        "augmented": (conv_net, conv, {"augment": [augment.Shift(1), augment.Mixup(0.5)]}),
        "held out": (conv_net, conv, {"validation_split": 0.3}),
    }
    for name, (net, data, options) in cases.items():
        spread = trained(net(), data, comm, **options)
        alone = trained(net(), data, None, **options)
        everywhere = comm.allgather(digest(*spread))
        if comm.rank == 0:
            print(json.dumps([name, difference(spread, alone), len(set(everywhere))]), flush=True)
"""


@pytest.mark.parametrize("number", [2, 3])
def test_as_one_process(tmp_path, number):
    found = ranks.printed(ranks.run_program(number, tmp_path, AS_ONE))
    assert len(found) == 13
    assert {name: error for name, error, _ in found if error > 1e-12} == {}
    assert {name: states for name, _, states in found if states != 1} == {}  # all ranks hold the same


BITS = """
    import json
    from mpi4py import MPI
    from spread_nets import *
    for dtype in ("float32", "float64"):
        conv = trained(conv_net(dtype=dtype), conv_data(), MPI.COMM_WORLD, deterministic=True, validation_split=0.2)
        lengths = trained(net_with_lengths(dtype=dtype), data_with_lengths(), MPI.COMM_WORLD, deterministic=True,
                          batch_size=5)
        apart = trained(conv_net(dtype=dtype), conv_data(), MPI.COMM_WORLD, deterministic=True, sync_batch_norm=False,
                        batch_size=24)
        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps([digest(*conv), digest(*lengths), digest(*apart)]))
"""


def test_the_same_bits_for_any_number_of_ranks(tmp_path):
    found = [ranks.printed(ranks.run_program(n, tmp_path, BITS)) for n in (1, 2, 3, 4)]
    assert found[0] == found[1] == found[2] == found[3]
    assert len({digest for line in found[0] for digest in line}) == 6


TOGETHER = """
    import json, os
    from mpi4py import MPI
    from minitrain import callbacks, layers, losses, optimizers
    from spread_nets import *

    comm, (x, y) = MPI.COMM_WORLD, conv_data()
    masked, rank = data_with_lengths(), MPI.COMM_WORLD.rank

    def pair(net=conv_net):
        loss, optimizer = losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1, momentum=0.9)
        return [Trainer(net(), loss, optimizer, comm=each) for each in (comm, None)]

    def say(name, found):
        every = comm.gather(found)
        if rank == 0:
            print(json.dumps([name, every]), flush=True)

    def batches():
        for start in range(0, SAMPLES, 10):
            yield x[start : start + 10], y[start : start + 10]

    # What is measured has the bits of one process.
    both = pair()
    for each in both:
        each.calibrate(x, batch_size=10)
    say("calibrate", both[0].model.flat_state.tobytes() == both[1].model.flat_state.tobytes())
    say("predict", bool(np.array_equal(both[0].predict(x, 10), both[1].predict(x, 10))))
    say("predict_classes", bool(np.array_equal(both[0].predict_classes(x, 10), both[1].predict_classes(x, 10))))
    say("evaluate", both[0].evaluate(x, y, 10) == both[1].evaluate(x, y, 10))
    say("evaluate a stream", both[0].evaluate(batches()) == both[1].evaluate(batches()))
    for each in both:
        each.adapt(x + 1, "tent", batch_size=10)
    say("adapt", both[0].model.flat_params.tobytes() == both[1].model.flat_params.tobytes())
    both = pair(net_with_lengths)
    for each in both:
        each.calibrate(masked[0], batch_size=10)
    say("calibrate with lengths", both[0].model.flat_state.tobytes() == both[1].model.flat_state.tobytes())

    # Searches and single steps.
    both = pair()
    rates = [each.find_learning_rate(x, y, steps=20, batch_size=16, seed=1) for each in both]
    say("find_learning_rate", float(np.max(np.abs(np.array(rates[0].losses) / np.array(rates[1].losses) - 1))) < 1e-9)
    say("step", abs(both[0].step(x, y) - both[1].step(x, y)) < 1e-13)

    # Whoever stops stops all, and the first rank alone writes.
    class Stops(callbacks.Callback):
        def on_epoch_end(self, trainer, epoch, values):
            if epoch == 2 and trainer.rank == comm.size - 1:
                trainer.stop()

    log = callbacks.CSVLog(f"log-{rank}.csv")
    stopped, history = trained(conv_net(), conv_data(), comm, epochs=9, callbacks=[Stops(), log])
    say("stop", stopped.epoch == 2)
    say("written", os.path.exists(f"log-{rank}.csv") == (rank == 0))
    say("early stopping", trained(conv_net(), conv_data(), comm, epochs=40, validation_split=0.3,
                                  callbacks=[callbacks.EarlyStopping(patience=1)])[0].epoch)

    # By themselves, the samples of a rank are a ghost; running statistics are pooled, and the same everywhere.
    apart = trained(conv_net(), conv_data(), comm, batch_size=12, sync_batch_norm=False)
    ghosts = lambda: layers.BatchNorm(ghost_size=12 // comm.size)
    ghostly = trained(conv_net(norm=ghosts), conv_data(), None, batch_size=12)
    largest = np.abs(apart[0].model.flat_params - ghostly[0].model.flat_params).max()
    say("ghosts", bool(largest < 1e-12))
    say("state of ghosts", digest(*apart))
"""


def test_what_ranks_do_together(tmp_path):
    found = ranks.printed(ranks.run_program(2, tmp_path, TOGETHER, cwd=tmp_path))
    assert len(found) == 14
    assert {name: every for name, every in found if len(set(map(str, every))) != 1} == {}  # the same on all ranks
    assert {name for name, every in found if every[0] is False} == set()
