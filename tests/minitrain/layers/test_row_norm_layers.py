"""Norms of a sample's own statistics as layers: what they refuse, and where they agree with each other."""

import numpy as np
import pytest

import nbnorm
from minitrain import Input, Model, layers


def output(layer, x):
    inputs = Input(x.shape[1:])
    return Model(inputs, layer(inputs), dtype=x.dtype, seed=0).predict(x)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.GroupNorm(0), ValueError, "groups: expected an integer >= 1, got 0"),
        (lambda: layers.GroupNorm(2.5), TypeError, "groups: expected an integer, got 2.5"),
        (lambda: layers.GroupNorm(True), TypeError, "groups: expected an integer, got True"),
        (lambda: layers.GroupNorm(2, eps=-1), ValueError, "eps: expected a finite number >= 0, got -1"),
        (lambda: layers.GroupNorm(2, affine="False"), TypeError, "affine: expected True or False, got 'False'"),
        (lambda: layers.InstanceNorm(affine=1), TypeError, "affine: expected True or False, got 1"),
        (lambda: layers.LayerNorm(axes=()), ValueError, "axes: expected one or more different axes"),
        (lambda: layers.LayerNorm(axes=(0, 1)), ValueError, "axes: expected one or more different axes"),
        (lambda: layers.LayerNorm(axes=(1, 1)), ValueError, "axes: expected one or more different axes"),
        (lambda: layers.LayerNorm(axes="last"), TypeError, "axes: expected an integer, got 'last'"),
        (lambda: layers.RMSNorm(axes=(1.5,)), TypeError, "axes: expected an integer, got 1.5"),
        (lambda: layers.ConditionalBatchNorm(0), ValueError, "classes: expected an integer >= 1, got 0"),
        (lambda: layers.WeightStandardizedConv2d(4, 0), ValueError, "kernel_size: expected an integer >= 1, got 0"),
        (lambda: layers.WeightStandardizedConv2d(4, 3, gain=2), TypeError, "gain: expected True or False, got 2"),
    ],
)
def test_arguments_that_are_refused(make, error, message):
    with pytest.raises(error) as raised:
        make()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (layers.GroupNorm(4), (6, 5, 5), "groups: expected a divisor of the 6 channels of (N, 6, 5, 5), got 4"),
        (layers.InstanceNorm(), (6, 1, 1), "two values or more in each channel of a sample, got (N, 6, 1, 1)"),
        (layers.FilterResponseNorm(), (6,), "two values or more in each channel of a sample, got (N, 6)"),
        (layers.LayerNorm(axes=(3,)), (4, 5), "expected axes of (N, 4, 5) other than the batch, got axes=(3,)"),
        (layers.LayerNorm(axes=(1, -1)), (4,), "expected axes of (N, 4) other than the batch, got axes=(1, -1)"),
        (layers.RMSNorm(axes=(-2,)), (4,), "expected axes of (N, 4) other than the batch, got axes=(-2,)"),
        (layers.WeightStandardizedConv2d(4, 1), (1, 5, 5), "expected at least 2 weights in a filter, got 1"),
    ],
)
def test_inputs_that_are_refused(layer, shape, message):
    with pytest.raises(ValueError) as raised:
        layer(Input(shape))
    assert message in str(raised.value).replace("?", "N")


def test_labels_that_are_no_class_are_refused():
    x, label = Input((3, 2, 2)), Input((), "int64", name="label")
    model = Model([x, label], layers.ConditionalBatchNorm(4)(x, label), seed=0)
    for wrong in (4, -1):
        with pytest.raises(ValueError, match="label: expected classes from 0 to 3, got"):
            model.predict([np.zeros((2, 3, 2, 2), np.float32), np.array([0, wrong])])
    with pytest.raises(ValueError, match="expected a label of shape"):
        layers.ConditionalBatchNorm(4)(x, Input((3,), "int64"))
    with pytest.raises(ValueError, match="of integers"):
        layers.ConditionalBatchNorm(4)(x, Input((), "bool"))


def test_norms_that_are_one_where_their_rows_are():
    x = np.random.default_rng(0).standard_normal((4, 6, 5, 5))
    one_group = output(layers.GroupNorm(1, affine=False), x)
    np.testing.assert_allclose(output(layers.LayerNorm(axes=(1, 2, 3), affine=False), x), one_group, atol=1e-13)
    each_channel = output(layers.InstanceNorm(), x)
    np.testing.assert_allclose(output(layers.GroupNorm(6, affine=False), x), each_channel, atol=1e-13)
    np.testing.assert_allclose(output(layers.LayerNorm(axes=(2, 3), affine=False), x), each_channel, atol=1e-13)


@pytest.mark.parametrize("layer", [layers.LayerNorm(), layers.RMSNorm(), layers.GroupNorm(3), layers.InstanceNorm(),
                                   layers.FilterResponseNorm()], ids=repr)  # fmt: skip
def test_a_sample_sees_no_other(layer):
    x = np.random.default_rng(1).standard_normal((5, 6, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(output(layer, x)[2:3], output(layer, x[2:3]))


def test_the_weights_of_a_standardized_convolution_are_those_of_the_library():
    x = np.random.default_rng(2).standard_normal((3, 2, 6, 6))
    inputs = Input(x.shape[1:])
    model = Model(inputs, layers.WeightStandardizedConv2d(4, 3, bias=False, name="c")(inputs), dtype="float64", seed=0)
    standard = Model(inputs, layers.Conv2d(4, 3, bias=False, name="c")(inputs), dtype="float64", seed=1)
    standard.params["c.weight"][...] = nbnorm.weight_standardization_forward(model.params["c.weight"])[0]
    np.testing.assert_allclose(model.predict(x), standard.predict(x), atol=1e-12)
