"""The node tests of ONNX for the normalizations that nbnorm has: its data, our functions."""

import importlib

import numpy as np
import pytest

import nbnorm

onnx = pytest.importorskip("onnx")


MODULES = (
    "batch_normalization", "layernormalization", "instance_normalization", "groupnormalization", "rmsnormalization",
)  # fmt: skip


def _cases():
    """The cases of one node of these operators; a module of ONNX makes its own when it is imported."""
    package = "onnx.backend.test.case.node"
    for module in MODULES:
        importlib.import_module(f"{package}.{module}")
    cases = importlib.import_module(package)._NodeTestCases
    single = [case for case in cases if len(case.model.graph.node) == 1]
    return {case.name: case for case in single if case.model.graph.node[0].op_type in FUNCTIONS}


def _attributes(node):
    return {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}


def _batch_norm(x, scale, bias, mean, var, epsilon=1e-5, momentum=0.9, training_mode=0):
    if not training_mode:
        return (nbnorm.batch_norm_infer(x, mean, var, scale, bias, eps=epsilon),)
    running_mean = mean.copy()
    y, stats = nbnorm.batch_norm_forward(x, scale, bias, running_mean, None, momentum=1 - momentum, eps=epsilon)
    batch_var = stats.inv_std**-2 - epsilon  # ONNX moves the running variance by that of the population
    return y, running_mean, var * momentum + (1 - momentum) * batch_var


def _layer_norm(x, scale, bias=None, axis=-1, epsilon=1e-5, stash_type=1):
    axes = tuple(range(axis % x.ndim, x.ndim))
    y, stats = nbnorm.layer_norm_forward(x, scale, bias, axes=axes, eps=epsilon)
    wide = (*stats.mean.shape, *[1] * len(axes))
    return y, stats.mean.reshape(wide), stats.inv_std.reshape(wide)


def _rms_norm(x, scale, axis=-1, epsilon=1e-5, stash_type=1):
    return (nbnorm.rms_norm_forward(x, scale, axes=tuple(range(axis % x.ndim, x.ndim)), eps=epsilon)[0],)


def _instance_norm(x, scale, bias, epsilon=1e-5):
    return (nbnorm.instance_norm_forward(x, scale, bias, eps=epsilon)[0],)


def _group_norm(x, scale, bias, num_groups, epsilon=1e-5, stash_type=1):
    return (nbnorm.group_norm_forward(x, num_groups, scale, bias, eps=epsilon)[0],)


FUNCTIONS = {
    "BatchNormalization": _batch_norm, "LayerNormalization": _layer_norm, "RMSNormalization": _rms_norm,
    "InstanceNormalization": _instance_norm, "GroupNormalization": _group_norm,
}  # fmt: skip
CASES = _cases()


def test_there_are_cases_of_all_operators():
    assert {case.model.graph.node[0].op_type for case in CASES.values()} == set(FUNCTIONS)


@pytest.mark.parametrize("name", sorted(CASES))
def test_node(name):
    case = CASES[name]
    node = case.model.graph.node[0]
    for inputs, outputs in case.data_sets:
        results = FUNCTIONS[node.op_type](*map(np.asarray, inputs), **_attributes(node))
        for mine, expected in zip(results, outputs, strict=False):
            np.testing.assert_allclose(mine, expected, rtol=case.rtol, atol=max(case.atol, 1e-6))
