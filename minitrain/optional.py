"""Packages that only some features need: imported when such a feature is used."""

import importlib
from types import ModuleType

__all__ = ["require"]

# The extra that installs a package.
EXTRAS = {
    "rich": "app",
    "matplotlib": "app",
    "PIL": "app",
    "sklearn": "app",
    "safetensors": "app",
    "pooch": "app",
    "mpi4py": "mpi",
}


def require(module: str, purpose: str, extra: str | None = None) -> ModuleType:
    """Import and return an optional module, such as "matplotlib.pyplot".

    `extra` installs it where that is another one than usual.

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
        extra = extra or EXTRAS.get(package)
        what = package if extra is None else f'"minitrain[{extra}]"'
        message = f"{purpose} needs the package {package}: pip install {what}"
        raise ImportError(message, name=package) from error
