"""All patterns together: what stays the same."""

import sys
from pathlib import Path

import numpy as np
import pytest
from fusion_nets import residual_net

from minitrain.compile import fusions


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-12)])
def test_fused_equals_unfused(dtype, tolerance):
    x = np.random.default_rng(0).standard_normal((7, 3, 6, 6))
    results = []
    for fused in (True, False):
        model = residual_net(fused, dtype)
        plan = model.training_plan(7)
        plan.load(x)
        plan.forward()
        plan.output_gradient[...] = np.sin(np.arange(35)).reshape(7, 5)
        plan.backward()
        results.append((plan.output.copy(), dict(model.gradients), dict(model.state), model.predict(x)))
    for one, other in zip(*results, strict=True):
        for a, b in zip(*(list(each.values()) if isinstance(each, dict) else [each] for each in (one, other)),
                        strict=True):  # fmt: skip
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))
    assert list(results[0][1]) == list(results[1][1])


def test_every_file_of_a_pattern_is_in_one_list():
    files = {path.stem for path in Path(fusions.__file__).parent.glob("*.py") if not path.stem.startswith("_")}
    lists = (fusions.ALWAYS, fusions.FREEZING, fusions.TRAINING, fusions.INFERENCE, fusions.spreading(0, True))
    patterns = [pattern for each in lists for pattern in each]
    assert len(patterns) == len(files)
    assert {pattern.__module__.rpartition(".")[2] for pattern in patterns} == files
    assert all(
        callable(vars(sys.modules[pattern.__module__])[pattern.__module__.rpartition(".")[2]]) for pattern in patterns
    )
