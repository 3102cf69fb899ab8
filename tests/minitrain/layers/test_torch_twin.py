"""Every layer against PyTorch on its examples: what the oracle for whole nets does with it is what it does."""

import numpy as np
import pytest

from minitrain import Input, Model
from minitrain.layers import LAYERS
from minitrain.testing.drawing import draw_input

torch = pytest.importorskip("torch")
import torch_twin  # noqa: E402

RANDOM = {"Dropout"}  # draws other numbers than PyTorch: has tests of its own
CASES = [
    pytest.param(layer, example, id=f"{name}-{example!r}")
    for name, layer in LAYERS.items() if name not in RANDOM
    for example in layer.examples
]  # fmt: skip


@pytest.mark.parametrize(("layer", "example"), CASES)
def test_a_layer_does_what_its_twin_does(layer, example):
    rng = np.random.default_rng(0)
    inputs = [Input(spec.shape[1:], spec.dtype, name=f"x{number}") for number, spec in enumerate(example.inputs)]
    model = Model(inputs, layer(**example.arguments)(*inputs), dtype="float64")
    model.flat_params[...] = rng.standard_normal(model.flat_params.size)
    float64 = np.dtype("float64")
    x = {
        name: rng.standard_normal(spec.shape) if spec.is_float else draw_input(rng, spec, float64, example.high)
        for name, spec in zip(model.input_shapes, example.inputs, strict=True)
    }
    params, state = torch_twin.tensors(model.params), torch_twin.tensors(model.state)
    arrays = {name: torch.from_numpy(each) for name, each in x.items()}
    for training in (True, False):
        expected = torch_twin.evaluate(model.graph, arrays, params, state, training)
        samples = len(x["x0"])
        plan = model.training_plan(samples) if training else model.inference_plan(samples)
        plan.load(list(x.values()))
        plan.forward()
        np.testing.assert_allclose(plan.output, expected, rtol=1e-10, atol=1e-12)
    for name, value in state.items():
        np.testing.assert_allclose(model.state[name], value, rtol=1e-10, atol=1e-12, err_msg=name)
