"""Reading MNIST, USPS and CIFAR-10: from files if there are any, otherwise from the Hugging Face hub.

Looked for in `folder`, in this order: ``NAME.npz`` (keys x_train, y_train, x_test, y_test); IDX files under their
usual names, gzipped or not, in ``folder/NAME`` and (MNIST only) in the folder itself; CIFAR-10's binary version
(``cifar-10-batches-bin``). Public sources: MNIST, LeCun, Cortes and Burges; USPS, Hull 1994; CIFAR-10, Krizhevsky 2009.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.errors import InputError, MissingExtra

HUB = {
    "mnist": ("ylecun/mnist", "image", "label"),
    "usps": ("flwrlabs/usps", "image", "label"),
    "cifar10": ("uoft-cs/cifar10", "img", "label"),
}
SHAPES = {"mnist": (28, 28), "usps": (16, 16), "cifar10": (32, 32, 3)}
FOLDER_VARIABLE = "PRETUNE_DATA"


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """Grey or colour images, uint8 of shape (n, h, w) or (n, h, w, 3), and class numbers 0..9, int64 of shape (n,)."""

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]


def data_folder(folder: str | None, base: Path) -> Path | None:
    """Where the files are: `folder` (relative to `base`), else what PRETUNE_DATA says, else nowhere.

    Raises:
        InputError: the folder that was named does not exist.
    """
    if folder is not None:
        chosen, field = base / Path(folder).expanduser(), "task.folder"
    elif os.environ.get(FOLDER_VARIABLE):
        folder = os.environ[FOLDER_VARIABLE]
        chosen, field = Path(folder).expanduser(), f"task.folder (from {FOLDER_VARIABLE})"
    else:
        return None
    if not chosen.is_dir():
        raise InputError.field(field, folder, "a folder that exists")
    return chosen


def load_images(name: str, folder: Path | None) -> Images:
    """The data set `name` ("mnist", "usps" or "cifar10") from `folder`, or from the hub when `folder` is None.

    Raises:
        InputError: no usable file in the folder, a damaged one, or the hub can't be reached.
    """
    if folder is None:
        return _from_hub(name)
    try:
        arrays = _from_files(name, folder)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        why = str(error) or type(error).__name__
        raise InputError(f"task.folder: {name} in {folder} can't be read ({why})") from None
    if arrays is None:
        raise InputError(f"task.folder: {folder} holds no {name}, should hold {name}.npz or its original files")
    return _checked(name, arrays, str(folder))


def _from_files(name: str, folder: Path) -> dict[str, NDArray[Any]] | None:
    archive = folder / f"{name}.npz"
    if archive.is_file():
        with open(archive, "rb") as file, np.load(file, allow_pickle=False) as tree:
            return {key: tree[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    for place in [folder / name, *([folder] if name == "mnist" else [])]:
        found = [_idx_file(place, part) for part in ("train-images", "train-labels", "t10k-images", "t10k-labels")]
        files = [file for file in found if file is not None]
        if len(files) == len(found):
            keys = ("x_train", "y_train", "x_test", "y_test")
            return {key: read_idx(file) for key, file in zip(keys, files, strict=True)}
    if name == "cifar10":
        for place in (folder, folder / "cifar-10-batches-bin"):
            if (place / "test_batch.bin").is_file():
                x_train, y_train = _cifar_records([place / f"data_batch_{i}.bin" for i in range(1, 6)])
                x_test, y_test = _cifar_records([place / "test_batch.bin"])
                return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
    return None


def _idx_file(folder: Path, part: str) -> Path | None:
    rank = "idx3" if part.endswith("images") else "idx1"
    for name in (f"{part}-{rank}-ubyte", f"{part}.{rank}-ubyte"):
        for ending in ("", ".gz"):
            if (folder / (name + ending)).is_file():
                return folder / (name + ending)
    return None


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes, gzipped when its name ends in .gz.

    The format: two zero bytes, the kind (8 = unsigned byte), the number of axes, their lengths as big-endian 32-bit
    numbers, then the values, last axis fastest.

    Raises:
        ValueError: it is another kind of file, or shorter or longer than it says.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    if len(data) < 4 or data[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path.name} is not an IDX file of bytes")
    head = 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:head]) if len(data) >= head else ()
    if len(data) < head or len(data) - head != math.prod(shape):
        raise ValueError(f"{path.name} is cut off or too long")
    return np.frombuffer(data, dtype=np.uint8, offset=head).reshape(shape)


def _cifar_records(files: list[Path]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """CIFAR-10's binary records: one label byte, then 32 x 32 bytes of red, of green and of blue."""
    rows = [np.frombuffer(file.read_bytes(), dtype=np.uint8) for file in files]
    for row, file in zip(rows, files, strict=True):
        if not len(row) or len(row) % 3073:
            raise ValueError(f"{file.name} is cut off or too long")
    records = np.concatenate(rows).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def _checked(name: str, arrays: dict[str, NDArray[Any]], origin: str) -> Images:
    shape = SHAPES[name]
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.dtype != np.uint8 or x.ndim != len(shape) + 1 or x.shape[1:] != shape or not len(x):
            raise InputError(
                f"task.folder: {name} in {origin} holds x_{part} of {x.dtype} {x.shape}, should hold uint8 (n, "
                + ", ".join(map(str, shape))
                + ")"
            )
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu" or y.min() < 0 or y.max() > 9:
            raise InputError(
                f"task.folder: {name} in {origin} holds y_{part} of {y.dtype} {y.shape}, should hold {len(x)} class "
                "numbers from 0 to 9"
            )
    return Images(
        x_train=arrays["x_train"],
        y_train=arrays["y_train"].astype(np.int64),
        x_test=arrays["x_test"],
        y_test=arrays["y_test"].astype(np.int64),
    )


def import_hf_datasets() -> Any:
    """The `datasets` package, told not to report its use.

    Raises:
        MissingExtra: it is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    try:
        import datasets
    except ImportError:
        raise MissingExtra("train", "flwr-datasets") from None
    return datasets


def _from_hub(name: str) -> Images:
    hub = import_hf_datasets()
    repository, image, label = HUB[name]
    try:
        tree = hub.load_dataset(repository)
        arrays = {}
        for part in ("train", "test"):
            arrays[f"x_{part}"] = np.stack([np.asarray(picture, dtype=np.uint8) for picture in tree[part][image]])
            arrays[f"y_{part}"] = np.asarray(tree[part][label], dtype=np.int64)
    except Exception as error:  # noqa: BLE001 - the hub's client raises errors of many unrelated kinds
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"task.folder: is not given, and {repository} could not be fetched from the hub "
            f"({type(error).__name__}: {first}); should hold a folder with {name}.npz or its original files"
        ) from None
    return _checked(name, arrays, repository)
