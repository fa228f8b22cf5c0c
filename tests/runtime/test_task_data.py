"""Data sets from files and from the hub, and what is said when there are none."""

from __future__ import annotations

import gzip
import struct
import types

import numpy as np
import pytest

from pretune.errors import InputError
from pretune.runtime import datasets as module
from pretune.runtime.datasets import data_folder, load_images, read_idx

RNG = np.random.default_rng(0)
MNIST = {
    "x_train": RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8),
    "y_train": RNG.integers(0, 10, 12).astype(np.uint8),
    "x_test": RNG.integers(0, 256, (5, 28, 28), dtype=np.uint8),
    "y_test": RNG.integers(0, 10, 5).astype(np.uint8),
}


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def _same(images, arrays=MNIST) -> None:
    for key, array in arrays.items():
        np.testing.assert_array_equal(getattr(images, key), array)
    assert images.y_train.dtype == np.int64


def test_npz(tmp_path):
    np.savez(tmp_path / "mnist.npz", **MNIST)
    _same(load_images("mnist", tmp_path))


@pytest.mark.parametrize("where", [".", "mnist"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("joint", ["-", "."])
def test_idx_files_under_their_usual_names(tmp_path, where, packed, joint):
    (tmp_path / where).mkdir(exist_ok=True)
    names = ("train-images", "train-labels", "t10k-images", "t10k-labels")
    for name, array in zip(names, MNIST.values(), strict=True):
        rank = "idx3" if array.ndim == 3 else "idx1"
        file = tmp_path / where / f"{name}{joint}{rank}-ubyte{'.gz' if packed else ''}"
        file.write_bytes(gzip.compress(_idx(array)) if packed else _idx(array))
    _same(load_images("mnist", tmp_path))
    if where == ".":  # MNIST's files in the folder itself are not taken for USPS
        with pytest.raises(InputError, match=r"holds no usps, should hold usps\.npz"):
            load_images("usps", tmp_path)


def test_cifar_binary_records(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    x = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    y = RNG.integers(0, 10, 12).astype(np.uint8)
    records = np.concatenate([y[:, None], x.transpose(0, 3, 1, 2).reshape(12, -1)], axis=1)
    for i in range(5):
        (folder / f"data_batch_{i + 1}.bin").write_bytes(records[2 * i : 2 * i + 2].tobytes())
    (folder / "test_batch.bin").write_bytes(records[10:].tobytes())
    _same(load_images("cifar10", tmp_path), {"x_train": x[:10], "y_train": y[:10], "x_test": x[10:], "y_test": y[10:]})
    (folder / "test_batch.bin").write_bytes(records[10:].tobytes()[:-1])
    with pytest.raises(InputError, match=r"test_batch\.bin is cut off"):
        load_images("cifar10", tmp_path)


@pytest.mark.parametrize("cut", [0, 3, 4, 10, 15, 16, 100])
def test_cut_idx_files(tmp_path, cut):
    file = tmp_path / "x-idx3-ubyte"
    file.write_bytes(_idx(MNIST["x_test"])[:cut])
    with pytest.raises(ValueError, match=r"cut off|not an IDX file"):
        read_idx(file)


def test_idx_of_another_kind_or_too_long(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"\x00\x00\x0d" + _idx(MNIST["x_test"])[3:])
    with pytest.raises(ValueError, match="not an IDX file of bytes"):
        read_idx(file)
    file.write_bytes(_idx(MNIST["x_test"]) + b"!")
    with pytest.raises(ValueError, match="too long"):
        read_idx(file)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"x_train": MNIST["x_train"][:, :20]}, "x_train of uint8 (12, 20, 28), should hold uint8 (n, 28, 28)"),
        ({"x_test": MNIST["x_test"].astype(float)}, "x_test of float64 (5, 28, 28)"),
        ({"y_train": MNIST["y_train"][:3]}, "y_train of uint8 (3,), should hold 12 class numbers"),
        ({"y_test": np.full(5, 11)}, "should hold 5 class numbers from 0 to 9"),
        ({"y_test": np.full(5, 0.5)}, "y_test of float64"),
        ({"y_test": None}, "can't be read"),
    ],
)
def test_archives_with_something_else_in_them(tmp_path, change, says):
    np.savez(tmp_path / "mnist.npz", **{k: v for k, v in {**MNIST, **change}.items() if v is not None})
    with pytest.raises(InputError) as caught:
        load_images("mnist", tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_and_pickled_archives(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(InputError, match=r"task\.folder: mnist in .* can't be read"):
        load_images("mnist", tmp_path)
    np.savez(tmp_path / "mnist.npz", **{**MNIST, "y_test": np.array([{}] * 5, dtype=object)})
    with pytest.raises(InputError, match="can't be read"):  # a pickle is code, and is not run
        load_images("mnist", tmp_path)


def test_where_the_folder_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("PRETUNE_DATA", raising=False)
    assert data_folder(None, tmp_path) is None
    (tmp_path / "files").mkdir()
    assert data_folder("files", tmp_path) == tmp_path / "files"
    assert data_folder(str(tmp_path / "files"), tmp_path / "elsewhere") == tmp_path / "files"
    with pytest.raises(InputError, match=r"task\.folder: holds 'nowhere', should hold a folder that exists"):
        data_folder("nowhere", tmp_path)
    monkeypatch.setenv("PRETUNE_DATA", str(tmp_path / "files"))
    assert data_folder(None, tmp_path) == tmp_path / "files"
    monkeypatch.setenv("PRETUNE_DATA", "nowhere")
    with pytest.raises(InputError, match=r"task\.folder \(from PRETUNE_DATA\): holds 'nowhere'"):
        data_folder(None, tmp_path)


def _hub(monkeypatch, load_dataset) -> None:
    monkeypatch.setattr(module, "import_hf_datasets", lambda: types.SimpleNamespace(load_dataset=load_dataset))


def test_hub_data_are_turned_into_arrays(monkeypatch):
    """The real hub can't be reached from a test: its answer is made here, with the real `datasets` package."""
    hub = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    asked = []

    def load_dataset(name: str):
        asked.append(name)
        parts = {}
        for part in ("train", "test"):
            pictures = [image.fromarray(x) for x in MNIST[f"x_{part}"]]
            features = hub.Features({"image": hub.Image(), "label": hub.Value("int64")})
            rows = {"image": pictures, "label": MNIST[f"y_{part}"].astype(int).tolist()}
            parts[part] = hub.Dataset.from_dict(rows, features=features)
        return parts

    _hub(monkeypatch, load_dataset)
    _same(load_images("mnist", None))
    assert asked == ["ylecun/mnist"]


def test_an_unreachable_hub_is_one_clear_line(monkeypatch):
    def load_dataset(name: str):
        raise ConnectionError("Couldn't reach the Hub\nand more\nlines")

    _hub(monkeypatch, load_dataset)
    with pytest.raises(InputError) as caught:
        load_images("usps", None)
    assert str(caught.value) == (
        "task.folder: is not given, and flwrlabs/usps could not be fetched from the hub (ConnectionError: Couldn't "
        "reach the Hub); should hold a folder with usps.npz or its original files"
    )


def test_the_real_client_offline_is_one_clear_line(monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="could not be fetched from the hub") as caught:
        load_images("usps", None)
    assert "\n" not in str(caught.value)
