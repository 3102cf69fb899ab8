"""Packages that only some features need: imported when such a feature is used."""

import importlib
from types import ModuleType

__all__ = ["require"]

# The smallest extra that installs a package.
EXTRAS = {
    "rich": "app",
    "matplotlib": "app",
    "PIL": "app",
    "sklearn": "sklearn",
    "safetensors": "app",
    "pooch": "app",
}


def require(module: str, purpose: str) -> ModuleType:
    """Import and return an optional module, such as "matplotlib.pyplot".

    Raises
    ------
    ImportError
        If the package is not installed: names the purpose and what to install.

    Examples
    --------
    >>> require("json", "reading results").loads("[1]")
    [1]
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is here, but something it needs is not: its own message says what
        what = f'"minitrain[{EXTRAS[package]}]"' if package in EXTRAS else package
        message = f"{purpose} needs the package {package}: pip install {what}"
        raise ImportError(message, name=package) from error
