"""The built-in tasks: general data at the server, shifted data at the devices.

| `task.name` | general data | task data |
|---|---|---|
| `digits` | scikit-learn's digits, upright (8 x 8) | other digits of it, rotated and/or inverted |
| `mnist-usps` | MNIST (28 x 28) | USPS, brought from 16 x 16 to 20 x 20 in a 28 x 28 frame |
| `mnist-rotated` | one half of MNIST's training images, upright | the other half and the test images, rotated |
| `cifar10-corrupted` | one half of CIFAR-10's training images | the other half and the test images, corrupted |
| `cifar10-classes` | CIFAR-10 with few images of the focus classes | CIFAR-10 with many of them |

Pixels are scaled to 0..1 and then, channel by channel, by the mean and standard deviation of the general data:
that is all a server knows before the devices take part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from pretune.errors import InputError, MissingExtra
from pretune.physics.types import Ints
from pretune.runtime import shifts
from pretune.runtime.datasets import data_folder, load_images
from pretune.runtime.models import KINDS, make_model
from pretune.runtime.options import Options
from pretune.runtime.task import Samples, Task

CLASSES = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pixels:
    """Images of one part, pixels 0..1, shape (n, channels, h, w), with their labels."""

    x: Tensor
    y: Ints

    def take(self, index: Ints) -> _Pixels:
        return _Pixels(x=self.x[torch.from_numpy(index)], y=self.y[index])


def digits(options: Options, _base: Path) -> Task:
    """scikit-learn's 1797 digits of 8 x 8 pixels: some stay upright at the server, the others are shifted.

    Keys: `rotation_deg` (40), `invert` (false), `general_samples` (697), `test_samples` (400), `seed` (0, of the
    split), `model`. Source: scikit-learn's copy of the UCI optical recognition of handwritten digits.
    """
    rotation_deg = options.number("rotation_deg", 40.0, low=-360.0, high=360.0)
    invert = options.flag("invert", False)
    general_samples = options.whole("general_samples", 697, low=1, high=1795)
    test_samples = options.whole("test_samples", 400, low=1, high=1796 - general_samples)
    seed = options.whole("seed", 0)
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("train", "scikit-learn") from None
    tree = load_digits()
    every = _Pixels(x=torch.from_numpy(tree.images / 16.0).float().unsqueeze(1), y=tree.target.astype(np.int64))
    order = np.random.default_rng([seed, 0]).permutation(len(every.y))
    general, test, train = np.split(order, [general_samples, general_samples + test_samples])

    def shifted(part: Ints) -> _Pixels:
        pixels = every.take(part)
        turned = shifts.rotate(pixels.x, rotation_deg) if rotation_deg else pixels.x
        return _Pixels(x=1.0 - turned if invert else turned, y=pixels.y)

    return _classifier("digits", every.take(general), shifted(train), shifted(test), options, kind="mlp", hidden=64)


def mnist_usps(options: Options, base: Path) -> Task:
    """MNIST as general data, USPS as task data (its own split).

    USPS is brought to MNIST's size, not the other way round: the model at the server stays the usual one, and the
    larger data set is not blurred. MNIST's digits lie in the middle 20 x 20 of their 28 x 28 pixels and those of
    USPS fill all of their 16 x 16, so USPS is enlarged to 20 x 20 (bilinear) and framed by four black pixels.
    Keys: `folder`, `model`.
    """
    folder = _folder(options, base)
    mnist, usps = load_images("mnist", folder), load_images("usps", folder)

    def grown(x: NDArray[np.uint8], y: Ints) -> _Pixels:
        return _Pixels(x=functional.pad(shifts.resize(_grey(x), 20), (4, 4, 4, 4)), y=y)

    return _classifier(
        "mnist-usps",
        _Pixels(x=_grey(mnist.x_train), y=mnist.y_train),
        grown(usps.x_train, usps.y_train),
        grown(usps.x_test, usps.y_test),
        options,
        kind="mlp",
        hidden=200,
    )


def mnist_rotated(options: Options, base: Path) -> Task:
    """MNIST, upright at the server and turned by a chosen angle at the devices; no image is in both.

    Keys: `folder`, `rotation_deg` (30), `seed` (0, of the split), `model`. The split does not depend on the angle, so
    that two angles differ in nothing but the turn.
    """
    folder = _folder(options, base)
    rotation_deg = options.number("rotation_deg", 30.0, low=-360.0, high=360.0)
    seed = options.whole("seed", 0)
    images = load_images("mnist", folder)
    order = np.random.default_rng([seed, 3]).permutation(len(images.y_train))
    general, train = np.split(order, [len(order) // 2])

    def turned(x: NDArray[np.uint8], y: Ints) -> _Pixels:
        return _Pixels(x=shifts.rotate(_grey(x), rotation_deg) if rotation_deg else _grey(x), y=y)

    return _classifier(
        "mnist-rotated",
        _Pixels(x=_grey(images.x_train[general]), y=images.y_train[general]),
        turned(images.x_train[train], images.y_train[train]),
        turned(images.x_test, images.y_test),
        options,
        kind="mlp",
        hidden=200,
    )


def cifar10_corrupted(options: Options, base: Path) -> Task:
    """CIFAR-10, clean at the server and corrupted at the devices; no image is in both.

    Keys: `folder`, `corruption` (noise, blur, contrast, brightness or pixelate; "blur"), `severity` (1 to 5; 3), `seed`
    (0, of the split and the noise), `model`.
    """
    folder = _folder(options, base)
    corruption = options.one_of("corruption", tuple(shifts.SEVERITIES), "blur")
    severity = options.whole("severity", 3, low=1, high=5)
    seed = options.whole("seed", 0)
    images = load_images("cifar10", folder)
    order = np.random.default_rng([seed, 1]).permutation(len(images.y_train))
    general, train = np.split(order, [len(order) // 2])
    noise = torch.Generator().manual_seed(seed)

    def spoilt(x: NDArray[np.uint8], y: Ints) -> _Pixels:
        return _Pixels(x=shifts.corrupt(_colour(x), corruption, severity, noise), y=y)

    return _classifier(
        "cifar10-corrupted",
        _Pixels(x=_colour(images.x_train[general]), y=images.y_train[general]),
        spoilt(images.x_train[train], images.y_train[train]),
        spoilt(images.x_test, images.y_test),
        options,
        kind="cnn",
        hidden=64,
    )


def cifar10_classes(options: Options, base: Path) -> Task:
    """CIFAR-10 with another mix of classes at the server than at the devices; no image is in both.

    Keys: `folder`, `focus` (the classes that change their share; the vehicles 0, 1, 8, 9), `general_share` (0.1, their
    share of the general data), `task_share` (0.9, of the task's training and test data), `seed` (0, of the draw),
    `model`.
    """
    folder = _folder(options, base)
    focus = options.wholes("focus", (0, 1, 8, 9), low=0, high=CLASSES - 1)
    if len(focus) == CLASSES:
        raise InputError.field("task.focus", list(focus), "not all of the classes")
    general_share = options.number("general_share", 0.1, low=0.0, high=1.0)
    task_share = options.number("task_share", 0.9, low=0.0, high=1.0)
    rng = np.random.default_rng([options.whole("seed", 0), 2])
    images = load_images("cifar10", folder)
    general, train = shifts.class_mixes(images.y_train, focus, (general_share, task_share), rng)
    (test,) = shifts.class_mixes(images.y_test, focus, (task_share,), rng)
    return _classifier(
        "cifar10-classes",
        _Pixels(x=_colour(images.x_train[general]), y=images.y_train[general]),
        _Pixels(x=_colour(images.x_train[train]), y=images.y_train[train]),
        _Pixels(x=_colour(images.x_test[test]), y=images.y_test[test]),
        options,
        kind="cnn",
        hidden=64,
    )


BUILTIN: dict[str, Callable[[Options, Path], Task]] = {
    "digits": digits,
    "mnist-usps": mnist_usps,
    "mnist-rotated": mnist_rotated,
    "cifar10-corrupted": cifar10_corrupted,
    "cifar10-classes": cifar10_classes,
}


def _folder(options: Options, base: Path) -> Path | None:
    given = options.text("folder") if options.has("folder") else None
    options.skip("folder")
    return data_folder(given, base)


def _grey(x: NDArray[np.uint8]) -> Tensor:
    return (torch.from_numpy(np.ascontiguousarray(x)).float() / 255.0).unsqueeze(1)


def _colour(x: NDArray[np.uint8]) -> Tensor:
    return (torch.from_numpy(np.ascontiguousarray(x)).float() / 255.0).permute(0, 3, 1, 2).contiguous()


def _classifier(
    name: str, general: _Pixels, train: _Pixels, test: _Pixels, options: Options, *, kind: str, hidden: int
) -> Task:
    """Standardise the pixels, read `task.model` and finish the section."""
    choice = options.section("model")
    kind = choice.one_of("kind", KINDS, kind)
    hidden = choice.whole("hidden", hidden, low=1, high=65536)
    choice.done()
    options.done()
    mean = general.x.mean(dim=(0, 2, 3), keepdim=True)
    scale = general.x.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)

    def samples(part: _Pixels) -> Samples:
        return Samples(x=((part.x - mean) / scale).contiguous(), y=torch.from_numpy(part.y))

    return Task(
        name=name,
        model=partial(make_model, kind, tuple(general.x.shape[1:]), CLASSES, hidden),
        general=samples(general),
        train=samples(train),
        test=samples(test),
    )
