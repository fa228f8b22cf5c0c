"""How far apart general and task data are: a Wasserstein distance that knows labels, by the POT library.

Two samples are ``sqrt(|x - x'|^2 + d(y, y')^2)`` apart. For class labels ``d(y, y')`` is itself a Wasserstein distance,
that of the inputs of the two classes, in the manner of Alvarez-Melis and Fusi, "Geometric dataset distances via optimal
transport" (NeurIPS 2020). Here a class means the same on both sides, so that equal labels are no distance apart, and
the classes' inputs are the general data's (the task's where these have none). For other targets ``d`` is Euclidean.

Finite samples of one and the same distribution are some distance apart: the distance between two samples of the same
side says how much of the figure that is. By convexity ``W(P, Q) <= E W(P_n, Q_n)``, and by the triangle inequality
``W(P, Q) >= E W(P_n, Q_n) - E W(P_n, P_n') - E W(Q_n, Q_n')``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.convergence.estimate.subject import Data
from pretune.errors import MissingExtra
from pretune.physics.types import Floats, Ints

INNER = 64
"""Samples of a class in an inner distance, at most."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """Inputs, flattened, shape (n, d), and targets: class numbers of shape (n,), or numbers of shape (n, t)."""

    x: Floats
    y: Floats | Ints

    @property
    def of_classes(self) -> bool:
        """Whether the targets are class numbers."""
        return self.y.ndim == 1


@dataclass(frozen=True, kw_only=True)
class Distances:
    """Between the sides, and between two halves of each side."""

    between: float
    general: float
    task: float


def cloud_of(data: Data, chosen: Ints) -> Cloud:
    """The chosen samples as arrays."""
    x = data[0].detach().numpy()[chosen].reshape(len(chosen), -1).astype(np.float64)
    y = data[1].detach().numpy()[chosen]
    if y.ndim == 1 and np.issubdtype(y.dtype, np.integer):
        return Cloud(x=x, y=y)
    return Cloud(x=x, y=y.reshape(len(chosen), -1).astype(np.float64))


def sides_apart(general: Data, task: Data, most: int, rng: np.random.Generator) -> Distances:
    """The distance between the sides from `most` samples each, and what it would be if there were none.

    The samples of a side are halved, so all three distances are of equally many samples.

    Raises:
        MissingExtra: the POT library is not installed.
    """
    halves = min(most, len(general[0]), len(task[0])) // 2
    ours = rng.permutation(len(general[0]))[: 2 * halves]
    theirs = rng.permutation(len(task[0]))[: 2 * halves]
    a, b = cloud_of(general, ours[:halves]), cloud_of(general, ours[halves:])
    c, d = cloud_of(task, theirs[:halves]), cloud_of(task, theirs[halves:])
    classes = class_distances(_both(a, b), _both(c, d))
    return Distances(
        between=0.5 * (wasserstein(a, c, classes) + wasserstein(b, d, classes)),
        general=wasserstein(a, b, classes),
        task=wasserstein(c, d, classes),
    )


def _both(a: Cloud, b: Cloud) -> Cloud:
    return Cloud(x=np.concatenate([a.x, b.x]), y=np.concatenate([a.y, b.y]))


def wasserstein(a: Cloud, b: Cloud, classes: ClassDistances | None) -> float:
    """The Wasserstein-1 distance of two clouds, every sample with the same weight."""
    if classes is None:
        return _transport(np.sqrt(_squares(a.x, b.x) + _squares(_numbers(a.y), _numbers(b.y))))
    row, column = np.searchsorted(classes.kinds, a.y), np.searchsorted(classes.kinds, b.y)
    return _transport(np.sqrt(_squares(a.x, b.x) + classes.squares[row][:, column]))


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassDistances:
    """The class numbers that occur, sorted, shape (c,), and the squared distance of each pair, shape (c, c)."""

    kinds: Ints
    squares: Floats


def class_distances(general: Cloud, task: Cloud) -> ClassDistances | None:
    """See above; None where targets are no classes."""
    if not (general.of_classes and task.of_classes):
        return None
    kinds = np.union1d(general.y, task.y)
    inputs = [(general if np.any(general.y == kind) else task) for kind in kinds]
    clouds = [side.x[side.y == kind][:INNER] for side, kind in zip(inputs, kinds, strict=True)]
    squares = np.zeros((len(kinds), len(kinds)))
    for i in range(len(kinds)):
        for j in range(i):
            squares[i, j] = squares[j, i] = _transport(np.sqrt(_squares(clouds[i], clouds[j]))) ** 2
    return ClassDistances(kinds=kinds, squares=squares)


def _numbers(y: Floats | Ints) -> Floats:
    return y.reshape(len(y), -1).astype(np.float64)


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> Floats:
    """Squared Euclidean distances, shape (n, m)."""
    squares: Floats = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    return np.maximum(squares, 0.0)


def transport_library() -> Any:
    """POT.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import ot
    except ImportError:
        raise MissingExtra("train", "POT") from None
    return ot


def _transport(cost: Floats) -> float:
    rows, columns = cost.shape
    return float(transport_library().emd2(np.full(rows, 1.0 / rows), np.full(columns, 1.0 / columns), cost))
