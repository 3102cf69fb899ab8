"""Save a checkpoint after each epoch, and go on from it: the same bits as one long run."""

import numpy as np

from minitrain import Trainer, datasets, losses, models, optimizers
from minitrain.callbacks import Checkpoint, CSVLog
from minitrain.checkpoint import load_checkpoint

(x, y), held_out = datasets.load("digits")
loss, optimizer = losses.SoftmaxCrossEntropy(), optimizers.Adam(1e-3)

first = Trainer(models.mlp((1, 8, 8), seed=0), loss, optimizer)
first.fit(x, y, epochs=2, validation_data=held_out, callbacks=[Checkpoint("run.safetensors"), CSVLog("run.csv")])

# Another day, in another process:
resumed = load_checkpoint("run.safetensors", loss, optimizer)
resumed.fit(x, y, epochs=2, validation_data=held_out, callbacks=[CSVLog("run.csv", append=True)])

whole = Trainer(models.mlp((1, 8, 8), seed=0), loss, optimizer)
whole.fit(x, y, epochs=4, verbose=False)
print("same bits:", np.array_equal(whole.model.flat_params, resumed.model.flat_params))
