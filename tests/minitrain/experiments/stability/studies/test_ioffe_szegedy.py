"""The figure after Ioffe & Szegedy, measured on tiny nets."""

import numpy as np

from minitrain.experiments.stability.studies import ioffe_szegedy


def test_percentiles_are_in_order(outcome):
    for side in ("with", "without"):
        for run in outcome[1].experiments["ioffe_szegedy"][side].runs:
            low, middle, high = (np.array(run.percentiles[name]) for name in ("15", "50", "85"))
            assert len(run.measured_at) == len(run.accuracy) == len(low) == 5
            assert (low <= middle).all()
            assert (middle <= high).all()
            assert len(run.drift_of_units) == 7
            assert run.drift_of_units[run.typical_unit] == sorted(run.drift_of_units)[3]


def test_drift_counts_widths():
    percentiles = np.zeros((2, 3, 1))
    percentiles[:, 0], percentiles[:, 2] = -1, 1
    percentiles[1] += 4
    np.testing.assert_allclose(ioffe_szegedy.drifts(percentiles), [2.0])
