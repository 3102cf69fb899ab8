"""Plans: memory that is shared changes nothing, any batch size, gradients of the inputs, nothing allocated."""

import tracemalloc

import numpy as np
import pytest

from minitrain import Input, Model, layers
from minitrain.compile.fusions import fuse
from minitrain.compile.plan import Plan
from minitrain.graph.graph import SINGLE


def branching_net(dtype="float64"):
    """Fan-out, a skip connection, a concatenation, a view, and a value that is added to itself."""
    x = Input((2, 6, 6))
    stem = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1)(x)))
    left = layers.Conv2d(4, 3, padding=1)(stem)
    h = layers.Add()(layers.Add()(left, stem), stem)
    h = layers.Concat()(h, layers.Tanh()(stem), stem)
    h = layers.Flatten()(layers.MaxPool2d(2)(h))
    h = layers.Add()(h, h)
    return Model(x, layers.Dense(3)(h), seed=1, dtype=dtype)


def residual_net(dtype="float64"):
    """Two residual blocks whose inputs are read twice each, the second time through a convolution with a stride."""
    x = Input((2, 9, 8))
    h = layers.ReLU()(layers.BatchNorm()(layers.Conv2d(4, 3, padding=1)(x)))
    inner = layers.BatchNorm()(layers.Conv2d(4, 3, padding=1)(h))
    h = layers.ReLU()(layers.Add()(inner, h))
    left = layers.BatchNorm()(layers.Conv2d(6, 3, stride=2, padding=1)(h))
    right = layers.BatchNorm()(layers.Conv2d(6, 1, stride=2)(h))
    h = layers.ReLU()(layers.Add()(left, right))
    return Model(x, layers.Dense(3)(layers.Flatten()(h)), seed=1, dtype=dtype)


def run(plan, seed=0):
    rng = np.random.default_rng(seed)
    plan.load(rng.standard_normal(plan.inputs[0].shape))
    plan.forward()
    output = plan.output.copy()
    plan.output_gradient[...] = rng.standard_normal(output.shape)
    plan.backward()
    return output


@pytest.mark.parametrize("net", [branching_net, residual_net])
def test_shared_memory_gives_the_same_bits_and_is_smaller(net):
    model = net()
    results, sizes = [], []
    for share in (True, False):
        plan = Plan(model.graph, 5, model.dtype, model.params, model.state, model.gradients, share_memory=share)
        results.append((run(plan), model.flat_gradients.copy()))
        sizes.append(plan.arena_size)
    assert results[0][0].tobytes() == results[1][0].tobytes()
    assert results[0][1].tobytes() == results[1][1].tobytes()
    assert sizes[0] < 0.8 * sizes[1]


def test_rubbish_in_the_arena_does_not_matter():
    model = branching_net()

    def arena(size):
        return np.full(size // 8 + 8, np.nan).view(np.uint8)[: size + 8]

    clean = Plan(model.graph, 5, model.dtype, model.params, model.state, model.gradients)
    expected = run(clean), model.flat_gradients.copy()
    model.flat_gradients.fill(np.nan)
    dirty = Plan(model.graph, 5, model.dtype, model.params, model.state, model.gradients, arena=arena)
    np.testing.assert_array_equal(run(dirty), expected[0])
    np.testing.assert_array_equal(model.flat_gradients, expected[1])


@pytest.mark.parametrize("net", [branching_net, residual_net])
def test_input_gradients_against_central_differences(net):
    model = net()
    plan = Plan(model.graph, 3, model.dtype, model.params, model.state, model.gradients, input_gradients=True)
    rng = np.random.default_rng(0)
    x, direction = rng.standard_normal((2, 3, *model.input_shapes["input"]))
    weights = rng.standard_normal((3, 3))
    plan.load(x)
    plan.forward()
    plan.output_gradient[...] = weights
    plan.backward()
    slope = float((plan.dinputs["input"] * direction).sum())
    values = []
    for sign in (1, -1):
        plan.load(x + sign * 1e-6 * direction)
        plan.forward()
        values.append(float((plan.output * weights).sum()))
    assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-6)


def test_input_that_is_read_twice_gets_the_sum():
    x = Input((3,))
    model = Model(x, layers.Add()(layers.Tanh()(x), layers.Sigmoid()(x)), dtype="float64")
    plan = Plan(model.graph, 2, model.dtype, model.params, model.state, model.gradients, input_gradients=True)
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    plan.load(x)
    plan.forward()
    plan.output_gradient.fill(1)
    plan.backward()
    sigmoid = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(plan.dinputs["input"], 1 - np.tanh(x) ** 2 + sigmoid * (1 - sigmoid), rtol=1e-12)


def test_convolutions_add_the_gradients_of_residual_branches():
    kinds = [kind for _, kind, _ in residual_net().training_plan(4).calls()]
    assert kinds.count("backward") > 8
    assert "sum" not in kinds


def test_gradients_take_no_place_of_an_input_of_the_model():
    x = Input((3, 4, 4))
    h = layers.ReLU()(layers.Add()(layers.BatchNorm()(x), layers.Tanh()(x)))
    model = Model(x, layers.Dense(2)(layers.Flatten()(h)), dtype="float64")
    fused = fuse(model.graph)
    assert [type(node.layer).__name__ for node in fused.nodes][:2] == ["Tanh", "BatchNormAddReLU"]
    plan = Plan(fused, 5, model.dtype, model.params, model.state, model.gradients, input_gradients=True)
    given = np.random.default_rng(0).standard_normal(plan.inputs[0].shape)
    run(plan)
    np.testing.assert_array_equal(plan.inputs[0], given)


def test_one_arena_for_every_batch_size():
    model = branching_net("float32")
    expected = run(model.training_plan(4)), model.flat_gradients.copy()
    run(model.training_plan(11))
    model.predict(np.zeros((3, 2, 6, 6)))
    again = run(model.training_plan(4)), model.flat_gradients.copy()
    np.testing.assert_array_equal(again[0], expected[0])
    np.testing.assert_array_equal(again[1], expected[1])


def test_steady_state_allocates_nothing():
    model = branching_net("float32")
    plan = model.training_plan(64)
    x = np.random.default_rng(0).standard_normal((64, 2, 6, 6)).astype(np.float32)

    def once():
        plan.load(x)
        plan.forward()
        plan.backward()

    plan.output_gradient.fill(1)
    for _ in range(3):
        once()
    tracemalloc.start()
    once()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    once()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 8_000  # a batch of activations is 36 kB and more


def test_wrong_shapes_are_named():
    plan = branching_net().training_plan(4)
    with pytest.raises(ValueError, match=r"x: expected shape \(N, 2, 6, 6\) with N = 4, got \(4, 2, 6, 7\)"):
        plan.load(np.zeros((4, 2, 6, 7)))
    with pytest.raises(ValueError, match="x: expected 1 arrays, got 2"):
        plan.load([np.zeros((4, 2, 6, 6))] * 2)


def test_forward_one_by_one_gives_every_output():
    model = branching_net()
    plan = model.inference_plan(2)
    plan.load(np.ones((2, 2, 6, 6)))
    outputs = {name: [each.copy() for each in arrays] for name, arrays in plan.forward_one_by_one()}
    plan.load(np.ones((2, 2, 6, 6)))
    plan.forward()
    np.testing.assert_array_equal(outputs[model.graph.outputs[SINGLE]][0], plan.output)
