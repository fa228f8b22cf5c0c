"""The built-in tasks: their splits and shifts, their options, and one-line refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pretune.errors import InputError
from pretune.runtime.load import load_task
from pretune.runtime.shifts import rotate


def _keys(x: torch.Tensor) -> set[bytes]:
    return {row.numpy().tobytes() for row in x}


def test_digits_split_and_shapes():
    task = load_task({"name": "digits"})
    assert (len(task.general), len(task.train), len(task.test)) == (697, 700, 400)
    assert task.general.x.shape[1:] == (1, 8, 8)
    assert float(task.general.x.mean()) == pytest.approx(0.0, abs=1e-5)
    assert float(task.general.x.std()) == pytest.approx(1.0, abs=1e-3)
    assert sorted(task.train.y.unique().tolist()) == list(range(10))
    assert task.build(0)(task.test.x).shape == (400, 10)
    assert sum(p.numel() for p in task.build(0).parameters()) == 4810


def test_digits_shift_is_the_rotation_and_nothing_else():
    upright = load_task({"name": "digits", "rotation_deg": 0})
    tilted = load_task({"name": "digits", "rotation_deg": 90})
    assert torch.equal(upright.general.x, tilted.general.x)
    assert torch.equal(upright.train.y, tilted.train.y)
    low = float(upright.general.x.min())  # black, after scaling
    torch.testing.assert_close(tilted.train.x - low, rotate(upright.train.x - low, 90.0), atol=1e-5, rtol=0)


def test_digits_are_disjoint_and_the_split_follows_its_seed():
    parts = [load_task({"name": "digits", "rotation_deg": 0, "seed": seed}) for seed in (0, 0, 1)]
    keys = [_keys(getattr(parts[0], name).x) for name in ("general", "train", "test")]
    assert sum(map(len, keys)) == len(set().union(*keys))
    assert parts[0].fingerprint() == parts[1].fingerprint() != parts[2].fingerprint()


def test_inversion_turns_light_and_dark():
    plain = load_task({"name": "digits", "rotation_deg": 0})
    inverted = load_task({"name": "digits", "rotation_deg": 0, "invert": True})
    assert torch.equal(plain.general.x, inverted.general.x)
    total = plain.train.x + inverted.train.x
    assert float(total.max() - total.min()) < 1e-5


def test_options_choose_sizes_and_model():
    section = {"name": "digits", "general_samples": 100, "test_samples": 50, "model": {"kind": "cnn", "hidden": 8}}
    task = load_task(section)
    assert (len(task.general), len(task.test), len(task.train)) == (100, 50, 1647)
    assert any(isinstance(layer, torch.nn.Conv2d) for layer in task.build(0).modules())


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (None, "task: is missing; to run, a scenario needs a model and data, for example task: {name: digits}"),
        ("digits", "task: holds 'digits', should hold a section of named values"),
        ({}, "task.name: is missing"),
        ({"name": "imagenet"}, "task.name: holds 'imagenet', should hold one of digits, mnist-usps, mnist-rotated"),
        ({"name": 3}, "task.name: holds 3, should hold one of"),
        ({"name": "digits", "rotation": 40}, "task.rotation: is not a key of this section; it has partition,"),
        ({"name": "digits", "folder": "x"}, "task.folder: is not a key of this section"),
        ({"name": "digits", "rotation_deg": "40"}, "task.rotation_deg: holds '40', should hold a number from -360"),
        ({"name": "digits", "rotation_deg": True}, "task.rotation_deg: holds True, should hold a number"),
        ({"name": "digits", "rotation_deg": float("nan")}, "task.rotation_deg: holds nan"),
        ({"name": "digits", "rotation_deg": 400}, "task.rotation_deg: holds 400"),
        ({"name": "digits", "invert": "yes"}, "task.invert: holds 'yes', should hold true or false"),
        ({"name": "digits", "seed": -1}, "task.seed: holds -1, should hold a whole number >= 0"),
        ({"name": "digits", "seed": 1.5}, "task.seed: holds 1.5"),
        ({"name": "digits", "general_samples": 1796}, "task.general_samples: holds 1796"),
        (
            {"name": "digits", "test_samples": 1100},
            "task.test_samples: holds 1100, should hold a whole number from 1 to",
        ),
        ({"name": "digits", "model": "mlp"}, "task.model: holds 'mlp', should hold a section of named values"),
        ({"name": "digits", "model": {"kind": "rnn"}}, "task.model.kind: holds 'rnn', should hold one of mlp, cnn"),
        ({"name": "digits", "model": {"hidden": 0}}, "task.model.hidden: holds 0, should hold a whole number from 1"),
        (
            {"name": "digits", "model": {"depth": 2}},
            "task.model.depth: is not a key of this section; it has kind, hidden",
        ),
        ({"name": "cifar10-corrupted", "folder": "nowhere"}, "task.folder: holds 'nowhere', should hold a folder that"),
        ({"name": "mnist-usps", "folder": 3}, "task.folder: holds 3, should hold a text"),
    ],
)
def test_refusals_are_one_line(tmp_path, section, says):
    with pytest.raises(InputError) as caught:
        load_task(section, tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"name": "mnist-rotated", "rotation_deg": 361}, "task.rotation_deg: holds 361, should hold a number from"),
        ({"name": "cifar10-corrupted", "corruption": "fog"}, "task.corruption: holds 'fog', should hold one of noise"),
        (
            {"name": "cifar10-corrupted", "severity": 6},
            "task.severity: holds 6, should hold a whole number from 1 to 5",
        ),
        ({"name": "cifar10-classes", "focus": []}, "task.focus: holds [], should hold a list of different whole"),
        ({"name": "cifar10-classes", "focus": [1, 1]}, "task.focus: holds [1, 1]"),
        ({"name": "cifar10-classes", "focus": "0"}, "task.focus: holds '0'"),
        ({"name": "cifar10-classes", "focus": list(range(10))}, "should hold not all of the classes"),
        (
            {"name": "cifar10-classes", "task_share": 1.1},
            "task.task_share: holds 1.1, should hold a number from 0 to 1",
        ),
    ],
)
def test_options_are_checked_before_the_data_are_read(tmp_path, section, says):
    with pytest.raises(InputError) as caught:
        load_task({**section, "folder": "."}, tmp_path)  # an empty folder
    assert says in str(caught.value)


def test_mnist_usps(shared_data):
    task = load_task({"name": "mnist-usps", "folder": str(shared_data)})
    assert task.general.x.shape == (60000, 1, 28, 28)
    assert task.train.x.shape == (7291, 1, 28, 28)
    assert task.test.x.shape == (2007, 1, 28, 28)
    assert sum(p.numel() for p in task.build(0).parameters()) == 159010
    # the usual MNIST figures: mean 0.1307 and deviation 0.3081 of the pixels
    black = float(task.general.x.min())
    white = float(task.general.x.max())
    assert 1.0 / (white - black) == pytest.approx(0.3081, abs=5e-4)
    assert -black / (white - black) == pytest.approx(0.1307, abs=5e-4)


@pytest.fixture
def small_mnist(tmp_path):
    """A folder with a made-up MNIST: 40 training and 10 test images, all different."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50, 28, 28), dtype=np.uint8)
    labels = np.arange(50) % 10
    np.savez(tmp_path / "mnist.npz", x_train=images[:40], y_train=labels[:40], x_test=images[40:], y_test=labels[40:])
    return tmp_path


def test_mnist_rotated_is_one_half_upright_and_the_other_turned(small_mnist):
    upright, tilted = (
        load_task({"name": "mnist-rotated", "folder": ".", "rotation_deg": angle}, small_mnist) for angle in (0, 90)
    )
    assert (len(tilted.general), len(tilted.train), len(tilted.test)) == (20, 20, 10)
    assert torch.equal(upright.general.x, tilted.general.x)
    assert torch.equal(upright.train.y, tilted.train.y)
    assert not _keys(upright.general.x) & _keys(upright.train.x)
    torch.testing.assert_close(tilted.train.x, torch.rot90(upright.train.x, 1, (2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(tilted.test.x, torch.rot90(upright.test.x, 1, (2, 3)), atol=1e-4, rtol=0)
    assert load_task({"name": "mnist-rotated", "folder": ".", "seed": 1}, small_mnist).fingerprint() != (
        load_task({"name": "mnist-rotated", "folder": "."}, small_mnist).fingerprint()
    )


def test_cifar10_corrupted(shared_data, monkeypatch):
    monkeypatch.setenv("PRETUNE_DATA", str(shared_data))
    clean = load_task({"name": "cifar10-corrupted", "corruption": "contrast", "severity": 1})
    worse = load_task({"name": "cifar10-corrupted", "corruption": "contrast", "severity": 5})
    assert len(clean.general) == len(clean.train) == 7500
    assert torch.equal(clean.general.x, worse.general.x)
    assert float(worse.train.x.std(dim=(1, 2, 3)).mean()) < 0.3 * float(clean.train.x.std(dim=(1, 2, 3)).mean())
    assert worse.build(0)(worse.test.x[:2]).shape == (2, 10)


def test_cifar10_classes(shared_data):
    section = {"name": "cifar10-classes", "folder": str(shared_data), "general_share": 0.2, "task_share": 0.75}
    task = load_task(section)
    shares = [np.isin(part.y.numpy(), (0, 1, 8, 9)).mean() for part in (task.general, task.train, task.test)]
    assert shares == pytest.approx([0.2, 0.75, 0.75], abs=1e-3)
    assert len(_keys(task.general.x[:2000]) & _keys(task.train.x[:2000])) == 0
    assert load_task(section).fingerprint() == task.fingerprint()
