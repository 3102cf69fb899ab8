"""Files of public data sets: fetched with pooch, checked by their MD5, kept in the user's cache folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from minitrain.optional import require

__all__ = ["cache_folder", "fetch"]


def cache_folder(name: str) -> Path:
    """Folder in which the files of a data set are kept."""
    return Path(require("pooch", f"the cache folder of {name}").os_cache("minitrain")) / name


def fetch(name: str, files: Mapping[str, str], mirrors: Sequence[str], download: bool) -> Path:
    """Return the cache folder of a data set, after fetching what is missing or damaged there.

    `files` maps names to MD5 sums; `mirrors` are the addresses of folders, tried in turn. FileNotFoundError if
    something is missing and `download` is False; OSError if no mirror gives a file of the right sum.
    """
    folder = cache_folder(name)
    for file, md5 in files.items():
        if download:
            _fetch_one(name, folder, file, md5, mirrors)
        elif not (folder / file).is_file():
            raise FileNotFoundError(f"{name}: expected {file} in {folder}; allow the download or give a folder")
    return folder


def _fetch_one(name: str, folder: Path, file: str, md5: str, mirrors: Sequence[str]) -> None:
    pooch = require("pooch", f"downloading {name}")
    failures = []
    for mirror in mirrors:
        try:
            pooch.retrieve(f"{mirror}/{file}", known_hash=f"md5:{md5}", fname=file, path=folder)
            return
        except (OSError, ValueError) as error:  # requests' exceptions are OSErrors; pooch's wrong hash a ValueError
            failures.append(f"{mirror}: {error}")
    reasons = "; ".join(failures)
    raise OSError(f"{name}: expected to download {file}, got {reasons}. Fetch it by hand and give its folder")
