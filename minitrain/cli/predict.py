"""`minitrain predict`: classes and probabilities of images."""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from minitrain.cli import arguments as shared
from minitrain.data.scale import scales_from
from minitrain.datasets import read_idx
from minitrain.files import reading
from minitrain.layer import Shape
from minitrain.objective.probabilities import probabilities
from minitrain.optional import require
from minitrain.training.run_folder import load_model, read_config

__all__ = ["add_commands"]

DETAILS = (
    "Inputs are .npy arrays, .npz archives (the array x, or the only one), PNG images, or IDX files such as MNIST's, "
    "compressed or not. Numbers with a point are taken as they are; integers are taken for pixels from 0 to 255 and "
    "divided by 255. An axis for the only channel may be left out. A coloured image becomes grey (ITU-R BT.601) for a "
    "net of one channel, a grey one is repeated for a net of three; what is transparent lies on white."
)
EXAMPLES = """\
  minitrain predict run images.npy > classes.csv
  minitrain predict run seven.png --invert                  a dark digit on light paper, for a net trained on MNIST
  minitrain predict net.safetensors t10k-images-idx3-ubyte.gz --format json
"""
Array = npt.NDArray[Any]

LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue in what is seen as grey; ITU-R BT.601
MOST_DEFLATED = 1032  # bytes that one byte of a deflated stream gives at most; zlib's technical notes


def add_commands(commands: Any) -> None:
    """Add `predict`."""
    summary = "classify images with a trained net: classes and probabilities"
    parser = shared.add_parser(commands, "predict", summary, DETAILS, EXAMPLES)
    parser.set_defaults(run=run)
    parser.add_argument("path", type=Path, metavar="RUN_DIR|WEIGHTS", help="run folder or file of weights")
    parser.add_argument("inputs", type=Path, nargs="+", metavar="INPUT", help=".npy, .npz, .png or IDX file")
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="of what is printed")
    parser.add_argument("--invert", action="store_true", help="exchange dark and light: 1 - pixel")
    shared.add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print a row for each image: file, number in the file, class, probability of each class."""
    shared.use_threads(arguments.threads)
    model = load_model(arguments.path)
    shapes = list(model.input_shapes.values())
    if len(shapes) != 1 or len(model.output_shape) != 1:
        raise ValueError(f"{arguments.path}: expected a net with one input that gives classes")
    scales = scales_from(read_config(arguments.path).get("inputs"))
    rows: list[tuple[str, int, Array]] = []
    for path in arguments.inputs:
        x = read_images(path, shapes[0])
        x = 1.0 - x if arguments.invert else x
        for scale in scales:
            difference = scale.difference(x)
            if difference is not None:
                print(f"minitrain: warning: {path}: {difference}", file=sys.stderr)
        found = probabilities(model.graph, model.predict(x))
        rows.extend((str(path), number, each) for number, each in enumerate(found))
    write = _write_json if arguments.format == "json" else _write_csv
    write(rows)
    return 0


def read_images(path: Path, shape: Shape) -> Array:
    """Return the samples in a file as floats (N, *shape); ValueError where they have another shape."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    values = _read(path)
    if path.suffix.lower() == ".png" and len(shape) == 3 and shape[0] in (1, 3):
        values = _in_channels(values, shape[0])[None]
    if values.dtype.kind not in "fiub":
        raise ValueError(f"{path}: expected numbers, got dtype {values.dtype}")
    x = values if values.dtype.kind == "f" else values / np.float32(255 if values.dtype != bool else 1)
    planes = shape[1:] if len(shape) == 3 and shape[0] == 1 else None
    for single in filter(None, (shape, planes)):
        if x.shape == single or x.shape[1:] == single:
            return x.reshape(-1, *shape)
    expected = " or ".join(f"(N, {', '.join(map(str, each))})" for each in (shape, planes) if each)
    raise ValueError(f"{path}: expected shape {expected}, or without N, got {values.shape}")


def _read(path: Path) -> Array:
    if path.suffix == ".npy":
        with reading(
            path, ".npy file"
        ):  # mapped: a shape that the file does not hold is refused before memory is taken
            return np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    if path.suffix == ".npz":
        with reading(path, ".npz archive"), zipfile.ZipFile(path) as archive:
            return _read_npz(path, archive)
    if path.suffix.lower() == ".png":
        return _read_png(path)
    if "ubyte" in path.name or path.suffix in (".idx", ".gz"):
        return read_idx(path)
    raise ValueError(f"{path}: expected a .npy, .npz, .png or IDX file")


def _read_npz(path: Path, archive: zipfile.ZipFile) -> Array:
    """Return the array called x, or the only one; what a header claims is held against the size of its member."""
    names = [name.removesuffix(".npy") for name in archive.namelist()]
    name = "x" if "x" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ValueError(f"{path}: expected an array called x or a single one, got {', '.join(names)}")
    member = archive.getinfo(archive.namelist()[names.index(name)])
    if member.file_size > MOST_DEFLATED * (member.compress_size + 1):
        raise ValueError(f"{path}: {name} claims {member.file_size} bytes, more than {member.compress_size} can hold")
    with archive.open(member) as file:
        content = io.BytesIO(file.read())  # to the end, where the checksum is looked at
    version = np.lib.format.read_magic(content)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(content)
    if math.prod(shape) * dtype.itemsize != member.file_size - content.tell():
        raise ValueError(f"{path}: {name} claims {dtype} {shape}, in {member.file_size} bytes")
    content.seek(0)
    return np.asarray(np.lib.format.read_array(content, allow_pickle=False))


def _read_png(path: Path) -> Array:
    """Return an image as (C, H, W) for colours and as (H, W) for grey, in [0, 1]; what is transparent lies on white."""
    image = require("matplotlib.image", "reading PNG images")
    with reading(path, "PNG image"):
        pixels = np.asarray(image.imread(path), dtype=np.float32)
    if pixels.ndim == 2:
        return pixels
    planes = pixels.transpose(2, 0, 1)
    if len(planes) in (2, 4):
        planes = planes[:-1] * planes[-1:] + (1.0 - planes[-1:])
    grey = (planes == planes[:1]).all()
    return planes[0] if grey else planes


def _in_channels(picture: Array, channels: int) -> Array:
    """Return a picture (H, W) or (3, H, W) as (channels, H, W): grey is repeated, colours become their luma."""
    if picture.ndim == 2:
        return np.repeat(picture[None], channels, axis=0)
    if channels == 1:
        return np.tensordot(LUMA, picture, axes=1)[None].astype(np.float32)
    return picture


def _write_csv(rows: list[tuple[str, int, Array]]) -> None:
    table = csv.writer(sys.stdout, lineterminator="\n")
    classes = len(rows[0][2]) if rows else 0
    table.writerow(["file", "number", "class", *(f"p{label}" for label in range(classes))])
    for file, number, found in rows:
        table.writerow([file, number, int(found.argmax()), *(f"{each:.6f}" for each in found)])


def _write_json(rows: list[tuple[str, int, Array]]) -> None:
    for file, number, found in rows:
        entry = {
            "file": file,
            "number": number,
            "class": int(found.argmax()),
            "probabilities": [round(float(each), 6) for each in found],
        }
        print(json.dumps(entry))
