"""Run: a model bound to memory of its own."""

import copy
import pickle
import threading

import numpy as np
import pytest

from minitrain import Input, Model, Trainer, layers, losses, optimizers


def net(dtype="float64", dropout=False):
    x = Input((2, 5, 5))
    h = layers.ReLU()(layers.BatchNorm(name="bn1")(layers.Conv2d(3, 3, padding=1)(x)))
    h = layers.Dropout(0.5)(h) if dropout else h
    return Model(x, layers.Dense(4)(layers.Flatten()(h)), dtype=dtype)


def two_inputs(dtype="float64"):
    a, b, label = Input((3,), name="a"), Input((3,), name="b"), Input((3,), "int64", name="label")
    encode = layers.Dense(4, name="encode")
    both = layers.Concat()(encode(a), layers.Tanh()(encode(b)), a, Chosen()(label))
    return Model([a, b, label], {"sum": layers.Dense(2, name="sum")(both), "near": encode(a)}, dtype=dtype)


class Chosen(layers.ReLU):
    """Integers as floats."""

    def declare(self, *inputs):
        from minitrain.layer import Declaration, Spec

        return Declaration(outputs={"y": Spec(inputs[0].shape)})

    def bind_forward(self, t):
        t.ready = True

    def bind_backward(self, t):
        t.ready_too = True

    def forward(self, t):
        t.y[...] = t.x

    infer = forward

    def backward(self, t):
        pass


def batch(model, samples, seed=0):
    rng = np.random.default_rng(seed)
    return [
        rng.standard_normal((samples, *spec.shape))
        if spec.dtype is None
        else rng.integers(0, 5, (samples, *spec.shape))
        for spec in model.graph.inputs.values()
    ]


def differences(value, x, eps=1e-6):
    """Central differences of a number that depends on an array."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        x[index] = kept + eps
        above = value()
        x[index] = kept - eps
        below = value()
        x[index] = kept
        gradient[index] = (above - below) / (2 * eps)
    return gradient


def test_the_steps_of_a_run_are_those_of_a_trainer():
    model, other = net(), net()
    loss, optimizer = losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1)
    trainer = Trainer(other, loss, optimizer)
    run, slots = model.bind(6), optimizer.slots(model.flat_params)
    for step in range(3):
        (x,), labels = batch(model, 6, step), np.arange(6) % 4
        value = loss(run.forward(x), labels, run.output_gradient)
        assert run.backward() is None
        optimizer.update(model.flat_params, model.flat_gradients, slots, step, model.penalized)
        assert value == trainer.step(x, labels)
    np.testing.assert_array_equal(model.flat_params, other.flat_params)
    np.testing.assert_array_equal(model.flat_state, other.flat_state)


def test_gradients_against_differences():
    model = two_inputs()
    x = batch(model, 3)
    run = model.bind(3, input_gradients=True)
    y = run.forward(x)
    assert list(y) == ["sum", "near"]
    rng = np.random.default_rng(1)
    dy = {name: rng.standard_normal(each.shape) for name, each in y.items()}

    def value():
        return sum(float((each * dy[name]).sum()) for name, each in model.predict(x).items())

    dx = run.backward(dy)
    assert list(dx) == ["a", "b", "label"]
    assert dx["label"] is None
    for name, array in zip("ab", x, strict=False):
        np.testing.assert_allclose(dx[name], differences(value, array), rtol=1e-7, atol=1e-8)
    for name, each in model.params.items():
        np.testing.assert_allclose(model.gradients[name], differences(value, each), rtol=1e-7, atol=1e-8, err_msg=name)


def test_an_output_that_is_not_named_has_no_gradient():
    model = two_inputs()
    run = model.bind(3, input_gradients=True)
    y = run.forward(batch(model, 3))
    run.backward({"near": np.ones(y["near"].shape)})
    assert (model.gradients["sum.weight"] == 0).all()
    run.forward(batch(model, 3))
    run.backward({"near": np.ones(y["near"].shape), "sum": None})
    assert (model.gradients["sum.bias"] == 0).all()
    assert (model.gradients["encode.bias"] == 3).all()
    run.forward(batch(model, 3))
    run.output_gradient["near"][...] = 1
    run.output_gradient["sum"].fill(0)
    run.backward()
    assert (model.gradients["sum.bias"] == 0).all()
    assert (model.gradients["encode.bias"] == 3).all()


def test_what_is_returned_is_read_only_and_stays():
    model = net("float32")
    (x,) = batch(model, 4)
    run = model.bind(4, input_gradients=True)
    y = run.forward(x)
    dx = run.backward(np.ones(y.shape))
    before = y.copy(), dx.copy()
    for lent in (y, dx):
        with pytest.raises(ValueError, match="read-only"):
            lent[...] = 0
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    trainer.step(x, np.arange(4))
    model.predict(x)
    model.bind(4).forward(x)
    np.testing.assert_array_equal(y, before[0])
    np.testing.assert_array_equal(dx, before[1])
    other = run.forward(2 * x)
    assert np.shares_memory(other, y)


def test_an_inference_run_predicts():
    model = net("float32", dropout=True)
    (x,) = batch(model, 5)
    run, state = model.bind(5, training=False), model.flat_state.copy()
    np.testing.assert_array_equal(run.forward(x), model.predict(x))
    np.testing.assert_array_equal(model.flat_state, state)
    model.params["bn1.gamma"][...] = 3
    np.testing.assert_array_equal(run.forward(x), model.predict(x))
    with pytest.raises(RuntimeError, match=r"bound for inference; .*model\.input_gradient"):
        run.backward(np.ones((5, 4)))
    with pytest.raises(ValueError, match=r"input_gradients: .*model\.input_gradient\(x\)"):
        model.bind(5, training=False, input_gradients=True)


def test_order():
    model = net()
    run, dy = model.bind(4), np.ones((4, 4))
    (x,) = batch(model, 4)
    with pytest.raises(RuntimeError, match="backward: call forward first"):
        run.backward(dy)
    with pytest.raises(RuntimeError, match="call forward first"):
        run.output_gradient  # noqa: B018
    run.forward(x)
    run.backward(dy)
    with pytest.raises(RuntimeError, match="ran already for the last forward"):
        run.backward(dy)
    run.forward(x)
    with pytest.raises(ValueError, match="expected shape"):
        run.forward(x[:3])
    with pytest.raises(RuntimeError, match="call forward first"):
        run.backward(dy)


def test_a_gradient_that_nobody_gave():
    model = net()
    run = model.bind(4)
    (x,) = batch(model, 4)
    run.forward(x)
    with pytest.raises(ValueError, match="output_gradient: not written"):
        run.backward()
    run.output_gradient[:3] = 1
    with pytest.raises(ValueError, match="output_gradient: not written, at least in part"):
        run.backward()
    run.backward(np.ones((4, 4)))
    run.forward(x)
    with pytest.raises(ValueError, match="not written"):  # what was written the last time is gone
        run.backward()


@pytest.mark.parametrize(
    ("dy", "error", "text"),
    [
        (np.ones((4, 3)), ValueError, r"dy: expected shape \(4, 4\) like the output, got \(4, 3\)"),
        (np.ones((4, 4), int), TypeError, "dy: expected an array of floats, got dtype int64"),
        (np.ones((4, 4), complex), TypeError, "dy: expected an array of floats"),
        (1.0, ValueError, r"dy: expected shape \(4, 4\)"),
        ({"a": 1}, TypeError, "dy: expected an array, got dict"),
    ],
)
def test_a_gradient_that_does_not_fit(dy, error, text):
    model = net()
    run = model.bind(4)
    run.forward(batch(model, 4)[0])
    with pytest.raises(error, match=text):
        run.backward(dy)
    run.backward(np.ones((4, 4), "f4"))  # nothing is lost


def test_gradients_of_named_outputs_that_do_not_fit():
    model = two_inputs()
    run = model.bind(3)
    run.forward(batch(model, 3))
    for dy, error, text in (
        (np.ones((3, 2)), TypeError, "dy: expected a mapping of 'sum', 'near' to arrays, got ndarray"),
        ({"far": np.ones((3, 2))}, ValueError, r"dy \(far\): expected names of outputs .*'sum', 'near'"),
        ({"sum": np.ones((3, 3))}, ValueError, r"dy \(sum\): expected shape \(3, 2\)"),
        ({}, ValueError, "dy: expected the gradient of one output at least"),
    ):
        with pytest.raises(error, match=text):
            run.backward(dy)


def test_what_batch_may_be():
    model, many = net(), two_inputs()
    x = batch(model, 4)[0]
    for given in (4, np.int64(4), (4, 2, 5, 5), [4, 2, 5, 5], x, [x], {"input": (4, 2, 5, 5)}, {"input": x}):
        assert model.bind(given).shapes == {"input": (4, 2, 5, 5)}
    shapes = {"a": (3, 3), "b": (3, 3), "label": (3, 3)}
    for given in (3, shapes, batch(many, 3)):
        run = many.bind(given)
        assert run.shapes == shapes
        assert run.batch == 3
    free = Input((None, 2))
    model = Model(free, layers.Tanh()(free))
    assert model.bind((3, 7, 2)).forward(np.ones((3, 7, 2))).shape == (3, 7, 2)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        (0, ValueError, "batch: expected an integer >= 1, got 0"),
        (2.5, TypeError, "batch: expected a number of samples, a shape or a batch, got float"),
        (True, TypeError, "batch: expected"),
        ((4, 2, 5, 6), ValueError, r"batch \(input\): expected shape \(samples, 2, 5, 5\), got \(4, 2, 5, 6\)"),
        ((0, 2, 5, 5), ValueError, "expected an integer >= 1, got 0"),
        ({"x": (4, 2, 5, 5)}, ValueError, "batch: expected shapes of the inputs input, got x"),
        (np.ones((4, 2)), ValueError, r"x: expected shape \(samples, 2, 5, 5\)"),
    ],
)
def test_a_batch_that_does_not_fit(given, error, text):
    with pytest.raises(error, match=text):
        net().bind(given)


def test_more_batches_that_do_not_fit():
    model = two_inputs()
    with pytest.raises(ValueError, match=r"batch \(b\): expected 3 samples like the first input, got 4"):
        model.bind({"a": (3, 3), "b": (4, 3), "label": (3, 3)})
    with pytest.raises(ValueError, match="expected a mapping of the inputs a, b, label to shapes, got one shape"):
        model.bind((3, 3))
    x = Input((None, 2))
    model = Model(x, layers.Tanh()(x))
    with pytest.raises(ValueError, match="expected the sizes of its free axes too"):
        model.bind(3)
    run = model.bind((3, 4, 2))
    with pytest.raises(ValueError, match=r"expected shape \(N, 4, 2\) with N = 3, got \(3, 5, 2\)"):
        run.forward(np.ones((3, 5, 2)))


def test_rows_of_a_jacobian():
    model = net()
    (x,) = batch(model, 3)
    run = model.bind(3, input_gradients=True, keep=True)
    run.forward(x)
    rows, gradients = [], []
    for row in [*range(4), 0]:
        dy = np.zeros((3, 4))
        dy[:, row] = 1
        rows.append(run.backward(dy).copy())
        gradients.append(model.flat_gradients.copy())
    np.testing.assert_array_equal(rows[0], rows[4])
    np.testing.assert_array_equal(gradients[0], gradients[4])
    once = model.bind(3, input_gradients=True)
    once.forward(x)
    np.testing.assert_allclose(sum(rows[:4]), once.backward(np.ones((3, 4))), rtol=1e-10, atol=1e-14)


def test_a_run_notices_that_the_graphs_changed():
    model = net()
    run = model.bind(4)
    (x,) = batch(model, 4)
    y = run.forward(x).copy()
    model._plans.clear()
    with pytest.raises(RuntimeError, match="the model was changed since forward; call forward again"):
        run.backward(np.ones((4, 4)))
    np.testing.assert_array_equal(run.forward(x), y)
    run.backward(np.ones((4, 4)))


def test_a_training_run_within_a_step_is_refused_and_inference_is_not():
    model = net()
    (x,) = batch(model, 4)
    training, inference = model.bind(4), model.bind(4, training=False)
    with model.held(((4, 2, 5, 5),), training=True):
        with pytest.raises(RuntimeError, match="in the middle of a step"):
            training.forward(x)
        inside = inference.forward(x).copy()
    np.testing.assert_array_equal(inside, inference.forward(x))
    training.forward(x)


def test_two_nets_as_one():
    """Gradients through a second net, as for a generator, against those of one net of both."""
    z = Input((3,))
    h = layers.Tanh(name="end")(layers.Dense(5, name="g1")(z))
    whole = Model(z, layers.Dense(1, name="d1")(h), dtype="float64")
    generator = Model(z, h, dtype="float64")
    x = Input((5,))
    critic = Model(x, layers.Dense(1, name="d1")(x), dtype="float64", like=whole)
    first, second, both = generator.bind(4), critic.bind(4, input_gradients=True), whole.bind(4, input_gradients=True)
    (noise,), dy = batch(whole, 4), np.arange(4.0)[:, None]
    np.testing.assert_allclose(second.forward(first.forward(noise)), both.forward(noise), rtol=1e-12)
    first.backward(second.backward(dy))
    both.backward(dy)
    for name, gradient in generator.gradients.items():
        np.testing.assert_allclose(gradient, whole.gradients[name], rtol=1e-12, err_msg=name)


def test_threads_with_runs_of_their_own():
    model = net("float32")
    (x,) = batch(model, 8)
    expected, wrong = model.predict(x), []

    def work():
        run = model.bind(8, training=False)
        for _ in range(20):
            if not np.array_equal(run.forward(x), expected):
                wrong.append(1)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join()
    assert not wrong


def test_a_run_is_not_copied():
    run = net().bind(4)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="a Run is bound to the memory of this process"):
            copied(run)
    assert repr(run) == "<Run for training on input (4, 2, 5, 5)>"
