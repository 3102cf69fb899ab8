"""Nets that are published: their numbers of parameters, and the same nets written in PyTorch."""

from functools import partial

import numpy as np
import pytest

from minitrain import Trainer, losses, models, optimizers
from minitrain.layers import ReLU6

CLASSES = 5

# Of torchvision for ResNet and MobileNetV2; of the Keras application, its running statistics aside, for MobileNet; of
# the authors' and others' implementations that give the papers' 0.8 M (100-12), 2.7 M and 36.5 M for the rest.
COUNTS = {
    "resnet18": (models.resnet18, 11_689_512),
    "resnet34": (models.resnet34, 21_797_672),
    "resnet50": (models.resnet50, 25_557_032),
    "mobilenet_v1": (models.mobilenet_v1, 4_231_976),
    "mobilenet_v1 0.25": (partial(models.mobilenet_v1, width=0.25), 470_072),
    "mobilenet_v2": (models.mobilenet_v2, 3_504_872),
    "mobilenet_v2 0.5": (partial(models.mobilenet_v2, width=0.5), 1_968_680),
    "mobilenet_v2 1.4": (partial(models.mobilenet_v2, width=1.4), 6_108_776),
    "densenet_bc 40-12": (models.densenet_bc, 176_122),
    "densenet_bc 100-12": (partial(models.densenet_bc, 100), 769_162),
    "wide_resnet 16-4": (models.wide_resnet, 2_748_890),
    "wide_resnet 28-10": (partial(models.wide_resnet, 28, 10), 36_479_194),
}


@pytest.mark.parametrize("name", COUNTS)
def test_published_number_of_parameters(name):
    make, count = COUNTS[name]
    assert make().count_parameters() == count


def test_layers_with_weights_are_as_many_as_the_name_says():
    for make, depth in ((models.resnet18, 18), (models.resnet50, 50), (models.densenet_bc, 40)):
        params = make(classes=CLASSES).params
        assert sum(name.endswith(".weight") and "shortcut" not in name for name in params) == depth
    assert sum(value.ndim == 4 for value in models.wide_resnet(16).params.values()) == 16


def test_steps_of_two_of_a_bottleneck_are_those_of_its_3x3_convolution():
    strides = {node.name: node.layer.stride for node in models.resnet50().graph.nodes if "conv" in node.name}
    assert [strides[f"stage2_block1_conv{number}"] for number in (1, 2, 3)] == [(1, 1), (2, 2), (1, 1)]


def test_mobilenet_v2_has_no_activation_after_a_projection():
    nodes = models.mobilenet_v2(classes=CLASSES).graph.nodes
    assert sum(isinstance(node.layer, ReLU6) for node in nodes) == 35  # 52 convolutions, 17 of them projections
    without = models.mobilenet_v2(classes=CLASSES, norm="after").params
    assert "stage2_block1_bn2.gamma" in without
    assert "stage2_block1_bn3.gamma" not in without


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: models.densenet_bc(41), "depth: expected 4 more than a multiple of 6, such as 40 or 100, got 41"),
        (lambda: models.densenet_bc(40, 0), "growth: expected an integer >= 1, got 0"),
        (lambda: models.wide_resnet(18), "depth: expected 4 more than a multiple of 6, such as 16 or 28, got 18"),
        (lambda: models.wide_resnet(16, 0), "width: expected an integer >= 1, got 0"),
        (lambda: models.mobilenet_v1(width=0), "width: expected a finite number >= 0.03125, got 0"),
        (lambda: models.mobilenet_v2(width=-1), "width: expected a finite number >= 0.03125, got -1"),
    ],
)
def test_wrong_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


# Our net, the net of `torch_nets` and its arguments, the plane of the images.
NETS = {
    "resnet18": (models.resnet18, "resnet", {"counts": (2, 2, 2, 2), "bottlenecks": False}, (48, 40)),
    "resnet50": (models.resnet50, "resnet", {"counts": (3, 4, 6, 3), "bottlenecks": True}, (48, 40)),
    "mobilenet_v1": (partial(models.mobilenet_v1, width=0.25), "mobilenet_v1", {}, (48, 40)),
    "mobilenet_v2": (partial(models.mobilenet_v2, width=0.35), "mobilenet_v2", {}, (48, 40)),
    "densenet_bc": (partial(models.densenet_bc, 22, 5), "densenet_bc", {"layers": 3}, (12, 9)),
    "wide_resnet": (partial(models.wide_resnet, 16, 2), "wide_resnet", {"blocks": 2}, (12, 9)),
}


@pytest.mark.parametrize("name", NETS)
def test_same_outputs_and_gradients_as_in_pytorch(name):
    torch = pytest.importorskip("torch")
    import torch_nets
    import torch_twin

    make, theirs, arguments, plane = NETS[name]
    model = make(input_shape=(3, *plane), classes=CLASSES, seed=1, dtype="float64")
    rng = np.random.default_rng(2)
    x, labels = rng.standard_normal((4, 3, *plane)), rng.integers(0, CLASSES, 4)
    for variable in model.params.values():
        if variable.ndim == 1:
            variable += rng.uniform(0, 0.5, variable.shape)  # no gamma of exactly 1, no beta of 0

    def net(training):
        params, state = torch_twin.tensors(model.params, training), torch_twin.tensors(model.state)
        parts = torch_nets.Parts(params, state, training)
        return getattr(torch_nets, theirs)(parts, torch.from_numpy(x), **arguments), parts

    output, parts = net(training=True)
    assert parts.used == set(model.params)
    expected = torch.nn.functional.cross_entropy(output, torch.from_numpy(labels))
    expected.backward()
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(1e-3))
    loss, gradients = trainer.gradients(x, labels)
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    # Of the largest gradient: some (of a beta that another norm takes away again) are nothing but rounding.
    tolerance = 1e-9 * max(parameter.grad.abs().max().item() for parameter in parts.params.values())
    for key, parameter in parts.params.items():
        np.testing.assert_allclose(gradients[key], parameter.grad, rtol=0, atol=tolerance, err_msg=key)
    trainer.step(x, labels)  # so that the running statistics are those of images
    with torch.no_grad():
        np.testing.assert_allclose(model.predict(x), net(training=False)[0], rtol=1e-8, atol=1e-9)
