"""A generative adversarial net learns a ring of eight Gaussians: two nets, two optimizers, a loop of one's own.

`python examples/gan.py 1000` makes 1000 steps instead of 6000, after which a few of them are found.
"""

import importlib.util
import sys

import numpy as np

from minitrain import Input, Model, layers, losses, optimizers, schedules

BATCH, NOISE = 256, 4
STEPS = int(sys.argv[1]) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 6000
angles = np.arange(8) * np.pi / 4
CENTRES = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
rng = np.random.default_rng(0)


def net(inputs, outputs, seed):
    x = h = Input((inputs,))
    for _ in range(2):
        h = layers.LeakyReLU(0.2)(layers.Dense(128)(h))
    return Model(x, layers.Dense(outputs)(h), seed=seed)


def real(count):
    return CENTRES[rng.integers(0, 8, count)] + 0.1 * rng.standard_normal((count, 2))


generator, critic = net(NOISE, 2, seed=1), net(2, 1, seed=2)
make, compare = generator.bind(BATCH), critic.bind(2 * BATCH)
judge = critic.bind(BATCH, input_gradients=True)
update_generator = optimizers.Adam(schedules.Cosine(3e-4, STEPS), beta1=0.5).bind(generator).update
update_critic = optimizers.Adam(schedules.Cosine(6e-4, STEPS), beta1=0.5).bind(critic).update
loss = losses.BinaryCrossEntropy(from_logits=True)
genuine = np.repeat([[0.9], [0.0]], BATCH, axis=0)  # the real ones, a little smoothed, then the fakes
passed = np.ones((BATCH, 1))

for step in range(STEPS):
    fakes = make.forward(rng.standard_normal((BATCH, NOISE)))
    loss(compare.forward(np.concatenate([real(BATCH), fakes])), genuine, compare.output_gradient)
    compare.backward()
    update_critic()

    value = loss(judge.forward(fakes), passed, judge.output_gradient)
    make.backward(judge.backward())  # what would make the critic take the fakes for real
    update_generator()
    if step % 1000 == 0:
        print(f"step {step}: loss of the generator {value:.3f}")

points = generator.predict(rng.standard_normal((4000, NOISE)))
distances = np.linalg.norm(points[:, None] - CENTRES, axis=2)
near = distances.min(axis=1) < 0.4
found = np.bincount(distances.argmin(axis=1)[near], minlength=8) > 0.02 * len(points)
print(f"modes found: {found.sum()} of 8; near them: {near.mean():.0%} of the points")
if importlib.util.find_spec("matplotlib"):
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().scatter(*points.T, s=2)
    figure.savefig("gan.png")
