"""Train a net on handwritten digits, stop when it no longer improves, look at the curves."""

from minitrain import Trainer, datasets, losses, models, optimizers, schedules
from minitrain.callbacks import EarlyStopping

EPOCHS, BATCH = 8, 32

(x_train, y_train), (x_test, y_test) = datasets.load("digits")  # comes with scikit-learn: no download
model = models.lenet((1, 8, 8), seed=0)
model.summary()

steps = EPOCHS * -(-len(x_train) // BATCH)
trainer = Trainer(model, losses.SoftmaxCrossEntropy(), optimizers.Adam(schedules.Cosine(2e-3, steps)))
history = trainer.fit(
    x_train,
    y_train,
    epochs=EPOCHS,
    batch_size=BATCH,
    validation_data=(x_test, y_test),
    callbacks=[EarlyStopping(patience=3)],
)

print(trainer.evaluate(x_test, y_test))
history.plot("digits.png")
model.save("digits.safetensors")
