"""Who wins, where, and by how much: joint planning against every baseline, from tidy rows.

Rows have the columns ``task, regime, method, seed, accuracy, energy_j, delay_s``; the last two are the *budgets* of the
regime, one pair for each task and regime. `accuracy` is a share, empty where the method found no plan. An optional
column `split` holds ``tune`` for seeds that only choose the best baseline; the others then test it.

Two things are said openly. The best baseline is chosen by its mean accuracy; without `tune` seeds that is done on the
very seeds that test it, which flatters the baseline, never joint planning. And the correction is Holm's over all
comparisons of the whole table, not over those of a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np

from pretune.errors import InputError
from pretune.physics.types import Floats
from pretune.study.registry import Target
from pretune.study.statistics import ALPHA, Interval, Paired, bootstrap, holm, mean_interval, paired
from pretune.study.tables import Table

COLUMNS = ("task", "regime", "method", "seed", "accuracy", "energy_j", "delay_s")
OURS, TIGHT, TUNE = "joint", "tight", "tune"
SINGLE_OR_FIXED = (
    "pretrain-only",
    "finetune-only",
    "fixed-batch",
    "fixed-clock",
    "fixed-power",
    "equal-bandwidth",
    "equal-split",
)
"""The baselines of one stage only, or with some resource fixed: those that the target is about."""
WANTED = 0.02
"""By how much the target wants joint planning above the best of them where budgets are tight."""


class Verdict(StrEnum):
    """Of joint planning against a baseline; `no plan` where the baseline has none, `unknown` with too few seeds."""

    WIN = "win"
    TIE = "tie"
    LOSS = "loss"
    NO_PLAN = "no plan"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Joint planning beside one baseline at one task and regime; means over the seeds that both have."""

    task: str
    regime: str
    baseline: str
    best: bool
    ours: Interval
    theirs: Interval
    paired: Paired
    corrected_p: float
    verdict: Verdict


@dataclass(frozen=True, kw_only=True)
class Saving:
    """What joint planning leaves over of a budget when it only has to be as accurate as the best baseline.

    `axis` is the budget's column, `budget` what the baseline has, `needed` what joint planning needs for the same
    accuracy: the first crossing of its mean curve, linear in the logarithm of the budget; infinite where no budget that
    was measured is enough. `at_least`: the smallest measured budget is enough already, so the saving may be larger.
    `low` and `high` bound the saving by the bootstrap over seeds.
    """

    task: str
    regime: str
    axis: str
    baseline: str
    accuracy: float
    budget: float
    needed: float
    low: float
    high: float
    at_least: bool

    @property
    def saved(self) -> float:
        """Joules or seconds; negative where joint planning needs more than the baseline."""
        return self.budget - self.needed


def checked(rows: Table) -> Table:
    """The rows, if they are such.

    Raises:
        InputError: a column is missing, or a task's regime has two budgets.
    """
    missing = [name for name in COLUMNS if name not in rows.names]
    if len(rows) and missing:
        raise InputError.field("verdict rows", sorted(rows.names), "the column " + missing[0])
    for (task, regime), part in rows.groups("task", "regime"):
        for name in ("energy_j", "delay_s"):
            if len(part.distinct(name)) > 1:
                should = "one budget for each task and regime"
                raise InputError.field(f"verdict rows: {task}, {regime}: {name}", part.distinct(name), should)
    return rows


def comparisons(rows: Table, ours: str = OURS) -> list[Comparison]:
    """All comparisons, by task, regime and baseline in the order of the rows; p-values corrected over all of them.

    Raises:
        InputError: the rows are not what the module's text says.
    """
    found: list[Comparison] = []
    for (task, regime), part in checked(rows).groups("task", "regime"):
        tests = _by_method(_tested(part))
        mine = tests.get(ours, {})
        best = _best(part, ours)
        for method, theirs in tests.items():
            if method == ours:
                continue
            seeds = [seed for seed in mine if seed in theirs]
            pairs = np.array([[mine[seed], theirs[seed]] for seed in seeds]).reshape(-1, 2)
            pairs = pairs[~np.isnan(pairs).any(axis=1)]
            found.append(
                Comparison(
                    task=task,
                    regime=regime,
                    baseline=method,
                    best=method == best,
                    ours=mean_interval(pairs[:, 0] if len(pairs) else list(mine.values())),
                    theirs=mean_interval(pairs[:, 1]),
                    paired=paired(pairs[:, 0], pairs[:, 1]),
                    corrected_p=math.nan,
                    verdict=Verdict.NO_PLAN if not len(pairs) else Verdict.UNKNOWN,
                )
            )
    corrected = holm([one.paired.t_p for one in found])
    return [replace(one, corrected_p=p, verdict=_verdict(one, p)) for one, p in zip(found, corrected, strict=True)]


def _verdict(one: Comparison, p: float) -> Verdict:
    if math.isnan(p):
        return one.verdict
    if p >= ALPHA:
        return Verdict.TIE
    return Verdict.WIN if one.paired.difference.mean > 0.0 else Verdict.LOSS


def savings(rows: Table, ours: str = OURS, draws: int = 1000) -> list[Saving]:
    """Along every curve of at least three budgets of one kind at one budget of the other, for each of them.

    Raises:
        InputError: the rows are not what the module's text says.
    """
    found = []
    for axis, other in (("energy_j", "delay_s"), ("delay_s", "energy_j")):
        for (task, _), part in checked(rows).groups("task", other):
            budgets = sorted(part.distinct(axis))
            if len(budgets) >= 3:
                found += list(_along(task, axis, budgets, part, ours, draws))
    return found


def _along(task: str, axis: str, budgets: list[float], part: Table, ours: str, draws: int) -> Iterator[Saving]:
    at = [part.where(**{axis: budget}) for budget in budgets]
    tests = [_by_method(_tested(one)) for one in at]
    mine = [one.get(ours, {}) for one in tests]
    grid: Floats = np.array(budgets, dtype=np.float64)
    for i, budget in enumerate(budgets):
        best = _best(at[i], ours)
        if best is None:
            continue
        theirs = tests[i].get(best, {})
        seeds = [seed for seed in theirs if all(seed in one for one in mine)]
        curves = np.array([[one[seed] for one in mine] for seed in seeds]).reshape(-1, len(budgets))
        level = np.array([theirs[seed] for seed in seeds])
        if not seeds or np.isnan(level).any():
            continue

        def need(drawn: Any, curves: Floats = curves, level: Floats = level) -> float:
            return needed_for(grid, curves[drawn].mean(axis=0), float(level[drawn].mean()))

        needed = need(slice(None))
        low, high = bootstrap(need, len(seeds), draws=draws)
        yield Saving(
            task=task,
            regime=at[i].distinct("regime")[0],
            axis=axis,
            baseline=best,
            accuracy=float(level.mean()),
            budget=budget,
            needed=needed,
            low=budget - high,
            high=budget - low,
            at_least=needed <= budgets[0],
        )


def needed_for(budgets: Floats, curve: Floats, level: float) -> float:
    """The least budget at which the curve reaches the level; shapes (points,), budgets increasing; NaN never does."""
    reached = np.flatnonzero(curve >= level)
    if reached.size == 0:
        return math.inf
    j = int(reached[0])
    if j == 0 or math.isnan(curve[j - 1]):
        return float(budgets[j])
    share = (level - curve[j - 1]) / (curve[j] - curve[j - 1])
    return float(budgets[j - 1] * (budgets[j] / budgets[j - 1]) ** share)


def targets(found: Sequence[Comparison]) -> list[Target]:
    """The study's two targets, and what came of them; none where nothing was compared."""
    if not found:
        return []
    short, told = [], []
    for task in dict.fromkeys(one.task for one in found):
        some = [one for one in found if (one.task, one.regime) == (task, TIGHT) and one.baseline in SINGLE_OR_FIXED]
        some = [one for one in some if one.theirs.count]
        if not some:
            short.append(f"{task} (not measured)")
            continue
        best = max(some, key=lambda one: one.theirs.mean)
        gain = best.paired.difference.mean
        told.append(f"{task} {100.0 * gain:+.1f} points over {best.baseline} ({best.verdict.value})")
        if gain < WANTED:
            short.append(f"{task} ({100.0 * gain:+.1f})")
    lost = [one for one in found if one.verdict is Verdict.LOSS]
    where = [f"{one.task}, {one.regime}: {one.baseline} {100 * one.paired.difference.mean:+.1f}" for one in lost]
    return [
        Target(
            text="Where budgets are tight, at least 2 points above the best baseline of one stage or with a resource "
            "fixed, on every task",
            met=not short,
            why="; ".join(told) + (f". Short of it: {', '.join(short)}" if short else ""),
        ),
        Target(
            text="Never significantly below any baseline",
            met=not lost,
            why=f"{len(found)} comparisons; " + ("; ".join(where) if lost else "none is a significant loss"),
        ),
    ]


def table_of(found: Sequence[Comparison]) -> Table:
    """The comparisons as tidy rows, for the file beside the page."""
    return Table(
        {
            "task": one.task,
            "regime": one.regime,
            "baseline": one.baseline,
            "best": one.best,
            "seeds": one.paired.difference.count,
            "accuracy": _cell(one.ours.mean),
            "baseline_accuracy": _cell(one.theirs.mean),
            "difference": _cell(one.paired.difference.mean),
            "difference_low": _cell(one.paired.difference.low),
            "difference_high": _cell(one.paired.difference.high),
            "t_p": _cell(one.paired.t_p),
            "t_p_corrected": _cell(one.corrected_p),
            "wilcoxon_p": _cell(one.paired.wilcoxon_p),
            "verdict": one.verdict.value,
        }
        for one in found
    )


def _cell(value: float) -> float | None:
    return None if math.isnan(value) else value


def _tested(part: Table) -> Table:
    """The rows that test: those that did not choose, where some did."""
    return Table(row for row in part if row.get("split") != TUNE)


def _best(part: Table, ours: str) -> str | None:
    """The baseline of the highest mean accuracy, by the rows that choose; the first of equals, None without any."""
    choosing = part.where(split=TUNE)
    means = {
        method: mean_interval(list(held.values())).mean
        for method, held in _by_method(choosing if len(choosing) else part).items()
        if method != ours
    }
    known = {method: mean for method, mean in means.items() if not math.isnan(mean)}
    return max(known, key=lambda method: known[method]) if known else None


def _by_method(part: Table) -> dict[str, dict[Any, float]]:
    """Accuracy by method and seed.

    Raises:
        InputError: a seed is there twice.
    """
    found: dict[str, dict[Any, float]] = {}
    for row, accuracy in zip(part, part.numbers("accuracy"), strict=True):
        held = found.setdefault(str(row["method"]), {})
        if row["seed"] in held:
            where = f"verdict rows: {row['task']}, {row['regime']}, {row['method']}"
            raise InputError.field(where, f"seed {row['seed']} twice", "one row for each seed")
        held[row["seed"]] = float(accuracy)
    return found
