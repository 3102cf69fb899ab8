"""Logs of other programs, with the real packages where they are installed; and logs that can no longer be written."""

import sys
import warnings

import pytest
from small_fits import make_trainer, small_data

from minitrain.callbacks import CSVLog, LambdaCallback, MLflow, TensorBoard
from minitrain.callbacks.tensorboard import tag_of

DATA = small_data()


def test_tensorboard_reads_what_was_written(tmp_path):
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "a run"
    history = make_trainer().fit(*DATA, epochs=3, validation_data=DATA, callbacks=[TensorBoard(folder)], verbose=False)
    events = reader.EventAccumulator(str(folder)).Reload()
    assert {"loss/training", "loss/validation", "accuracy/training", "learning_rate"} <= {*events.Tags()["scalars"]}
    for tag, name in (("loss/training", "loss"), ("accuracy/validation", "val_accuracy")):
        scalars = events.Scalars(tag)
        assert [each.step for each in scalars] == [1, 2, 3]
        assert [each.value for each in scalars] == pytest.approx(history.metrics[name], rel=1e-6)


@pytest.mark.parametrize(
    ("name", "tag"),
    [("loss", "loss/training"), ("val_class_loss", "class_loss/validation"), ("learning_rate", "learning_rate")],
)
def test_tags(name, tag):
    assert tag_of(name, {name: 1.0}) == tag


@pytest.fixture
def mlflow(tmp_path):
    package = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    package.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield package
    package.set_tracking_uri(None)


def test_mlflow_has_the_history(mlflow):
    callback = MLflow("small", parameters={"batch_size": 25})
    history = make_trainer().fit(*DATA, epochs=2, batch_size=25, callbacks=[callback], verbose=False)
    assert mlflow.active_run() is None
    run = mlflow.last_active_run()
    assert run.info.status == "FINISHED"
    assert (run.data.params["optimizer"], run.data.params["batch_size"]) == ("Adam", "25")
    logged = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [each.value for each in logged] == pytest.approx(history.metrics["loss"])
    with mlflow.start_run() as outer:
        make_trainer().fit(*DATA, callbacks=[MLflow()], verbose=False)
        assert mlflow.active_run().info.run_id == outer.info.run_id


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, "KILLED"), (OSError, "FAILED")])
def test_mlflow_says_how_a_run_ended(mlflow, error, status):
    def fail(trainer, batch, loss):
        raise error

    callbacks = [MLflow(), LambdaCallback(on_batch_end=fail)]
    try:
        make_trainer().fit(*DATA, callbacks=callbacks, verbose=False)
    except OSError:
        assert status == "FAILED"
    assert mlflow.last_active_run().info.status == status


@pytest.mark.parametrize(
    ("callback", "package"),
    [(TensorBoard("logs"), "tensorboardX"), (MLflow(), "mlflow")],
    ids=["TensorBoard", "MLflow"],
)
def test_a_missing_package_is_said_before_training(callback, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    trainer = make_trainer()
    with pytest.raises(ImportError, match=f"pip install {package}"):
        trainer.fit(*DATA, callbacks=[callback], verbose=False)
    assert trainer.steps == 0


class Full:
    """A file on a full disk."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    flush = close = lambda self: self.write("")


def test_a_full_disk_under_a_log_does_not_end_training(tmp_path):
    log = CSVLog(tmp_path / "log.csv")

    def fill(trainer, epoch):
        if epoch == 2:
            log._file.close()
            log._file = Full()

    trainer = make_trainer()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(*DATA, epochs=4, callbacks=[log, LambdaCallback(on_epoch_begin=fill)], verbose=False)
    assert trainer.epoch == 4
    assert len(caught) == 1
    assert "log.csv can no longer be written" in str(caught[0].message)
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 2
