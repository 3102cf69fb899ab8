"""Nets copied weight for weight from PyTorch give its losses, gradients and, step by step, its training."""

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers

torch = pytest.importorskip("torch")
nn = torch.nn

TOLERANCE = 1e-10  # float64
STEPS = 20
BATCH, CLASSES, SHAPE = 8, 5, (3, 8, 8)


class PlainNet(nn.Module):
    """conv, batch norm, ReLU, pool, dense."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        # Without a bias: its gradient right before a norm is rounding noise, which Adam scales up to a step.
        self.conv2 = nn.Conv2d(6, 8, 3, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 2)
        return self.head(torch.relu(self.bn2(self.conv2(x))).flatten(1))

    @staticmethod
    def twin():
        x = Input(SHAPE)
        h = layers.BatchNorm(name="bn1")(layers.Conv2d(6, 3, padding=1, bias=False, name="conv1")(x))
        h = layers.MaxPool2d(2)(layers.ReLU()(h))
        h = layers.BatchNorm(name="bn2")(layers.Conv2d(8, 3, stride=2, bias=False, name="conv2")(h))
        logits = layers.Dense(CLASSES, name="head")(layers.Flatten()(layers.ReLU()(h)))
        return Model(x, logits, dtype="float64")


class ResidualNet(nn.Module):
    """A block with a projected shortcut, then one with the input itself."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(6)
        self.shortcut = nn.Conv2d(3, 6, 1, stride=2)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        h = torch.relu(self.bn1(self.conv1(x)) + self.shortcut(x))
        h = torch.relu(self.bn2(self.conv2(h)) + h)
        return self.head(h.mean(dim=(2, 3)))

    @staticmethod
    def twin():
        x = Input(SHAPE)
        h = layers.BatchNorm(name="bn1")(layers.Conv2d(6, 3, stride=2, padding=1, bias=False, name="conv1")(x))
        h = layers.ReLU()(layers.Add()(h, layers.Conv2d(6, 1, stride=2, name="shortcut")(x)))
        g = layers.BatchNorm(name="bn2")(layers.Conv2d(6, 3, padding=1, bias=False, name="conv2")(h))
        h = layers.GlobalAvgPool()(layers.ReLU()(layers.Add()(g, h)))
        return Model(x, layers.Dense(CLASSES, name="head")(h), dtype="float64")


OPTIMIZERS = {
    "sgd": (
        lambda net: torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True),
        optimizers.SGD(0.05, momentum=0.9, nesterov=True),
    ),
    "adam": (lambda net: torch.optim.Adam(net.parameters(), lr=0.01), optimizers.Adam(0.01)),
}


def our_name(name):
    """bn1.weight -> bn1.gamma, bn1.bias -> bn1.beta; everything else has one name in both."""
    layer, _, kind = name.partition(".")
    if layer.startswith("bn"):
        return f"{layer}.gamma" if kind == "weight" else f"{layer}.beta"
    return name


@pytest.fixture(params=[PlainNet, ResidualNet], ids=["plain", "residual"])
def twins(request):
    torch.manual_seed(0)
    net = request.param().double()
    model = request.param.twin()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.rand_like(parameter) / 2)  # no gamma of exactly 1, no beta of 0
            model.params[our_name(name)] = parameter.numpy()
    assert {our_name(name) for name, _ in net.named_parameters()} == set(model.params)
    return net, model


@pytest.fixture
def batches():
    rng = np.random.default_rng(1)
    return rng.standard_normal((STEPS, BATCH, *SHAPE)), rng.integers(0, CLASSES, (STEPS, BATCH))


def torch_loss(net, x, y):
    return nn.functional.cross_entropy(net(torch.from_numpy(x)), torch.from_numpy(y))


def test_same_loss_and_gradients(twins, batches):
    net, model = twins
    x, y = batches[0][0], batches[1][0]
    expected = torch_loss(net, x, y)
    expected.backward()
    loss, gradients = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1)).gradients(x, y)
    assert abs(loss - expected.item()) < TOLERANCE
    for name, parameter in net.named_parameters():
        np.testing.assert_allclose(gradients[our_name(name)], parameter.grad.numpy(), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_same_losses_over_twenty_steps(twins, batches, optimizer):
    net, model = twins
    make, ours = OPTIMIZERS[optimizer]
    theirs = make(net)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), ours)
    for step, (x, y) in enumerate(zip(*batches, strict=True)):
        theirs.zero_grad()
        expected = torch_loss(net, x, y)
        expected.backward()
        theirs.step()
        assert abs(trainer.step(x, y) - expected.item()) < TOLERANCE, f"step {step}"
    buffers = dict(net.named_buffers())
    for name, value in model.state.items():
        if "running" in name:
            np.testing.assert_allclose(value, buffers[name].numpy(), rtol=0, atol=TOLERANCE)
    net.eval()
    x, y = batches[0][0], batches[1][0]
    with torch.no_grad():
        expected = torch_loss(net, x, y).item()
    assert abs(trainer.evaluate(x, y)["loss"] - expected) < TOLERANCE
