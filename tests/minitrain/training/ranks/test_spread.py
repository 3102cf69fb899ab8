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
