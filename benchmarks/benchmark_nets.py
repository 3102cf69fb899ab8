"""The nets of minitrain.models: whole training steps, their memory, and inference."""

from minitrain import Trainer, losses, models, optimizers

from .common import THREADS, Timed, normal, once, use_threads

# Of one sample, and the batch to train on.
NETS = {
    "mlp": ((1, 28, 28), 64),
    "lenet": ((1, 28, 28), 64),
    "plain": ((1, 8, 8), 32),
    "resnet20": ((3, 32, 32), 64),
    "article_a": ((1, 28, 28), 32),
    "article_b": ((1, 28, 28), 64),
    "article_c": ((1, 28, 28), 64),
}


def labels(count):
    return [number % 10 for number in range(count)]


def trainer_of(net):
    """A trainer with one batch; its steps are small enough to go on for ever."""
    shape, batch = NETS[net]
    model = getattr(models, net)(input_shape=shape, seed=0)
    optimizer = optimizers.SGD(1e-5, momentum=0.9)
    trainer = Trainer(model, loss=losses.SoftmaxCrossEntropy(), optimizer=optimizer)
    return trainer, normal((batch, *shape)), labels(batch)


class TrainingStep(Timed):
    params = (list(NETS), THREADS)
    param_names = ("net", "threads")

    @once
    def setup(self, net, threads):
        use_threads(threads)
        self.trainer, self.x, self.y = trainer_of(net)
        self.trainer.step(self.x, self.y)

    def time_step(self, net, threads):
        self.trainer.step(self.x, self.y)


class Memory:
    """What a training step needs: peak of the whole process, and the arena that all buffers of the plan share."""

    params = (["mlp", "lenet", "resnet20"],)
    param_names = ("net",)
    timeout = 180

    def setup_cache(self):
        """Compile in another process, or the compiler's memory would be the peak."""
        for net in self.params[0]:
            trainer, x, y = trainer_of(net)
            trainer.step(x, y)

    setup_cache.timeout = 600

    def setup(self, net):
        use_threads("all")
        self.trainer, self.x, self.y = trainer_of(net)

    def peakmem_step(self, net):
        self.trainer.step(self.x, self.y)

    def track_arena(self, net):
        return self.trainer.model.training_plan(len(self.x)).arena_size

    track_arena.unit = "bytes"


class Inference(Timed):
    params = (list(NETS), [1, 64])
    param_names = ("net", "batch")

    @once
    def setup(self, net, batch):
        use_threads("all")
        shape, _ = NETS[net]
        self.model = getattr(models, net)(input_shape=shape, seed=0)
        self.x = normal((batch, *shape))
        self.model.predict(self.x)

    def time_predict(self, net, batch):
        self.model.predict(self.x)


class Accuracy:
    """What fixed steps on the digits teach: the same number at every commit that does not change the arithmetic."""

    params = (["mlp", "lenet"],)
    param_names = ("net",)
    unit = "% of the test set wrong"
    timeout = 180
    epochs = 3

    def track_error(self, net):
        from minitrain import datasets

        use_threads("all")
        (x, y), test = datasets.load("digits")
        model = getattr(models, net)(input_shape=(1, 8, 8), seed=0)
        trainer = Trainer(model, loss=losses.SoftmaxCrossEntropy(), optimizer=optimizers.SGD(0.05, momentum=0.9))
        trainer.fit(x, y, epochs=self.epochs, batch_size=64, verbose=False)
        return 100 * (1 - trainer.evaluate(*test)["accuracy"])
