"""Random nets against PyTorch: output, loss, every gradient and the running statistics."""

from dataclasses import replace

import numba
import numpy as np
import pytest
from lookup import Lookup

from minitrain import Input, Model, layers, losses
from minitrain.compile.fusions import freeze, fuse, fuse_for_training
from minitrain.compile.plan import Plan
from minitrain.model.freezing import selected
from minitrain.testing import check_layer
from minitrain.testing.drawing import same_bits
from minitrain.testing.promises import serial_below

torch = pytest.importorskip("torch")
import torch_twin  # noqa: E402

CLASSES = 5


def random_net(seed, dtype, fuse=True):
    """A net of random layers with random skip connections, fan-out and concatenation."""
    rng = np.random.default_rng(seed)
    x = Input((int(rng.integers(1, 5)), int(rng.integers(5, 12)), int(rng.integers(5, 12))))
    pool = [x]
    for _ in range(rng.integers(3, 10)):
        h = pool[-1] if rng.random() < 0.7 else pool[rng.integers(len(pool))]
        pool.append(random_layer(rng, h, pool))
    h = pool[-1]
    h = layers.GlobalAvgPool()(h) if rng.random() < 0.5 else layers.Flatten()(h)
    if rng.random() < 0.5:
        h = layers.ReLU()(layers.BatchNorm()(layers.Dense(int(rng.integers(3, 40)), bias=False)(h)))
    return Model(x, layers.Dense(CLASSES)(h), seed=seed, dtype=dtype, fuse=fuse)


def random_layer(rng, h, pool):
    channels, height, width = h.shape
    match rng.integers(9):
        case 0 | 1:
            kernel = (int(rng.integers(1, min(4, height + 1))), int(rng.integers(1, min(4, width + 1))))
            groups = 2 if channels % 2 == 0 and rng.random() < 0.3 else 1
            return layers.Conv2d(
                int(rng.integers(1, 10)) * groups, kernel, stride=int(rng.integers(1, 3)),
                padding=(int(rng.integers(0, 2)), int(rng.integers(0, 2))), groups=groups, bias=rng.random() < 0.5,
            )(h)  # fmt: skip
        case 2 | 3:
            h = layers.BatchNorm(momentum=float(rng.choice([0.1, 0.3])))(h)
            mates = [each for each in pool if each.shape == h.shape]
            if mates and rng.random() < 0.5:
                h = layers.Add()(h, mates[rng.integers(len(mates))])
            return layers.ReLU()(h) if rng.random() < 0.7 else h
        case 4:
            activations = [layers.ReLU(), layers.LeakyReLU(0.1), layers.Sigmoid(), layers.Tanh()]
            return activations[rng.integers(len(activations))](h)
        case 5:
            kernel = int(rng.integers(2, 4))
            if min(height, width) < kernel:
                return layers.ReLU()(h)
            kind = layers.MaxPool2d if rng.random() < 0.5 else layers.AvgPool2d
            return kind(kernel, stride=int(rng.integers(1, 3)), padding=int(rng.integers(0, 2)))(h)
        case 6:
            mates = [each for each in pool if each.shape == h.shape]
            return layers.Add()(*(mates[rng.integers(len(mates))] for _ in range(rng.integers(2, 4))))
        case _:
            mates = [each for each in pool if each.shape[1:] == h.shape[1:]]
            return layers.Concat()(*(mates[rng.integers(len(mates))] for _ in range(rng.integers(2, 4))))


def run(model, x, labels):
    plan = model.training_plan(len(x))
    plan.load(x)
    plan.forward()
    loss = losses.SoftmaxCrossEntropy()(plan.output, labels, plan.output_gradient)
    output = plan.output.copy()
    plan.backward()
    return output, loss, {name: value.copy() for name, value in model.gradients.items()}


def batch(model, seed, dtype):
    rng = np.random.default_rng(seed + 1000)
    (shape,) = model.input_shapes.values()
    samples = int(rng.integers(2, 9))
    return rng.standard_normal((samples, *shape)).astype(dtype), rng.integers(0, CLASSES, samples)


def assert_close(actual, expected, tolerance, what):
    scale = max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale, err_msg=str(what))


@pytest.mark.parametrize("seed", range(40))
def test_float64(seed):
    model = random_net(seed, "float64")
    x, labels = batch(model, seed, "float64")
    output, loss, gradients, state = torch_twin.step(model, x, labels)
    ours = run(model, x, labels)
    assert_close(ours[0], output, 1e-9, model)
    assert_close(ours[1], loss, 1e-9, model)
    for name, expected in gradients.items():
        assert_close(ours[2][name], expected, 1e-9, (name, model.graph))
    for name, expected in state.items():
        assert_close(model.state[name], expected, 1e-9, name)


def test_float32_is_as_accurate_as_pytorchs():
    """Errors against float64, in parts of the net's largest gradient: a bias before a batch norm has a gradient that
    is zero but for rounding, so that its own size is no measure."""
    ratios = []
    for seed in range(100, 120):
        model, exact = random_net(seed, "float32"), random_net(seed, "float64")
        exact.flat_params[...] = model.flat_params
        x, labels = batch(model, seed, "float32")
        expected = run(exact, x.astype("float64"), labels)
        theirs = torch_twin.step(model, x, labels)
        ours = run(model, x, labels)
        assert_close(ours[1], expected[1], 1e-5, model)
        largest = max(np.abs(value).max() for value in expected[2].values())
        for name, reference in expected[2].items():
            error, their_error = (np.abs(each[2][name] - reference).max() / largest for each in (ours, theirs))
            assert error <= max(1e-5, 4 * their_error), (name, model.graph)
            ratios.append(max(error, 1e-9) / max(their_error, 1e-9))
    assert np.exp(np.mean(np.log(ratios))) < 1.25


@pytest.mark.parametrize("seed", range(200, 208))
def test_unfused_and_unshared_memory_give_the_same(seed):
    fused, plain = random_net(seed, "float64"), random_net(seed, "float64", fuse=False)
    x, labels = batch(fused, seed, "float64")
    for ours, other in zip(run(fused, x, labels)[2].items(), run(plain, x, labels)[2].items(), strict=True):
        assert_close(ours[1], other[1], 1e-11, ours[0])


# ----------------------------------------------- shared layers, several outputs, integers, free axes, frozen parameters


def wide_net(seed):
    """A graph of all that: a pool of values of one shape, which shared and other layers read and add to.

    The inputs are images (some of free size), integers and booleans; the outputs have losses, or not.
    """
    rng = np.random.default_rng(seed)
    channels, free = int(rng.integers(2, 5)), rng.random() < 0.4
    size = (None, None) if free else (int(rng.integers(4, 9)), int(rng.integers(4, 9)))
    image, token, keep = Input((channels, *size), name="image"), Input((), "int64", name="token"), Input((), "bool")
    shared = [
        layers.Conv2d(channels, 3, padding=1, bias=rng.random() < 0.5),
        layers.BatchNorm(momentum=rng.choice([0.3, None])),
        layers.PReLU("channel"),
        layers.Conv2d(channels, 1),
        layers.ReLU(),
    ]
    pool = [image]
    for _ in range(rng.integers(4, 12)):
        h = pool[rng.integers(len(pool))] if rng.random() < 0.5 else pool[-1]
        match rng.integers(6):
            case 0 | 1 | 2:
                h = shared[rng.integers(len(shared))](h)
            case 3:
                h = layers.ReLU()(shared[1](shared[0](h)))  # what is fused
            case 4:
                h = layers.Add()(h, pool[rng.integers(len(pool))])
            case 5:
                h = layers.ReLU()(layers.Add()(layers.BatchNorm()(layers.Conv2d(channels, 3, padding=1)(h)), h))
        pool.append(h)
    lookup, dense = Lookup(6, channels), layers.Dense(channels)
    rows, again = lookup(token, keep), lookup(token, keep)
    pooled = [layers.GlobalAvgPool()(h) for h in (pool[-1], pool[rng.integers(len(pool))])]
    head = layers.Add()(dense(pooled[0]), dense(layers.Concat()(rows.y)), dense(dense(pooled[1])), again.y)
    outputs = {"head": head, "between": pool[rng.integers(1, len(pool))], "norm": layers.BatchNorm()(head)}
    if rng.random() < 0.7:
        outputs["total"] = rows.total  # else nothing depends on this output of a layer that works backward
    if rng.random() < 0.3:
        outputs["same"] = head
    inputs = [image, token, keep]
    if rng.random() < 0.5:
        outputs["image"] = layers.Tanh()(image)  # one more reader of the input
    return Model(inputs, outputs, seed=seed, dtype="float64")


def random_settings(model, seed):
    """Some outputs with losses, some frozen parameters."""
    rng = np.random.default_rng(seed + 500)
    named = list(model.graph.outputs)
    with_losses = [name for name in named if rng.random() < 0.7] or named[:1]
    if seed % 3 == 0:
        return with_losses, frozenset()
    frozen = {name for name in model.params if rng.random() < 0.3}
    for node in model.graph.nodes:  # whole nodes, with their statistics or without
        if rng.random() < 0.4:
            frozen |= selected(model.graph, [node.name], rng.random() < 0.8, rng.random() < 0.8)
    return with_losses, frozenset(frozen)


def random_batch(model, rng):
    samples = int(rng.integers(2, 6))
    shapes = {name: (samples, *(int(rng.integers(3, 9)) if a is None else a for a in shape))
              for name, shape in model.input_shapes.items()}  # fmt: skip
    image, token, keep = shapes
    return {
        image: rng.standard_normal(shapes[image]), token: rng.integers(0, 6, samples), keep: rng.random(samples) < 0.7
    }  # fmt: skip


def run_plan(model, graph, arrays, output_gradients, **settings):
    """Outputs, gradients of inputs and parameters, and the state after it; the model's state is left as it was."""
    state = model.flat_state.copy()
    model.flat_gradients.fill(np.nan)
    shapes = {name: array.shape for name, array in arrays.items()}
    plan = Plan(
        graph, shapes, model.dtype, model.params, model.state, model.gradients, input_gradients=True,
        losses=list(output_gradients), **settings,
    )  # fmt: skip
    for _ in range(2):  # the first call looks at layers that are not minitrain's
        plan.load(list(arrays.values()))
        model.flat_state[...] = state
        plan.forward()
        results = {f"output {name}": output.copy() for name, output in plan.outputs.items()}
        for name, gradient in output_gradients.items():
            plan.output_gradients[name][...] = gradient
        plan.backward()
    assert set(plan.dinputs) == {"image"}
    results |= {f"d{name}": gradient.copy() for name, gradient in plan.dinputs.items()}
    learned = [name for name in model.params if name not in graph.frozen]
    results |= {f"d{name}": model.gradients[name].copy() for name in learned}
    for name in graph.frozen.intersection(model.params):
        assert np.isnan(model.gradients[name]).all()  # nobody wrote it
    results |= {f"state {name}": value.copy() for name, value in model.state.items()}
    model.flat_state[...] = state
    return results


def run_torch(model, graph, arrays, output_gradients):
    """The same from PyTorch."""
    params, state = torch_twin.tensors(model.params, True), torch_twin.tensors(model.state)
    inputs = torch_twin.tensors(arrays)
    inputs["image"].requires_grad_(True)
    outputs = torch_twin.evaluate_all(graph, inputs, params, state)
    total = sum((outputs[name] * torch.from_numpy(dy)).sum() for name, dy in output_gradients.items())
    total.backward()
    results = {f"output {name}": output.detach().numpy() for name, output in outputs.items()}
    for name, tensor in {"image": inputs["image"], **params}.items():
        results[f"d{name}"] = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad.numpy()
    return results | {f"state {name}": value.numpy() for name, value in state.items()}


@pytest.mark.parametrize("seed", range(40))
def test_shared_layers_several_outputs_integers_free_axes_and_frozen_parameters(seed):
    rng = np.random.default_rng(seed)
    model = wide_net(seed)
    with_losses, frozen = random_settings(model, seed)
    plain = replace(model.graph, frozen=frozen)
    fused = fuse_for_training(freeze(fuse(plain)), model.dtype)
    for _ in range(2 if None in model.input_shapes["image"] else 1):  # plans of several shapes
        arrays = random_batch(model, rng)
        sample = Plan(plain, {name: a.shape for name, a in arrays.items()}, model.dtype, model.params, model.state)
        dys = {name: rng.standard_normal(sample.outputs[name].shape) for name in with_losses}
        expected = run_torch(model, plain, arrays, dys)
        for graph in (freeze(plain), fused):
            for share_memory in (True, False):
                results = run_plan(model, graph, arrays, dys, share_memory=share_memory)
                assert set(expected) - set(results) == {f"d{name}" for name in frozen.intersection(model.params)}
                for name, value in results.items():
                    assert_close(value, expected[name], 1e-9, (name, model.graph))


@pytest.mark.parametrize("seed", range(300, 304))
def test_shared_layers_have_the_same_bits_for_any_number_of_threads_and_any_memory(seed):
    model = wide_net(seed)
    graph = fuse_for_training(fuse(model.graph), model.dtype)
    rng = np.random.default_rng(seed)
    arrays = random_batch(model, rng)
    sample = Plan(graph, {name: a.shape for name, a in arrays.items()}, model.dtype, model.params, model.state)
    dys = {name: rng.standard_normal(output.shape) for name, output in sample.outputs.items()}
    expected = run_plan(model, graph, arrays, dys)
    with serial_below(0):
        parallel = run_plan(model, graph, arrays, dys)
        threads = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            alone = run_plan(model, graph, arrays, dys)
        finally:
            numba.set_num_threads(threads)
    for results in (parallel, alone, run_plan(model, graph, arrays, dys, share_memory=False)):
        for name, value in expected.items():
            assert same_bits(results[name], value), name


@pytest.mark.parametrize("frozen", [(), ("bn1",), ("conv1", "bn1")])
def test_shared_layers_that_convolutions_take_in_and_find_moments_for_in_float32(frozen):
    conv, norm, relu = layers.Conv2d(32, 3, padding=1, bias=False), layers.BatchNorm(), layers.ReLU()
    x = Input((32, 16, 16), name="image")
    first = relu(norm(conv(x)))
    second = relu(norm(conv(first)))
    third = relu(layers.Add()(norm(conv(second)), first))
    outputs = {"last": layers.Dense(3)(layers.GlobalAvgPool()(relu(conv(norm(third))))), "second": second}
    models = {dtype: Model(x, outputs, seed=1, dtype=dtype) for dtype in ("float32", "float64")}
    models["float64"].flat_params[...] = models["float32"].flat_params
    names = selected(models["float32"].graph, frozen, True, True) if frozen else frozenset()
    graphs = {dtype: replace(model.graph, frozen=names) for dtype, model in models.items()}
    fused = fuse_for_training(freeze(fuse(graphs["float32"])), models["float32"].dtype)
    kinds = {type(node.layer).__name__ for node in fused.nodes}
    assert kinds & {"Conv2dMoments", "BatchNormReLUConv2d", "FrozenConv2dBatchNorm", "FrozenBatchNorm"}
    rng = np.random.default_rng(0)
    arrays = {"image": rng.standard_normal((4, 32, 16, 16)).astype("float32")}
    dys = {"last": rng.standard_normal((4, 3)), "second": rng.standard_normal((4, 32, 16, 16))}
    exact = run_plan(models["float64"], freeze(graphs["float64"]), arrays, dys)
    for share_memory in (True, False):
        results = run_plan(models["float32"], fused, arrays, dys, share_memory=share_memory)
        for name, value in exact.items():
            assert_close(results[name], value, 2e-5, name)


def test_the_layer_of_these_graphs_keeps_the_contract():
    check_layer(Lookup)
