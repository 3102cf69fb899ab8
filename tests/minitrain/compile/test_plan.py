"""Plans: memory that is shared changes nothing, any batch size, gradients of the inputs, nothing allocated."""

import gc
import tracemalloc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from lookup import Lookup

from minitrain import Input, Model, layers
from minitrain.compile.fusions import fuse
from minitrain.compile.plan import Plan
from minitrain.graph.graph import SINGLE
from minitrain.layer import Declaration, Layer, array, ones
from minitrain.model.plans import MOST_PLANS


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


# ----------------------------------------------------------------------------------------- layers of one's own


@dataclass(frozen=True)
class Running(Layer):
    """y = x + the sum of all x so far."""

    def declare(self, *inputs):
        return Declaration({"y": inputs[0]}, carried={"total": array(inputs[0].shape)})

    def forward(self, t):
        np.add(t.total, t.x, out=t.total)
        np.copyto(t.y, t.total)

    def backward(self, t):
        np.copyto(t.dx, t.dy)


@dataclass(frozen=True)
class Twice(Layer):
    """y = 2 weight x, h = x, from an array that is derived, in training too."""

    derives_in_training = True

    def declare(self, *inputs):
        return Declaration(
            {"y": inputs[0], "h": inputs[0]}, params={"weight": ones((1,))}, derived={"twice": array((1,))},
            backward_reads=("x",),
        )  # fmt: skip

    def derive(self, t):
        np.multiply(t.weight, 2, out=t.twice)

    def forward(self, t):
        np.multiply(t.x, t.twice[0], out=t.y)
        np.copyto(t.h, t.x)

    def backward(self, t):
        t.dweight[0] = 2 * np.vdot(t.dy, t.x)
        if t.dx is not None:
            np.multiply(t.dy, t.twice[0], out=t.dx)
            np.add(t.dx, t.dh, out=t.dx)


class LeavesARow(Twice):
    def forward(self, t):
        np.multiply(t.x[1:], t.twice[0], out=t.y[1:])
        np.copyto(t.h, t.x)


class LeavesItsGradient(Twice):
    def backward(self, t):
        if t.dx is not None:
            np.multiply(t.dy, t.twice[0], out=t.dx)


class BindsAnew(Twice):
    def bind_forward(self, t):
        t.y = np.empty_like(t.x)


def plan_of(outputs, inputs, *, batch=3, training=True, **settings):
    model = Model(inputs, outputs, dtype="float64")
    gradients = model.gradients if training else None
    return Plan(model.graph, batch, model.dtype, model.params, model.state, gradients, **settings), model


@pytest.mark.parametrize("training", [True, False])
def test_what_is_carried_is_zero_at_first_kept_and_reset(training):
    x = Input((2,))
    plan, _ = plan_of(Running()(x), x, training=training)
    batch, seen = np.arange(1.0, 7).reshape(3, 2), []
    for call in range(6):
        if call == 3:
            plan.reset()
        plan.load(batch)
        plan.forward()
        seen.append(plan.output.copy())
    np.testing.assert_array_equal(seen, [batch, 2 * batch, 3 * batch] * 2)


def test_derived_arrays_are_there_in_training_and_follow_the_parameters():
    x = Input((2,))
    plan, model = plan_of({"y": Twice(name="own")(x).y}, x)
    for value in (1.0, 3.0):
        model.params["own.weight"] = [value]
        plan.load(np.ones((3, 2)))
        plan.forward()
        np.testing.assert_array_equal(plan.output, np.full((3, 2), 2 * value))
        plan.output_gradient.fill(1)
        plan.backward()
        assert model.gradients["own.weight"] == 12


@pytest.mark.parametrize("losses", [["y"], ["h"], ["y", "h"]])
def test_the_gradient_of_an_output_that_no_loss_depends_on_is_zero(losses):
    x = Input((2,))
    outputs = Twice(name="own")(layers.Tanh()(x))
    plan, model = plan_of(outputs._asdict(), x, losses=losses, input_gradients=True)
    assert list(plan.output_gradients) == losses
    model.flat_gradients.fill(np.nan)
    plan.load(np.full((3, 2), 0.5))
    plan.forward()
    for gradient in plan.output_gradients.values():
        gradient.fill(1)
    plan.backward()
    slope = 1 - np.tanh(0.5) ** 2
    np.testing.assert_allclose(plan.dinputs["input"], slope * (2 * ("y" in losses) + ("h" in losses)))
    np.testing.assert_allclose(model.gradients["own.weight"], 12 * np.tanh(0.5) * ("y" in losses))


def test_parameters_that_no_loss_depends_on_have_zero_gradients():
    x = Input((2,))
    h = layers.Dense(2, name="a")(x)
    outputs = {"a": h, "b": layers.Dense(3, name="b")(h)}
    plan, model = plan_of(outputs, x, losses=["a"])
    model.flat_gradients.fill(np.nan)
    plan.load(np.ones((3, 2)))
    plan.forward()
    plan.output_gradients["a"].fill(1)
    plan.backward()
    assert not model.gradients["b.weight"].any()
    assert (model.gradients["a.weight"] == 3).all()
    assert "b" not in [name for name, kind, _ in plan.calls() if kind == "backward"]


def test_a_loss_of_no_output_or_of_integers_is_refused():
    x, index = Input((2,)), Input((), "int64")
    outputs = {"a": layers.ReLU()(x), "rows": Lookup(3, 2)(index, Input((), "bool", name="keep")).y}
    inputs = [x, index, outputs["rows"].inputs[1]]
    with pytest.raises(ValueError, match=r"losses: expected outputs that a gradient flows back from .*, got 'c'"):
        plan_of(outputs, inputs, losses=["c"])


@pytest.mark.parametrize(
    ("layer", "error", "message"),
    [
        (LeavesARow, ValueError, r"own: LeavesARow.forward left y as it was, at least in part; write into the array"),
        (LeavesItsGradient, ValueError, r"own: LeavesItsGradient.backward left dweight as it was"),
        (BindsAnew, AttributeError, r"own: t.y is bound already: write into the array \(t.y\[...\] = ...\)"),
    ],
)
def test_a_layer_of_ones_own_is_looked_at_on_its_first_call(layer, error, message):
    x = Input((2,))
    with pytest.raises(error, match=message):  # noqa: PT012
        plan, _ = plan_of({"y": layer(name="own")(x).y}, x)
        plan.load(np.ones((3, 2)))
        plan.forward()
        plan.output_gradient.fill(1)
        plan.backward()


def test_after_the_first_call_nothing_is_looked_at():
    x = Input((2,))
    plan, _ = plan_of({"y": Twice(name="own")(x).y}, x)
    layer = plan.graph.nodes[0].layer

    def runs():
        return [run for _, kind, run, _ in (*plan._forward, *plan._backward) if kind != "sum"]

    before = runs()
    plan.load(np.ones((3, 2)))
    plan.forward()
    plan.backward()
    assert runs() == [layer.forward, layer.backward] != before


def test_an_error_of_a_layer_that_binds_names_the_node():
    x = Input((3,))
    model = Model(x, layers.ReLU()(layers.BatchNorm(name="norm")(x)))
    with pytest.raises(ValueError, match=r"^norm: BatchNorm: training needs two or more values per channel"):
        model.training_plan(1)


@pytest.mark.parametrize("training", [True, False])
def test_an_error_of_shapes_names_the_layer_as_the_user_wrote_it(training):
    a, b = Input((3, None, None), name="a"), Input((3, None, None), name="b")
    normed = layers.BatchNorm(name="norm")(layers.Conv2d(3, 3, padding=1, name="conv")(a))
    h = layers.ReLU(name="relu")(layers.Add(name="plus")(normed, b))
    model = Model([a, b], layers.GlobalAvgPool()(layers.Conv2d(2, 5, name="last")(h)))
    for shapes, message in (
        (
            ((2, 3, 9, 9), (2, 3, 9, 8)),
            r"^plus: Add: expected inputs of one shape, got \(N, 3, 9, 9\), \(N, 3, 9, 8\)$",
        ),
        (((2, 3, 4, 9), (2, 3, 4, 9)), "^last: Conv2d: .*"),
    ):
        with pytest.raises(ValueError, match=message), model.held(shapes, training=training):
            pass
    assert model.predict([np.ones((2, 3, 6, 5)), np.ones((2, 3, 6, 5))]).shape == (2, 2)


def test_an_error_of_sizes_that_were_only_tried_says_so():
    a, b = Input((3, None), name="a"), Input((3, None), name="b")
    halved = layers.Concat(axis=2, name="both")(a, a)
    with pytest.raises(ValueError, match=r"^plus: Add: .*\(N, 3, 512\), \(N, 3, 256\) \(256 for free axes\)$"):
        Model([a, b], layers.Add(name="plus")(halved, b))


# ------------------------------------------------------------------------------------------- memory that is kept


def input_of_two_readers(kind):
    """Nets whose input is read by a layer whose gradient is its output's, and by others."""
    x = Input((4,))
    norm = layers.BatchNorm()(x)
    return x, {
        "sum": lambda: layers.Add()(x, norm),
        "residual": lambda: layers.ReLU()(layers.Add()(norm, x)),
        "twice": lambda: layers.Add()(x, x, norm),
        "view": lambda: layers.Add()(layers.Flatten()(x), layers.PReLU()(x), layers.Tanh()(x)),
        "two losses": lambda: {"a": layers.Add()(x, norm), "b": layers.Tanh()(x)},
    }[kind]()


@pytest.mark.parametrize("kind", ["sum", "residual", "twice", "view", "two losses"])
@pytest.mark.parametrize("fused", [True, False])
def test_input_gradients_of_several_readers_do_not_depend_on_shared_memory(kind, fused):
    x, outputs = input_of_two_readers(kind)
    model = Model(x, outputs, dtype="float64")
    graph = fuse(model.graph) if fused else model.graph
    rng = np.random.default_rng(0)
    batch, found = rng.standard_normal((8, 4)), []
    for share in (True, False):
        plan = Plan(graph, 8, model.dtype, model.params, model.state, model.gradients, input_gradients=True,
                    share_memory=share)  # fmt: skip
        plan.load(batch)
        plan.forward()
        for number, gradient in enumerate(plan.output_gradients.values()):
            gradient[...] = np.random.default_rng(number).standard_normal((8, 4))
        plan.backward()
        found.append(plan.dinputs["input"].copy())
    np.testing.assert_array_equal(*found)


@dataclass(frozen=True)
class SumsIn(Layer):
    """y = x, h = 2 x; the gradient is written over dy while dh is read: wrong where the two are one memory."""

    def declare(self, *inputs):
        return Declaration({"y": inputs[0], "h": inputs[0]}, may_share={"dx0": ("dy",)})

    def forward(self, t):
        np.copyto(t.y, t.x)
        np.multiply(t.x, 2, out=t.h)

    def backward(self, t):
        if t.dx is not None:
            np.copyto(t.dx, t.dy)
            np.add(t.dx, t.dh, out=t.dx)
            np.add(t.dx, t.dh, out=t.dx)


def test_a_gradient_is_not_written_over_one_that_is_read_as_something_else():
    x = Input((4,))
    halves = SumsIn()(layers.Dense(4, name="d")(x))
    plan, model = plan_of(layers.Add()(halves.y, halves.h), x)  # dy and dh are one memory: the gradient of the sum
    plan.load(np.ones((3, 4)))
    plan.forward()
    plan.output_gradient.fill(1)
    plan.backward()
    assert (model.gradients["d.bias"] == 9).all()


def test_plans_of_many_lengths_are_bounded_and_right():
    x = Input((None, 8))
    model = Model(x, layers.Add()(layers.Tanh()(x), Running()(layers.ReLU()(x))), dtype="float64")
    rng, alive = np.random.default_rng(0), []
    for length in [*range(1, 101), *range(100, 0, -1)]:
        batch = rng.standard_normal((2, length, 8))
        with model.held((batch.shape,)) as plan:
            alive.append(weakref.ref(plan))
            plan.reset()
            for calls in (1, 2):  # a plan that was kept, or made anew, carries zeros after a reset
                plan.load(batch)
                plan.forward()
                expected = np.tanh(batch) + calls * np.maximum(batch, 0)
                np.testing.assert_allclose(plan.output, expected, rtol=1e-12)
    del plan
    gc.collect()
    assert sum(each() is not None for each in alive) <= MOST_PLANS
    largest = Plan(model.graph, {"input": (2, 100, 8)}, model.dtype, model.params, model.state).arena_size
    (level,) = model._plans._levels
    assert len(level._plans) <= MOST_PLANS
    assert level._arena.size == largest
    kept = sum(carried.nbytes for each in level._plans.values() for carried in each._carried)
    assert kept <= MOST_PLANS * 2 * 100 * 8 * 8
