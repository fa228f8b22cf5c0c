"""g. Each kind of decision frozen in turn, several at once, and the three criteria beside each other.

What freezes what: `equal-split` the budgets' split between the stages, `pretrain-only` and `finetune-only` the rounds
of a stage at none, `fixed-batch` batches at 32, `fixed-clock` and `fixed-power` clocks and powers at their highest,
`equal-bandwidth` the shares of the band. `fixed-resources` freezes clocks, powers and shares, `all-fixed` batches too,
so that only the rounds are planned. `trajectory`, `final` and `calibrated-loss` are joint plans by another criterion;
`joint` has the law for the test error (`calibrated`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.planner.baselines import JOINT
from pretune.study import Experiment, Figure, Point, Scale, Table, grid
from pretune.study.draw import colour_of, drawing
from pretune.study.statistics import mean_interval
from pretune.study.words import points_text, table_text

from ._runs import METHODS, budget_of, difference, mean_of, percent, rows_at

TASKS = ("digits", "mnist-usps", "cifar10-corrupted")
"""Those whose constants, which `trajectory` and `final` need, have been measured (experiments/scenarios)."""
CELLS = ("tight-tight", "medium-medium")
FROZEN = (*(name for name in METHODS if name not in (JOINT, "random")), "fixed-resources", "all-fixed")
CRITERIA = ("trajectory", "final", "calibrated-loss")


def points(scale: Scale) -> list[Point]:
    """Tasks, two cells, and everything that is frozen or minimised."""
    if scale is Scale.SMOKE:
        some = (JOINT, "equal-bandwidth", "all-fixed", "trajectory")
        return grid(task=("digits",), cell=CELLS[1:], method=some, seeds=(2,), smoke=(True,))
    return grid(task=TASKS, cell=CELLS, method=(JOINT, *FROZEN, *CRITERIA), seeds=(10,), tuning=(2,))


def measure(point: Point) -> list[dict[str, Any]]:
    """Runs of the point's way of planning."""
    return rows_at(point, budget_of(point))


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """Bars: how far joint planning is above each, by task and cell."""
    tasks, cells = rows.distinct("task"), rows.distinct("cell")
    if not tasks:
        return []
    caption = (
        "How many points of test accuracy are lost when a decision is frozen or another criterion is minimised (joint "
        "planning by the calibrated law less the other), with 95 % intervals over paired seeds."
    )
    with drawing(folder, "ablation", caption, rows=len(cells), columns=len(tasks), size=(3.4, 2.9)) as (axes, made):
        for i, cell in enumerate(cells):
            for j, task in enumerate(tasks):
                part = rows.where(task=task, cell=cell)
                names = [name for name in part.distinct("method") if name != JOINT]
                gaps = [difference(part, name) for name in names]
                known = [(name, gap) for name, gap in zip(names, gaps, strict=True) if gap.count]
                for at, (name, gap) in enumerate(known):
                    half = 0.0 if np.isnan(gap.half) else 100.0 * gap.half
                    axes[i][j].barh(at, 100.0 * gap.mean, xerr=half, color=colour_of(name, at), height=0.7)
                axes[i][j].set(yticks=range(len(known)), yticklabels=[name for name, _ in known])
                axes[i][j].set(title=f"{task}, {cell.split('-')[0]}", xlabel="points lost")
                axes[i][j].tick_params(labelsize=7)
    return made


def words(rows: Table) -> str:
    """The plan and accuracy of each, and how far below joint planning it is; which decision matters most."""
    out, most = [], []
    for (task, cell), part in rows.groups("task", "cell"):
        losses = {}
        for (method,), own in part.groups("method"):
            rounds = f"{mean_of(own, 'pretrain'):.0f} + {mean_of(own, 'finetune'):.0f}"
            if not mean_interval(own.numbers("accuracy")).count:
                out.append([task, cell.split("-")[0], method, "no plan", None, None])
                continue
            gap = difference(part, method)
            told = None if method == JOINT else points_text(gap)
            out.append([task, cell.split("-")[0], method, rounds, percent(own), told])
            if method in FROZEN:
                losses[method] = gap
        clear = [f"{name} ({100.0 * gap.mean:+.1f})" for name, gap in losses.items() if gap.low > 0.0]
        harmless = [name for name, gap in losses.items() if not gap.low > 0.0]
        most.append(
            f"{task}, {cell.split('-')[0]}: costs accuracy: {', '.join(clear) or 'none'}; no clear loss: "
            f"{', '.join(harmless) or 'none'}"
        )
    heads = ("task", "regime", "frozen, or minimised", "M + N", "accuracy (%)", "joint above it (points) [95 %]")
    return (
        table_text(heads, out, left=3) + "\n\nBy the interval of each (uncorrected), freezing: " + ". ".join(most) + "."
    )


EXPERIMENT = Experiment(
    name="ablation",
    title="g. Ablation and criteria",
    question="What does each decision contribute, and what does the criterion?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
