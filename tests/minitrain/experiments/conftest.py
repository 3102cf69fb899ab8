"""Tiny data, all experiments on tiny settings, and results that were made up."""

import numpy as np
import pytest
from made_results import made_results

from minitrain.experiments.data import standardize
from minitrain.experiments.experiment import Settings
from minitrain.experiments.results import Results
from minitrain.experiments.run import run_job
from minitrain.experiments.stability.records.depth import DepthSettings, NetSettings
from minitrain.experiments.stability.records.initialization import ScaleSettings
from minitrain.experiments.stability.records.ioffe_szegedy import SigmoidSettings
from minitrain.experiments.stability.records.learning_rate import RateSettings
from minitrain.experiments.stability.stability import STABILITY
from minitrain.experiments.stability.studies.other_norms import OtherNormSettings


@pytest.fixture(scope="session")
def tiny():
    return Settings(
        "tiny",
        {
            "depth": DepthSettings(
                nets=(
                    NetSettings("dense", width=6, batch_size=8, learning_rates=(0.01, 0.1), seeds=2),
                    NetSettings("conv", width=2, batch_size=8, learning_rates=(0.01, 0.1), seeds=2),
                ),
                depths=(3, 6),
                steps=6,
                probes=4,
            ),
            "learning_rate": RateSettings(
                depth=3, width=6, learning_rates=(0.01, 1e30), seeds=2, steps=6, batch_size=8
            ),
            "initialization": ScaleSettings(depth=3, width=6, scales=(0.1, 10.0), seeds=1, steps=6, batch_size=8),
            "ioffe_szegedy": SigmoidSettings(hidden=(7, 7), seeds=2, steps=8, batch_size=8, measurements=4),
            "other_norms": OtherNormSettings(depths=(3, 4), steps=3, batch_size=8, seeds=2),
        },
    )


@pytest.fixture(scope="session")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(40) % 10
    x = rng.standard_normal((40, 1, 8, 8)).astype(np.float32) + y[:, None, None, None]
    return standardize("made", x[:30], y[:30], x[30:], y[30:])


@pytest.fixture(scope="session")
def outcome(data, tiny, tmp_path_factory):
    """Folder and results of a whole run."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("stability")
    return folder, run_job(STABILITY, folder, data, tiny, 0, show_progress=False)


@pytest.fixture
def made():
    """What results.json might hold, to be changed and read."""
    return made_results()


@pytest.fixture
def read():
    """Make results of what results.json might hold."""
    return lambda made: Results.from_json(made, STABILITY)
