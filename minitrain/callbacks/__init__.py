"""Callbacks: what else happens at the beginning and end of training, epochs and batches."""

from minitrain.callbacks._monitor import Monitor
from minitrain.callbacks.checkpoint import Checkpoint
from minitrain.callbacks.csv_log import CSVLog
from minitrain.callbacks.early_stopping import EarlyStopping
from minitrain.callbacks.functions import LambdaCallback
from minitrain.training.callback import Callback

__all__ = ["CSVLog", "Callback", "Checkpoint", "EarlyStopping", "LambdaCallback", "Monitor"]
