"""See vanishing gradients: the norm of every layer's gradient in a deep net, with and without batch norm."""

import numpy as np

from minitrain import Trainer, datasets, losses, models, optimizers

(x, y), _ = datasets.load("digits")
for norm in (None, "before"):
    model = models.plain(20, kind="dense", activation="sigmoid", norm=norm, seed=0)
    trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.SGD(0.1))
    loss, gradients = trainer.gradients(x[:256], y[:256])  # changes nothing
    print(f"batch norm: {norm or 'none'}, loss {loss:.3f}")
    for layer in (1, 5, 10, 15, 19):
        print(f"  dense{layer:<2}  gradient norm {np.linalg.norm(gradients[f'dense{layer}.weight']):.1e}")
