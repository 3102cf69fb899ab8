"""What of scikit-learn has not always been there: the only place that knows its versions.

`validate_data` is a function since 1.6 and was a method before; tags are read from `__sklearn_tags__` since 1.6; there
are callbacks since 1.9. Without these everything but `set_callbacks` works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minitrain.optional import require

__all__ = ["CallbackSupport", "begin_fit", "has_callbacks", "validate_data", "with_callbacks"]

sklearn = require("sklearn", "minitrain.sklearn", extra="sklearn")

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before 1.6

    def validate_data(estimator: Any, X: Any, y: Any = "no_validation", **checks: Any) -> Any:
        """Check data and the names of features; `reset` says whether these are those of a new fit."""
        return estimator._validate_data(X, y, **checks)


try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
    from sklearn.callback import with_callbacks
except ImportError:  # before 1.9

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Leave a method as it is: there are no callbacks to conclude."""
        return method

    class CallbackSupport:  # type: ignore[no-redef]
        """Has the method that needs a later scikit-learn, and says so."""

        def set_callbacks(self, *callbacks: Any) -> Any:
            """Raise ImportError."""
            version = sklearn.__version__
            raise ImportError(f"set_callbacks: expected scikit-learn 1.9 or later, got {version}; pip install -U it")


def has_callbacks(estimator: Any) -> bool:
    """Whether scikit-learn's callbacks were set, or come from a search around the estimator."""
    return bool(getattr(estimator, "_skl_callbacks", ()))


def begin_fit(estimator: Any, subtasks: int) -> Any:
    """Tell scikit-learn that a fit of so many tasks begins; return its context, or None where there are no contexts."""
    begin = getattr(estimator, "_init_callback_context", None)
    return None if begin is None else begin(max_subtasks=subtasks)
