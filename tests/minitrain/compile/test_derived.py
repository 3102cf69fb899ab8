"""Inference after a change of parameters or state: whoever changed them, and whatever was derived before."""

import threading

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers
from minitrain.compile.derived import DerivedArrays
from minitrain.compile.plan import Plan

SHAPE = (3, 9, 9)


def net(seed=0, fuse=True, dtype="float64"):
    """Convolutions with every kind of follower, and layers that derive nothing."""
    x = Input(SHAPE)
    h = layers.ReLU()(layers.BatchNorm(name="bn1")(layers.Conv2d(9, 3, padding=1, bias=False, name="conv1")(x)))
    skip = h
    h = layers.BatchNorm(name="bn2")(layers.Conv2d(9, 3, padding=1, name="conv2")(h))
    h = layers.ReLU()(layers.Add()(h, skip))
    h = layers.BatchNorm(name="bn3", momentum=None)(layers.ReLU()(layers.Conv2d(6, 3, groups=3, name="conv3")(h)))
    h = layers.Conv2d(4, 1, name="conv4")(layers.MaxPool2d(2)(h))
    return Model(x, layers.Dense(5, name="head")(layers.Flatten()(h)), seed=seed, dtype=dtype, fuse=fuse)


def samples(count=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, *SHAPE))


def expected(model, x):
    """Predictions of a new model without fusion that has the same parameters and state."""
    other = net(seed=99, fuse=False, dtype=str(model.dtype))
    other.flat_params[...] = model.flat_params
    other.flat_state[...] = model.flat_state
    return other.predict(x)


def assert_follows(model, x=None):
    x = samples() if x is None else x
    np.testing.assert_allclose(model.predict(x), expected(model, x), rtol=1e-9, atol=1e-9)


def test_all_kinds_are_fused():
    kinds = [type(node.layer).__name__ for node in net()._inference_graph.nodes]
    assert kinds == ["InferenceConv2d"] * 3 + ["MaxPool2d", "Conv2d", "Flatten", "Dense"]
    assert_follows(net())


@pytest.mark.parametrize("fuse", [True, False])
def test_every_variable_that_is_written_into_changes_the_prediction(fuse):
    model = net(fuse=fuse)
    x = samples()
    rng = np.random.default_rng(1)
    for variables in (model.params, model.state):
        for name, view in variables.items():
            if name == "bn3.num_batches":
                continue
            before = model.predict(x)
            view.reshape(-1)[-1] += rng.uniform(0.5, 1.0)  # one element, in place
            assert np.abs(model.predict(x) - before).max() > 1e-9, name
            assert_follows(model, x)


def test_a_change_of_one_bit_and_of_a_sign_is_seen():
    model = net()
    x = samples()
    model.predict(x)
    model.flat_params *= -1
    assert_follows(model, x)
    bits = model.params["conv2.weight"].reshape(-1).view(np.uint64)
    before = model._derived.arrays["bn2"]["packed_weight"].copy()
    bits[3] ^= 1
    model.predict(x)
    assert (model._derived.arrays["bn2"]["packed_weight"] != before).any()


def test_nan_comes_and_goes():
    model = net()
    x = samples()
    weight = model.params["conv1.weight"]
    kept = weight.copy()
    weight[...] = np.nan
    for _ in range(2):
        assert np.isnan(model.predict(x)).all()
    weight[...] = kept
    assert_follows(model, x)


def test_a_training_step_changes_weights_and_statistics():
    model = net()
    trainer = Trainer(model, loss=losses.SoftmaxCrossEntropy(), optimizer=optimizers.SGD(0.1))
    x, labels = samples(16), np.arange(16) % 5
    for _ in range(3):
        before = model.predict(x)
        trainer.step(x, labels)
        assert np.abs(model.predict(x) - before).max() > 1e-6
        assert_follows(model, x)


def test_plans_of_several_batch_sizes_follow_whichever_ran_before():
    model = net()
    for number, size in enumerate((1, 4, 1, 7, 4)):
        model.params["conv1.weight"][0, 0, 0, 0] = number
        model.state["bn1.running_mean"][0] = number
        assert_follows(model, samples(size))


def test_models_do_not_share():
    first, second = net(0), net(1)
    x = samples()
    a, b = first.predict(x), second.predict(x)
    first.params["conv1.weight"] += 1.0
    np.testing.assert_array_equal(second.predict(x), b)
    assert np.abs(first.predict(x) - a).max() > 1e-6
    assert_follows(first)
    assert_follows(second)


def test_a_loaded_model(tmp_path):
    pytest.importorskip("safetensors")
    model = net()
    model.predict(samples())
    model.params["conv3.weight"] *= 2.0
    model.save(tmp_path / "net.safetensors")
    loaded = Model.load(tmp_path / "net.safetensors")
    np.testing.assert_array_equal(loaded.predict(samples()), model.predict(samples()))


def test_threads_see_a_change():
    model = net(dtype="float32")
    x = samples().astype(np.float32)
    wrong = []

    def work(value):
        for _ in range(20):
            with lock:
                model.params["conv1.weight"][0] = value
                mine = model.predict(x)
            if not np.array_equal(mine, results[value]):
                wrong.append(value)

    lock, results = threading.Lock(), {}
    for value in (0.25, 0.5, 0.75):
        model.params["conv1.weight"][0] = value
        results[value] = model.predict(x)
    workers = [threading.Thread(target=work, args=(value,)) for value in results]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not wrong


def test_an_interruption_leaves_nothing_that_passes_for_derived():
    model = net()
    x = samples()
    model.predict(x)
    plan = model.inference_plan(len(x))
    derived = plan._derived
    model.params["conv1.weight"] *= 3.0

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        derived.update(interrupted)
    assert_follows(model, x)


def test_derives_only_after_a_change():
    model = net()
    x = samples()
    model.predict(x)
    calls = []
    model._derived.update(lambda: calls.append(1))
    assert not calls
    model.params["head.weight"][...] = 0  # nothing is derived from it
    model._derived.update(lambda: calls.append(1))
    assert not calls
    model.state["bn2.running_var"][0] += 1
    model._derived.update(lambda: calls.append(1))
    assert calls


def test_a_plan_of_its_own_and_variables_of_any_owner():
    model = net(fuse=False)
    params = {name: value.copy() for name, value in model.params.items()}
    state = {name: value.copy() for name, value in model.state.items()}
    plan = Plan(model.graph, 2, model.dtype, params, state)
    x = samples(2)
    for factor in (1.0, 0.5):
        params["conv2.weight"] *= factor
        model.params["conv2.weight"] *= factor
        plan.load(x)
        plan.forward()
        np.testing.assert_allclose(plan.output, expected(model, x), rtol=1e-9, atol=1e-9)


def test_a_net_without_derived_arrays_compares_nothing():
    x = Input((4,))
    model = Model(x, layers.Dense(2)(x))
    derived = DerivedArrays(model.graph, model.dtype, model.params, model.state)
    assert not derived.arrays
    assert not derived._spans
