"""Random nets against PyTorch: output, loss, every gradient and the running statistics."""

import numpy as np
import pytest

from minitrain import Input, Model, layers, losses

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
