"""Laws fitted to pilot runs: robustly, from many starts, and with the error that runs left out of the fit show.

The fit is by Huber's loss on the logarithm of predicted over measured, with a weak pull towards the middle of each
parameter's range (in logarithms), so that parameters which the runs say nothing about stay put. Which family is chosen
is decided by the error on paths left out (cross-validation over the paths, which have their rounds' noise in common),
and the same errors give the law's `spread`.

Needs SciPy, which comes with ``pretune[train]``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretune.convergence.laws import predict
from pretune.errors import InputError, MissingExtra
from pretune.law import COMMON, FAMILIES, Law
from pretune.physics.types import Floats

STARTS = 10
FOLDS = 6
LEVEL = 0.9
"""Share of runs that are to lie within a law's spread."""
HUBER = 0.08
"""Errors (of logarithms) above this count linearly only."""
RIDGE = 0.02
CLOSE = 1.15
"""A family whose error is within this factor of the best one's is as good: then the order of `PREFERRED` decides."""
PREFERRED = ("transfer", "product", "logistic", "effective", "decay")
"""By how they did on our own tasks (docs/calibrated.md)."""
LARGEST = 1e5
"""A loss above this is one that blew up."""
FEWEST = 16
"""Points that a fit needs at the least."""
BEYOND = 2.0
"""A law predicts gains up to this many times the rounds that its pilot runs made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Points:
    """What pilot runs measured, one entry a point, shape (P,).

    `noise` is ``sum_k alpha_k^2 sigma_k^2 / b_k``, `value` the loss (or error) of the model after `pretrain` and
    `finetune` rounds. Points with the same `path` are of one fine-tuning path.
    """

    pretrain: Floats
    finetune: Floats
    server_batch: Floats
    noise: Floats
    value: Floats
    path: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.value)

    @property
    def columns(self) -> Floats:
        """As `laws.predict` wants them, shape (P, 4)."""
        return np.stack([self.pretrain, self.finetune, 1.0 / self.server_batch, self.noise], axis=1)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Points:
        """Some of the points."""
        return Points(**{name: column[which] for name, column in vars(self).items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The chosen law, each family's median error on paths left out, and the bootstrap's laws, a row each."""

    law: Law
    errors: Mapping[str, float]
    draws: Floats

    def interval(self, columns: Floats) -> tuple[Floats, Floats]:
        """Where nine of ten single runs should lie: the bootstrap's laws spread by the law's `spread`; shapes (P,)."""
        spread = self.law.spread or 0.0
        logs = np.log(np.stack([predict(self.law.family, draw, columns) for draw in self.draws]))
        own = np.log(predict(self.law.family, np.asarray(self.law.values), columns))
        # the spread is that of whole laws about single runs: it has the average law's own error in it already
        wide = np.sqrt(spread**2 + np.maximum(_Z**2 * (logs.var(axis=0) - np.median(logs.var(axis=0))), 0.0))
        return np.exp(own - wide), np.exp(own + wide)


_Z = 1.6449
"""A normal variable lies within +-_Z standard deviations nine times in ten."""


def fit(
    points: Points,
    *,
    families: Sequence[str] = tuple(FAMILIES),
    measure: str = "loss",
    draws: int = 20,
    seed: int = 0,
) -> Fit:
    """The law of that family which predicts paths left out of its fit best (see `CLOSE`).

    Args:
        points: what the pilot runs measured.
        families: which to try.
        measure: what was measured, `loss` or `error`.
        draws: fits to resampled paths, for the uncertainty.
        seed: of the folds, the starts and the resampling.

    Raises:
        InputError: there are too few points or paths, or values that are no positive numbers.
        MissingExtra: SciPy is not installed.
    """
    paths = np.unique(points.path)
    if len(points) < FEWEST or len(paths) < 4:
        raise InputError(
            f"pilot runs: hold {len(points)} points on {len(paths)} paths, should hold at least {FEWEST} on at least 4"
        )
    if not (np.all(np.isfinite(points.value)) and np.all(points.value > 0.0) and points.value.max() <= LARGEST):
        raise InputError(
            f"pilot runs: hold losses from {points.value.min():.3g} to {points.value.max():.3g}, should hold finite "
            f"ones above zero and up to {LARGEST:g} (smaller steps keep training from blowing up)"
        )
    rng = np.random.default_rng(seed)
    folds = rng.permutation(np.arange(len(paths)) % min(FOLDS, len(paths)))
    fold_of = folds[np.searchsorted(paths, points.path)]
    errors: dict[str, Floats] = {}
    for family in families:
        left = np.full(len(points), np.nan)
        whole = fit_family(points, family, seed=seed)
        for fold in range(int(fold_of.max()) + 1):
            out = fold_of == fold
            values = fit_family(points.take(~out), family, seed=seed, near=whole)
            left[out] = np.log(predict(family, values, points.take(out).columns) / points.take(out).value)
        errors[family] = left
    medians = {family: float(np.median(np.abs(error))) for family, error in errors.items()}
    close = CLOSE * min(medians.values())
    best = next(family for family in [*PREFERRED, *families] if medians.get(family, math.inf) <= close)
    values = fit_family(points, best, seed=seed)
    spread = _rounded(np.quantile(np.abs(errors[best]), LEVEL))
    law = Law(family=best, values=tuple(_rounded(v) for v in values), measure=measure, spread=spread)
    rows = []
    for _ in range(draws):
        chosen = rng.choice(paths, size=len(paths))
        index = np.concatenate([np.flatnonzero(points.path == path) for path in chosen])
        rows.append(fit_family(points.take(index), best, seed=seed, near=values))
    return Fit(law=law, errors=medians, draws=np.array(rows).reshape(len(rows), len(values)))


def _rounded(value: float) -> float:
    """Six digits: more would only look exact in a file."""
    return float(f"{value:.6g}")


def fit_family(points: Points, family: str, *, seed: int = 0, near: Floats | None = None) -> Floats:
    """The parameters of one family, in the order of `Law.names`; from many starts, or only from `near`."""
    try:
        from scipy.optimize import least_squares
    except ImportError:
        raise MissingExtra("train", "scipy") from None
    low, high = _ranges(points, family)
    middle, width = 0.5 * (low + high), high - low
    columns, logs = points.columns, np.log(points.value)
    most = np.array([BEYOND * max(points.pretrain.max(), 1.0), BEYOND * max(points.finetune.max(), 1.0)])
    pull = RIDGE * math.sqrt(len(points))

    def values_of(t: Floats) -> Floats:
        return np.concatenate([np.exp(t), most])

    def residuals(t: Floats) -> Floats:
        found = np.log(predict(family, values_of(t), columns)) - logs
        return np.concatenate([found, pull * (t - middle) / width])

    rng = np.random.default_rng([seed, 7])
    if near is None:
        starts = [low + width * rng.uniform(0.15, 0.85, len(low)) for _ in range(STARTS)]
    else:
        starts = [np.log(near[:-2])]
    best, least = middle, math.inf
    for start in starts:
        inside = np.clip(start, low + 1e-4 * width, high - 1e-4 * width)
        done = least_squares(residuals, inside, bounds=(low, high), loss="huber", f_scale=HUBER, max_nfev=200)
        if done.cost < least:
            best, least = done.x, done.cost
    return values_of(best)


def _ranges(points: Points, family: str) -> tuple[Floats, Floats]:
    """Where the logarithms of a family's parameters are looked for, given the rounds and values that were seen."""
    most_m, most_n = max(points.pretrain.max(), 2.0), max(points.finetune.max(), 2.0)
    top, bottom = float(points.value.max()), float(points.value.min())
    noise = max(float(points.noise.max()), 1e-12)
    batch = max(float((1.0 / points.server_batch).max()), 1e-12)
    seen = {
        "floor": (0.02 * bottom, bottom),
        "scale": (0.5 * (top - 0.9 * bottom), 2.0 * top),
        "rounds": (0.005 * most_n, 20.0 * most_n),
        "power": (0.05, 8.0),
        "exchange": (0.05 * most_n, 10.0 * most_n),
        "finetune_rounds": (0.003 * most_n, 10.0 * most_n),
        "finetune_power": (0.05, 4.0),
        "pretrain_rounds": (0.003 * most_m, 10.0 * most_m),
        "pretrain_power": (0.03, 4.0),
        "shift_share": (1e-3, 1.0),
        "pretrain_noise": (1e-5 / batch, 2.0 / batch),
        "finetune_noise": (1e-5 / noise, 2.0 / noise),
        "noise_power": (0.05, 2.0),
    }
    if family in ("effective", "logistic"):  # there it multiplies M^b, with b up to one
        seen["exchange"] = (1e-3, 10.0 * most_n)
    ranges = []
    for name, allowed in {**FAMILIES[family], **COMMON}.items():
        if name not in ("pretrain_most", "finetune_most"):
            ranges.append((max(seen[name][0], allowed[0], 1e-12), min(seen[name][1], allowed[1])))
    table = np.log(np.array(ranges))
    return table[:, 0], table[:, 1]
