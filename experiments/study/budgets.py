"""c. Accuracy against the delay budget at fixed energy, and against the energy budget at fixed delay.

The budgets follow a rule that knows the law and the joint plan but no evaluation run (`pretune.study.regimes`). All
cells have ten seeds, and two more for each method's step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune.planner.baselines import JOINT
from pretune.study import Experiment, Figure, Point, Scale, Table
from pretune.study.draw import drawing
from pretune.study.words import number, table_text

from ._runs import FEW, METHODS, TASKS, against_best, budget_of, lines, mean_of, percent, rows_at, setting_of

DIAGONAL = ("tight-tight", "medium-medium", "ample-ample")
SWEEPS = ("medium-tight", "medium-ample", "tight-medium", "ample-medium")
LITERATURE = "successive"
WHERE_LITERATURE = ("digits",)
"""The tasks with the literature's search; its plans take seconds to minutes each."""
PLANS = 20
"""Over so many plans a pilot's cost is shared in the table that charges it."""


def points(scale: Scale) -> list[Point]:
    """Tasks, cells and methods; the smoke scale is two cells on digits with a pilot of a few rounds."""
    if scale is Scale.SMOKE:
        head = {"task": "digits", "seeds": 2, "smoke": True}
        return [Point(cell=cell, method=method, **head) for cell in DIAGONAL[:2] for method in FEW]
    found = []
    for task in TASKS:
        for cell in (*DIAGONAL, *SWEEPS):
            more = (LITERATURE,) if task in WHERE_LITERATURE and cell in DIAGONAL else ()
            head = {"task": task, "cell": cell, "seeds": 10, "tuning": 2}
            found += [Point(method=method, **head) for method in (*METHODS, *more)]
    return found


def measure(point: Point) -> list[dict[str, Any]]:
    """Plan with the method, choose its step, run it with every seed; with what the pilot cost that it used."""
    from pretune.study.simulate import WITHOUT_PILOT, law_of

    setting, method = setting_of(point), point.text("method")
    pilot = law_of(setting, smoke=bool(point.get("smoke")))
    uses = method not in WITHOUT_PILOT
    energy, _, delay = point.text("cell").partition("-")
    head = {
        "regime": energy if energy == delay else f"{energy} energy, {delay} delay",
        "energy_level": energy,
        "delay_level": delay,
        "pilot_j": pilot.energy_j if uses else 0.0,
        "pilot_s": pilot.delay_s if uses else 0.0,
        "pilot_step": pilot.step,
    }
    return [{**head, **row} for row in rows_at(point, budget_of(point))]


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """A column for each task: the delay budget above, the energy budget below."""
    tasks = rows.distinct("task")
    caption = (
        "Test accuracy within a delay budget at the medium energy budget (above), and within an energy budget at the "
        "medium delay (below). Means over the seeds with 95 % intervals."
    )
    if not tasks:
        return []
    with drawing(folder, "budgets", caption, rows=2, columns=len(tasks), size=(3.2, 2.6)) as (axes, made):
        for i, task in enumerate(tasks):
            part = rows.where(task=task)
            lines(axes[0][i], part.where(energy_level="medium"), "delay_s")
            lines(axes[1][i], part.where(delay_level="medium"), "energy_j")
            axes[0][i].set(xscale="log", xlabel="delay budget (s)", title=task)
            axes[1][i].set(xscale="log", xlabel="energy budget (J)")
        for row in axes:
            row[0].set_ylabel("test accuracy (%)")
        axes[0][0].legend(ncols=2, fontsize=6)
    return made


def words(rows: Table) -> str:
    """The plans and accuracies of the diagonal, and what the pilot does to the comparison."""
    lines_ = []
    for (task, regime), part in _diagonal(rows).groups("task", "regime"):
        best, gain = against_best(part)
        own = part.where(method=JOINT)
        budget = f"{number(mean_of(part, 'energy_j'))} J, {number(mean_of(part, 'delay_s'))} s"
        split = f"{mean_of(own, 'pretrain'):.0f} + {mean_of(own, 'finetune'):.0f}"
        lines_.append([task, regime, budget, split, percent(own), best, gain])
    heads = ("task", "regime", "budgets", "joint M + N", "joint accuracy (%)", "best other", "joint above it (points)")
    return "\n\n".join([table_text(heads, lines_, left=3), _steps(rows), _ties(rows), _pilot(rows)])


def _diagonal(rows: Table) -> Table:
    return rows.within("cell", DIAGONAL)


def _steps(rows: Table) -> str:
    """Which steps the search chose, and whether the pilot's own step was among them."""
    told = []
    for (task,), part in rows.groups("task"):
        own = part.where(method=JOINT)
        steps = ", ".join(f"{step:g}" for step in sorted(part.distinct("step")))
        same = [row for row in own if row.get("step") is not None]
        share = sum(row["step"] == row["pilot_step"] for row in same)
        told.append(
            f"{task}: steps {steps}; the pilot's is {number(mean_of(part, 'pilot_step'))}, which is joint planning's "
            f"in {share} of {len(same)} runs"
        )
    return (
        "Step sizes that the search chose (every method has its own, from the same four and the same seeds): "
        + "; ".join(told)
        + ". Where a method's step is not the pilot's, the law did not know it."
    )


def _ties(rows: Table) -> str:
    """Where joint planning is the same decision as a baseline: there nothing can be gained."""
    found = []
    for (task, regime), part in _diagonal(rows).groups("task", "regime"):
        own = part.where(method=JOINT)
        if mean_of(own, "pretrain") == 0.0 or mean_of(own, "finetune") == 0.0:
            stage = "fine-tuning" if mean_of(own, "pretrain") == 0.0 else "pre-training"
            found.append(f"{task}, {regime} (all {stage})")
    if not found:
        return "In every regime of the diagonal the joint plan uses both stages."
    return (
        "The joint plan is one stage only in: "
        + "; ".join(found)
        + ". There the single-stage baseline is the same plan, and no gain is possible."
    )


def _pilot(rows: Table) -> str:
    """Break-even: over how many plans the pilot must be shared to beat what needs none."""
    lines_ = []
    for (task,), part in _diagonal(rows).groups("task"):
        own, other = part.where(method=JOINT), part.where(method="random")
        curve = sorted(
            (mean_of(at, "energy_j"), mean_of(at, "delay_s"), mean_of(at, "accuracy")) for _, at in own.groups("regime")
        )
        for (regime,), at in other.groups("regime"):
            level = mean_of(at, "accuracy")
            need = next((point for point in curve if point[2] >= level), None)
            energy, delay = mean_of(at, "energy_j"), mean_of(at, "delay_s")
            pilot_j, pilot_s = mean_of(own, "pilot_j"), mean_of(own, "pilot_s")
            shares = f"{pilot_j / PLANS:.3g} J, {pilot_s / PLANS:.3g} s"
            saved = None if need is None else (energy - need[0], delay - need[1])
            even = None if saved is None or min(saved) <= 0.0 else max(pilot_j / saved[0], pilot_s / saved[1])
            text = "no smaller budget measured" if even is None else f"{even:.0f}"
            lines_.append([task, regime, f"{100.0 * level:.1f}", f"{pilot_j:.3g} J, {pilot_s:.3g} s", shares, text])
    heads = (
        "task",
        "regime",
        "`random` (%)",
        "pilot",
        f"pilot shared over {PLANS} plans",
        "break-even (plans)",
    )
    return (
        "**The pilot.** All methods but `random` plan by the same law from the same pilot, so the same cost is charged "
        "to each of them and drops out of their comparison; `random` uses none. The pilot's cost is that of its runs "
        "on the reference fleet's own machines at full clock and power. Break-even: over how many plans it must be "
        "shared so that joint planning at the largest smaller regime in which it is no worse, with its share of the "
        "pilot, needs no more energy and no more delay than `random`.\n\n" + table_text(heads, lines_, left=2)
    )


def verdict(rows: Table) -> Table:
    """All cells are regimes of the verdict table."""
    names = ("task", "regime", "method", "seed", "accuracy", "energy_j", "delay_s")
    return Table({name: row.get(name) for name in names} for row in rows)


EXPERIMENT = Experiment(
    name="budgets",
    title="c. Accuracy against budgets",
    question="How accurate is each way of planning within a delay budget at fixed energy, and the other way round?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
    verdict=verdict,
)
