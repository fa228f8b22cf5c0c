"""f. The energy-delay-accuracy front, joint planning against every baseline, and the volume between the fronts.

Nine cells: three energy budgets by three delays, those of the regimes. A method's front in a seed is made of what its
plans really take: within E joules and T seconds it reaches the highest accuracy among its runs that took no more of
either. The volume under the front is the mean of that over the box of budgets, both axes logarithmic, from tight to
ample; where a method has nothing yet it counts as guessing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.planner.baselines import JOINT
from pretune.study import Experiment, Figure, Point, Scale, Table, grid
from pretune.study.draw import colour_of, drawing
from pretune.study.statistics import mean_interval, paired
from pretune.study.words import interval_text, p_text, points_text, table_text

from ._runs import FEW, METHODS, budget_of, mean_of, methods_in, rows_at

LEVELS = ("tight", "medium", "ample")
TASKS = ("digits", "mnist-usps", "mnist-rotated")
GUESS = 0.1


def points(scale: Scale) -> list[Point]:
    """The full grid of cells; what experiment c has run already is not run again."""
    if scale is Scale.SMOKE:
        cells = ("tight-tight", "medium-medium")
        return grid(task=("digits",), cell=cells, method=FEW[:3], seeds=(2,), smoke=(True,))
    cells = tuple(f"{energy}-{delay}" for energy in LEVELS for delay in LEVELS)
    found = grid(task=TASKS, cell=cells, method=METHODS, seeds=(5,))
    return [Point(tuning=2 if _on_diagonal(point) else 1, **point) for point in found]


def _on_diagonal(point: Point) -> bool:
    """Whether both budgets are of the same regime: there c uses two seeds to choose the step."""
    energy, _, delay = point.text("cell").partition("-")
    return energy == delay


def measure(point: Point) -> list[dict[str, Any]]:
    """Runs of the method in the cell."""
    energy, _, delay = point.text("cell").partition("-")
    return [{"energy_level": energy, "delay_level": delay, **row} for row in rows_at(point, budget_of(point))]


def volume(runs: Table, box: Table) -> float:
    """The mean of the best accuracy within (E, T) over the box of the budgets in `box`, both axes logarithmic."""
    (low_e, high_e), (low_t, high_t) = (
        (math.log(column.min()), math.log(column.max())) for column in map(box.numbers, ("energy_j", "delay_s"))
    )
    used = Table(row for row in runs if row.get("accuracy") is not None)
    at_energy = np.clip(np.log(used.numbers("spent_j")), low_e, high_e).tolist()
    at_delay = np.clip(np.log(used.numbers("took_s")), low_t, high_t).tolist()
    held = list(zip(at_energy, at_delay, used.numbers("accuracy").tolist(), strict=True))
    if high_e <= low_e or high_t <= low_t:
        return math.nan
    at_e = sorted({low_e, high_e, *(point[0] for point in held)})
    at_t = sorted({low_t, high_t, *(point[1] for point in held)})
    total = 0.0
    for e, next_e in itertools.pairwise(at_e):
        for t, next_t in itertools.pairwise(at_t):
            best = max((a for x, y, a in held if x <= e and y <= t), default=GUESS)
            total += best * (next_e - e) * (next_t - t)
    return total / ((high_e - low_e) * (high_t - low_t))


def volumes(rows: Table) -> dict[str, dict[Any, float]]:
    """By method and seed, of one task's rows."""
    found: dict[str, dict[Any, float]] = {}
    for (method, seed), part in rows.groups("method", "seed"):
        found.setdefault(method, {})[seed] = volume(part, rows)
    return found


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """Joint planning's accuracies over the grid, and every method's runs in energy and accuracy."""
    tasks = rows.distinct("task")
    if not tasks:
        return []
    caption = (
        "Above: what the runs took in energy and reached in accuracy, means over seeds, at the medium delay budget. "
        "Below: joint planning's mean accuracy less that of the best other method, in points, in every cell."
    )
    with drawing(folder, "front", caption, rows=2, columns=len(tasks), size=(3.4, 2.7)) as (axes, made):
        for i, task in enumerate(tasks):
            part = rows.where(task=task)
            for j, method in enumerate(methods_in(part)):
                cells = [own for _, own in part.where(method=method, delay_level="medium").groups("cell")]
                spots = sorted(
                    (mean_of(own, "spent_j"), 100.0 * mean_of(own, "accuracy"))
                    for own in cells
                    if not math.isnan(mean_of(own, "accuracy"))
                )
                if spots:
                    x, y = zip(*spots, strict=True)
                    axes[0][i].plot(x, y, marker="o", color=colour_of(method, j), label=method)
            axes[0][i].set(xscale="log", xlabel="energy spent (J)", title=task)
            _cells(axes[1][i], part)
        axes[0][0].set_ylabel("test accuracy (%)")
        axes[1][0].set_ylabel("energy budget")
        axes[0][0].legend(ncols=2, fontsize=6)
    return made


def _cells(axes: Any, rows: Table) -> None:
    grid_ = np.full((len(LEVELS), len(LEVELS)), np.nan)
    for i, energy in enumerate(LEVELS):
        for j, delay in enumerate(LEVELS):
            part = rows.where(energy_level=energy, delay_level=delay)
            others = [mean_of(own, "accuracy") for (name,), own in part.groups("method") if name != JOINT]
            known = [value for value in others if not math.isnan(value)]
            if known:
                grid_[i, j] = 100.0 * (mean_of(part.where(method=JOINT), "accuracy") - max(known))
    axes.imshow(grid_, cmap="RdBu", vmin=-5.0, vmax=5.0, origin="lower", aspect="auto")
    for i in range(len(LEVELS)):
        for j in range(len(LEVELS)):
            if not math.isnan(grid_[i, j]):
                axes.text(j, i, f"{grid_[i, j]:+.1f}", ha="center", va="center")
    axes.set(xticks=range(len(LEVELS)), yticks=range(len(LEVELS)), xticklabels=LEVELS, yticklabels=LEVELS)
    axes.set(xlabel="delay budget")
    axes.grid(visible=False)


def words(rows: Table) -> str:
    """The volumes, and what lies between joint planning's and every other."""
    out, lost = [], []
    for (task,), part in rows.groups("task"):
        found = volumes(part)
        mine = found.get(JOINT, {})
        for method, held in found.items():
            own = interval_text(mean_interval(list(held.values())), 1, scale=100.0)
            if method == JOINT:
                out.append([task, method, own, None, None])
                continue
            seeds = [seed for seed in held if seed in mine]
            test = paired([mine[seed] for seed in seeds], [held[seed] for seed in seeds])
            out.append([task, method, own, points_text(test.difference), p_text(test.t_p)])
            if test.difference.high < 0.0:
                lost.append(f"{method} on {task}")
    heads = ("task", "method", "volume (%)", "joint above it (points) [95 %]", "paired t, uncorrected p")
    said = "Joint planning's volume is below no other's with its whole interval."
    if lost:
        said = f"Joint planning's volume is below that of {', '.join(lost)} with its whole interval."
    return table_text(heads, out, left=2) + "\n\n" + said


EXPERIMENT = Experiment(
    name="front",
    title="f. The energy-delay-accuracy front",
    question="How much accuracy lies between joint planning's front and the others', over all budgets at once?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
