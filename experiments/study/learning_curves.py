"""b. Test accuracy and loss along the runs, over simulated delay and over energy, at medium budgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.study import Experiment, Figure, Point, Scale, Table, grid
from pretune.study.draw import band, colour_of, drawing
from pretune.study.statistics import mean_interval
from pretune.study.words import number, table_text

from ._runs import FEW, METHODS, STEPS_SMOKE, TASKS, budget_of, mean_of, methods_in, percent, setting_of

AXES = (("at_delay_s", "simulated delay (s)"), ("at_energy_j", "energy (J)"))


def points(scale: Scale) -> list[Point]:
    """Tasks and methods at the medium cell."""
    if scale is Scale.SMOKE:
        return grid(task=("digits",), cell=("medium-medium",), method=FEW[:3], seeds=(2,), smoke=(True,))
    return grid(task=TASKS, cell=("medium-medium",), method=METHODS, seeds=(5,))


def measure(point: Point) -> list[dict[str, Any]]:
    """Looks along every seed's run, with the step that the search chose for the method."""
    from pretune.study.simulate import EVALUATION_SEEDS, STEPS, TUNING_SEEDS, choose, curve_of, step_of

    smoke, setting, budget = bool(point.get("smoke")), setting_of(point), budget_of(point)
    method = point.text("method")
    drawn = method == "random"
    seeds, steps = (TUNING_SEEDS[:1], STEPS_SMOKE) if smoke else (TUNING_SEEDS, STEPS)
    first = choose(setting, budget, method, smoke=smoke, seed=seeds[0] if drawn else 0)
    if first is None:
        return []
    step, rows = step_of(setting, first, seeds, steps), []
    for seed in EVALUATION_SEEDS[: point.integer("seeds")]:
        choice = choose(setting, budget, method, smoke=smoke, seed=seed) if drawn else first
        if choice is not None:
            looks = curve_of(setting, choice, step, seed, marks=4 if smoke else 12)
            rows += [{"seed": seed, "look": i, **row} for i, row in enumerate(looks)]
    return rows


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """Two figures, accuracy and loss; a column for each task, delay above and energy below."""
    tasks, made = rows.distinct("task"), []
    for column, label, scale in (("accuracy", "test accuracy (%)", 100.0), ("loss", "test loss", 1.0)):
        caption = (
            f"The {label.split(' (')[0]} on the way at medium budgets, over the delay so far (above) and the energy "
            "so far (below). Each stage's looks are at equal shares of its rounds; means over seeds with 95 % "
            "intervals. `random` has another plan for every seed and is not drawn."
        )
        if not tasks:
            continue
        with drawing(folder, f"curves_{column}", caption, rows=2, columns=len(tasks), size=(3.2, 2.4)) as (axes, done):
            for i, task in enumerate(tasks):
                for row, (along, name) in enumerate(AXES):
                    _curves(axes[row][i], rows.where(task=task), along, column, scale)
                    axes[row][i].set(xlabel=name)
                axes[0][i].set_title(task, fontsize=9)
            for row in axes:
                row[0].set_ylabel(label)
            axes[0][0].legend(ncols=2, fontsize=6)
        made += done
    return made


def _curves(axes: Any, rows: Table, along: str, column: str, scale: float) -> None:
    for i, method in enumerate(methods_in(rows)):
        if method == "random":
            continue
        looks = [part for _, part in rows.where(method=method).groups("look")]
        found = [mean_interval(part.numbers(column)) for part in looks]
        half = [0.0 if np.isnan(one.half) else scale * one.half for one in found]
        at = [mean_of(part, along) for part in looks]
        band(axes, at, [scale * one.mean for one in found], half, label=method, colour=colour_of(method, i))


def words(rows: Table) -> str:
    """When each method reaches the accuracy that the worst of them ends with."""
    out = []
    for (task,), part in rows.groups("task"):
        ends = {}
        for (method,), own in part.groups("method"):
            if method != "random":
                last = max(own.distinct("look"))
                ends[method] = (own, mean_of(own.where(look=last), "accuracy"), own.where(look=last))
        if not ends:
            continue
        level = min(end for _, end, _ in ends.values())
        for method, (own, _, last) in ends.items():
            reached = next((at for _, at in own.groups("look") if mean_of(at, "accuracy") >= level), None)
            when = "–" if reached is None else number(mean_of(reached, "at_delay_s"))
            spent = "–" if reached is None else number(mean_of(reached, "at_energy_j"))
            out.append([task, method, percent(last), f"{100.0 * level:.1f}", when, spent])
    heads = ("task", "method", "in the end (%)", "level (%)", "reached after (s)", "after (J)")
    return (
        "The level is the mean accuracy that the worst method of the task ends with; it is reached at the first look "
        "at which the mean over the seeds is no lower.\n\n" + table_text(heads, out, left=2)
    )


EXPERIMENT = Experiment(
    name="learning_curves",
    title="b. Accuracy and loss over delay and energy",
    question="How do accuracy and loss rise over simulated delay and energy under each way of planning?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
