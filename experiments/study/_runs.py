"""What the experiments that run plans have in common: settings and cells from points, and figures by method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pretune.planner.baselines import JOINT, NAMES
from pretune.study import Point, Table
from pretune.study.draw import band, colour_of
from pretune.study.statistics import Interval, mean_interval, paired
from pretune.study.words import interval_text, points_text

TASKS = ("digits", "mnist-usps", "mnist-rotated", "cifar10-corrupted")
METHODS = (JOINT, *(name for name in NAMES if name != "successive"))
"""All of `pretune compare` but `successive`, which takes seconds to minutes a plan."""
FEW = (JOINT, "pretrain-only", "finetune-only", "random")
"""What a smoke run looks at."""
FIELDS = ("task", "rotation_deg", "count", "spread", "band_hz", "gain_db", "clock_factor", "alpha")
STEPS_SMOKE = (0.1, 0.3)


def setting_of(point: Point) -> Any:
    """The setting that a point's fields describe; those that it lacks are the reference's."""
    from pretune.study.fleets import Setting

    return Setting(**{name: point[name] for name in FIELDS if name in point})


def rows_at(point: Point, budget: Any) -> list[dict[str, Any]]:
    """Runs of the point's method within a budget, with its number of seeds, of them `tuning` (1) to choose the step."""
    from pretune.study.simulate import EVALUATION_SEEDS, STEPS, TUNING_SEEDS, rows_of

    smoke = bool(point.get("smoke"))
    return rows_of(
        setting_of(point),
        budget,
        point.text("method"),
        EVALUATION_SEEDS[: point.integer("seeds")],
        tuning=TUNING_SEEDS[: point.integer("tuning") if "tuning" in point else 1],
        steps=STEPS_SMOKE if smoke else STEPS,
        smoke=smoke,
    )


def budget_of(point: Point, setting: Any = None) -> Any:
    """The budget of the point's cell, by the regimes of a setting (default: the point's own)."""
    from pretune.study.regimes import regimes_of

    home = setting_of(point) if setting is None else setting
    return regimes_of(home, smoke=bool(point.get("smoke"))).cell(point.text("cell"))


def methods_in(rows: Table) -> list[str]:
    """The methods that have rows, joint planning last so that it is drawn on top."""
    found: list[str] = rows.distinct("method")
    return [name for name in found if name != JOINT] + [name for name in found if name == JOINT]


def lines(axes: Any, rows: Table, x: str, y: str = "accuracy", *, scale: float = 100.0) -> None:
    """A line a method: the mean over seeds with its interval, at every value of `x`."""
    for i, method in enumerate(methods_in(rows)):
        found = []
        for (at,), part in rows.where(method=method).groups(x):
            interval = mean_interval(part.numbers(y))
            if at is not None and interval.count:
                half = 0.0 if np.isnan(interval.half) else interval.half
                found.append((float(at), scale * interval.mean, scale * half))
        if found:
            at, mean, half = zip(*sorted(found), strict=True)
            band(axes, at, mean, half, label=method, colour=colour_of(method, i), marker="o")


def difference(rows: Table, theirs: str, ours: str = JOINT, column: str = "accuracy") -> Interval:
    """Ours less theirs over the seeds that both have."""
    mine, others = (
        dict(zip(part.column("seed"), part.numbers(column), strict=True))
        for part in (rows.where(method=ours), rows.where(method=theirs))
    )
    seeds = [seed for seed in mine if seed in others]
    return paired([mine[seed] for seed in seeds], [others[seed] for seed in seeds]).difference


def best_other(rows: Table, others: Sequence[str]) -> str | None:
    """The method among `others` with the highest mean accuracy."""
    means = {name: mean_interval(rows.where(method=name).numbers("accuracy")).mean for name in others}
    known = {name: mean for name, mean in means.items() if not np.isnan(mean)}
    return max(known, key=lambda name: known[name]) if known else None


def percent(rows: Table, column: str = "accuracy") -> str:
    """The mean in percent, with its interval."""
    return interval_text(mean_interval(rows.numbers(column)), 1, scale=100.0)


def mean_of(rows: Table, column: str) -> float:
    """The mean of a column, without its empty cells."""
    return mean_interval(rows.numbers(column)).mean


def against_best(rows: Table) -> tuple[str, str]:
    """The best of the other methods, and how far joint planning is above it."""
    others = [name for name in rows.distinct("method") if name != JOINT]
    best = best_other(rows, others)
    return ("–", "–") if best is None else (best, points_text(difference(rows, best)))
