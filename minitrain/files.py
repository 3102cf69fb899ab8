"""Files that are either whole or not there: written under a temporary name, flushed to disk, renamed."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from nbnorm.jit.files import replacing_path

__all__ = ["reading", "replacing", "write_bytes", "write_text"]

# What is no fault of a file's content. Other errors of the system are: a seek to where a damaged file points.
SYSTEM = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)
SYSTEM_CODES = (errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; what is written there takes the place of `path` at the end.

    Whoever looks at `path` meanwhile, or after a crash or a full disk, sees the former file or the new one, never a
    part. The folder is made where it is missing. After an exception the temporary file is removed and `path` is as it
    was. A `path` that is a symbolic link stays one: the file it points to is replaced. "~" is the user's home.

    Parameters
    ----------
    path : str or path-like
        The file to write. The temporary name ends like it, for writers that look at the ending.

    Raises
    ------
    OSError
        The folder cannot be made or written, the disk is full, or `path` is a folder or no regular file.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with replacing(Path(folder) / "notes.txt") as temporary:
    ...         _ = temporary.write_text("whole")
    ...     (Path(folder) / "notes.txt").read_text()
    'whole'
    """
    target = Path(os.path.realpath(os.path.expanduser(path)))
    if target.is_dir():
        raise IsADirectoryError(f"path: expected a file to write, got the folder {str(path)!r}")
    if target.exists() and not target.is_file():
        raise OSError(f"path: expected a file to write, got {str(path)!r}, which is a device, a pipe or a socket")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing_path(target, durable=True) as temporary:
            yield temporary
    except OSError as error:
        if error.errno is not None and error.filename is None:  # of a full disk nobody says which
            error.filename = str(path)
        raise


@contextlib.contextmanager
def reading(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turn what libraries raise within the block, about a file that is not what it should be, into one ValueError.

    Each library has errors of its own for a damaged file, and for some damage it has none: whatever comes out of the
    block is about the file. What the system says (no such file, no permission) and a missing package stay as they are.
    What is there but is no regular file is refused before the block is entered.

    Parameters
    ----------
    path : str or path-like
        Named by the message.
    what : str
        What the file should be: "PNG image".

    Examples
    --------
    >>> with reading("seven.png", "PNG image"):
    ...     raise KeyError("chunk")
    Traceback (most recent call last):
        ...
    ValueError: seven.png: not a readable PNG image (KeyError: 'chunk')
    """
    here = os.path.expanduser(os.fspath(path))
    if os.path.isdir(here):
        raise IsADirectoryError(f"path: expected a {what}, got the folder {os.fspath(path)!r}")
    if os.path.exists(here) and not os.path.isfile(here):  # to open a pipe nobody writes to would wait for ever
        raise ValueError(f"{os.fspath(path)}: not a {what}, but a device, a pipe or a socket")
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        if isinstance(error, SYSTEM) or (isinstance(error, OSError) and error.errno in SYSTEM_CODES):
            raise
        if isinstance(error, ValueError) and os.fspath(path) in str(error):
            raise
        said = str(error) if type(error) is ValueError else f"{type(error).__name__}: {error}"
        raise ValueError(f"{os.fspath(path)}: not a readable {what} ({said})") from None


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file as a whole or not at all; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    """Write a text file (UTF-8, line ends as they are) as a whole or not at all; see `replacing`."""
    write_bytes(path, content.encode("utf-8"))
