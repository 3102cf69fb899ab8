"""Estimators of scikit-learn that train nets: `NetClassifier` and `NetRegressor`.

Imported on demand: `from minitrain.sklearn import NetClassifier`. Needs scikit-learn 1.4.2 or later, and 1.9 for its
callbacks: `pip install "minitrain[sklearn]"`.
"""

from minitrain.sklearn import compat  # noqa: F401  first: where scikit-learn is missing, it says what to install
from minitrain.sklearn.classifier import NetClassifier
from minitrain.sklearn.regressor import NetRegressor

__all__ = ["NetClassifier", "NetRegressor"]
