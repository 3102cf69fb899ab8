"""Build a net with shortcuts from layers, and train it step by step without `fit`."""

import numpy as np

from minitrain import Input, Model, Trainer, datasets, layers, losses, optimizers


def block(x, filters, name):
    """Two convolutions and the shortcut around them."""
    h = layers.Conv2d(filters, 3, padding=1, bias=False, name=f"{name}_conv1")(x)
    h = layers.ReLU()(layers.BatchNorm(name=f"{name}_bn1")(h))
    h = layers.Conv2d(filters, 3, padding=1, bias=False, name=f"{name}_conv2")(h)
    h = layers.BatchNorm(name=f"{name}_bn2")(h)
    return layers.ReLU()(layers.Add()(h, x))


image = Input((1, 8, 8))
h = layers.Conv2d(16, 3, padding=1, name="stem")(image)
h = block(h, 16, "block1")
h = layers.MaxPool2d(2)(h)
h = block(h, 16, "block2")
model = Model(image, layers.Dense(10, name="head")(layers.GlobalAvgPool()(h)), seed=0)

(x_train, y_train), (x_test, y_test) = datasets.load("digits")
trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1, momentum=0.9, l2=1e-4))
rng = np.random.default_rng(0)
for step in range(1, 201):
    batch = rng.integers(0, len(x_train), 32)
    loss = trainer.step(x_train[batch], y_train[batch])
    if step % 50 == 0:
        print(f"step {step}: loss {loss:.4f}, held-out {trainer.evaluate(x_test, y_test)}")
