"""Callbacks: what else happens at the beginning and end of training, epochs, validations and batches."""

from minitrain.callbacks._monitor import Monitor
from minitrain.callbacks.checkpoint import Checkpoint
from minitrain.callbacks.csv_log import CSVLog
from minitrain.callbacks.early_stopping import EarlyStopping
from minitrain.callbacks.exponential_moving_average import ExponentialMovingAverage
from minitrain.callbacks.functions import LambdaCallback
from minitrain.callbacks.mlflow import MLflow
from minitrain.callbacks.precise_batch_norm import PreciseBatchNorm
from minitrain.callbacks.reduce_lr_on_plateau import ReduceLROnPlateau
from minitrain.callbacks.stochastic_weight_average import StochasticWeightAverage
from minitrain.callbacks.tensorboard import TensorBoard
from minitrain.callbacks.tune_running_statistics import TuneRunningStatistics
from minitrain.training.callback import Callback

__all__ = [
    "CSVLog",
    "Callback",
    "Checkpoint",
    "EarlyStopping",
    "ExponentialMovingAverage",
    "LambdaCallback",
    "MLflow",
    "Monitor",
    "PreciseBatchNorm",
    "ReduceLROnPlateau",
    "StochasticWeightAverage",
    "TensorBoard",
    "TuneRunningStatistics",
]
