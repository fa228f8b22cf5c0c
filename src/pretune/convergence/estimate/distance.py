"""How far apart general and task data are: a Wasserstein distance that knows labels, by the POT library.

Two samples are ``sqrt(|x - x'|^2 + d(y, y')^2)`` apart. For class labels ``d(y, y')`` is itself a Wasserstein distance,
that of the inputs of class y of the one set and class y' of the other: the optimal transport data-set distance of
Alvarez-Melis and Fusi, "Geometric dataset distances via optimal transport" (NeurIPS 2020), here of order 1 with exact
inner distances instead of Gaussian ones. For other targets ``d`` is their Euclidean distance.

Finite samples of one and the same distribution are some distance apart: the distance between two samples of the same
side says how much of the figure that is. By convexity ``W(P, Q) <= E W(P_n, Q_n)``, and by the triangle inequality
``W(P, Q) >= E W(P_n, Q_n) - E W(P_n, P_n') - E W(Q_n, Q_n')``.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    return Distances(
        between=0.5 * (wasserstein(a, c) + wasserstein(b, d)), general=wasserstein(a, b), task=wasserstein(c, d)
    )


def wasserstein(a: Cloud, b: Cloud) -> float:
    """The Wasserstein-1 distance of two clouds, every sample with the same weight."""
    cost = np.sqrt(_squares(a.x, b.x) + _labels_apart(a, b))
    return _transport(cost)


def _labels_apart(a: Cloud, b: Cloud) -> Floats:
    """Squared distance of each pair of targets, shape (n, m)."""
    if not (a.of_classes and b.of_classes):
        return _squares(_numbers(a.y), _numbers(b.y))
    kinds_a, row = np.unique(a.y, return_inverse=True)
    kinds_b, column = np.unique(b.y, return_inverse=True)
    table = np.zeros((len(kinds_a), len(kinds_b)))
    for i in range(len(kinds_a)):
        for j in range(len(kinds_b)):
            cost = np.sqrt(_squares(a.x[row == i][:INNER], b.x[column == j][:INNER]))
            table[i, j] = _transport(cost) ** 2
    found: Floats = table[row][:, column]
    return found


def _numbers(y: Floats | Ints) -> Floats:
    return y.reshape(len(y), -1).astype(np.float64)


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> Floats:
    """Squared Euclidean distances, shape (n, m)."""
    squares: Floats = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1)[None, :] - 2.0 * (a @ b.T)
    return np.maximum(squares, 0.0)


def _transport(cost: Floats) -> float:
    try:
        import ot
    except ImportError:
        raise MissingExtra("train", "POT") from None
    rows, columns = cost.shape
    return float(ot.emd2(np.full(rows, 1.0 / rows), np.full(columns, 1.0 / columns), cost))
