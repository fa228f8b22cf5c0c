"""d. The split between the stages against data shift (a controlled angle) and against fleet quality.

The angle's pilots are made anew for every angle, the budgets are those of the task's own angle: medium ones. Quality
is a factor on all devices' clocks, or decibels on all gains, at those same budgets and the same law. Angles have ten
seeds, and two more for each method's step; qualities five and one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune.planner.baselines import JOINT
from pretune.study import Experiment, Figure, Point, Scale, Table
from pretune.study.draw import drawing
from pretune.study.words import points_text, table_text

from ._runs import FEW, METHODS, budget_of, difference, lines, mean_of, percent, rows_at

ANGLES = {"digits": (0.0, 20.0, 40.0, 60.0, 90.0), "mnist-rotated": (0.0, 15.0, 30.0, 45.0, 60.0, 90.0)}
GAINS_DB = (-12.0, -6.0, 6.0, 12.0)
CLOCKS = (0.125, 0.25, 0.5, 2.0)
SWEPT = {"angle": "rotation_deg", "gain": "gain_db", "clock": "clock_factor"}
NAMES = {"angle": "rotation (degrees)", "gain": "all gains by (dB)", "clock": "all clocks times"}


def points(scale: Scale) -> list[Point]:
    """Angles, gains and clocks, each with the others at the reference."""
    if scale is Scale.SMOKE:
        head = {"task": "digits", "cell": "medium-medium", "seeds": 2, "smoke": True, "sweep": "angle"}
        return [Point(rotation_deg=angle, method=method, **head) for angle in (20.0, 90.0) for method in FEW[:3]]
    found = []
    for task, angles in ANGLES.items():
        head = {"task": task, "cell": "medium-medium", "seeds": 5}
        more = {**head, "seeds": 10, "tuning": 2, "sweep": "angle"}
        for method in METHODS:
            found += [Point(rotation_deg=angle, method=method, **more) for angle in angles]
            found += [Point(sweep="gain", gain_db=gain, method=method, **head) for gain in (*GAINS_DB, 0.0)]
            found += [Point(sweep="clock", clock_factor=clock, method=method, **head) for clock in (*CLOCKS, 1.0)]
    return sorted(found, key=lambda point: (point.text("task"), point.text("sweep")))


def measure(point: Point) -> list[dict[str, Any]]:
    """Runs within the medium budgets of the task's reference setting."""
    from pretune.study.fleets import Setting

    return rows_at(point, budget_of(point, Setting(task=point.text("task"))))


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """A figure for each sweep: the joint plan's split above, accuracies below; a column for each task."""
    made: list[Figure] = []
    for sweep, field in SWEPT.items():
        part = rows.where(sweep=sweep)
        tasks = part.distinct("task")
        if not tasks:
            continue
        caption = (
            f"Above: the share of the delay that the joint plan gives to pre-training, against {NAMES[sweep]}. Below: "
            "test accuracies at the same budgets, means over seeds with 95 % intervals."
        )
        with drawing(folder, f"shift_{sweep}", caption, rows=2, columns=len(tasks), size=(3.6, 2.4)) as (axes, done):
            for i, task in enumerate(tasks):
                own = part.where(task=task)
                lines(axes[0][i], own.where(method=JOINT), field, "pretrain_share")
                lines(axes[1][i], own, field)
                axes[0][i].set(title=task, ylim=(0.0, 100.0))
                axes[1][i].set(xlabel=NAMES[sweep])
                if sweep == "clock":
                    axes[0][i].set(xscale="log")
                    axes[1][i].set(xscale="log")
            axes[0][0].set_ylabel("pre-training (% of delay)")
            axes[1][0].set_ylabel("test accuracy (%)")
            axes[1][0].legend(ncols=2, fontsize=6)
        made += done
    return made


def words(rows: Table) -> str:
    """The split, and by how much both stages beat fine-tuning alone; where that ends."""
    out, ends = [], []
    for (task, sweep), part in rows.groups("task", "sweep"):
        field, paying, failing = SWEPT[sweep], [], []
        for value in sorted(part.distinct(field)):
            at = part.where(**{field: value})
            own = at.where(method=JOINT)
            gain = difference(at, "finetune-only")
            rounds = f"{mean_of(own, 'pretrain'):.0f} + {mean_of(own, 'finetune'):.0f}"
            share = f"{100.0 * mean_of(own, 'pretrain_share'):.0f}"
            alone = percent(at.where(method="finetune-only"))
            out.append([task, NAMES[sweep], f"{value:g}", rounds, share, percent(own), alone, points_text(gain)])
            (paying if gain.low > 0.0 else failing).append(f"{value:g}")
        told = f"pays at {', '.join(paying) or 'none'}"
        ends.append(f"{task}, {NAMES[sweep]}: {told}" + (f", not shown to at {', '.join(failing)}" if failing else ""))
    heads = (
        "task",
        "what",
        "value",
        "joint M + N",
        "pre-training (% of delay)",
        "joint (%)",
        "fine-tuning only (%)",
        "joint above it (points)",
    )
    return (
        table_text(heads, out, left=2)
        + "\n\nWhere pre-training pays: joint planning is above fine-tuning alone with the whole 95 % interval (each "
        "taken by itself). " + "; ".join(ends) + "."
    )


EXPERIMENT = Experiment(
    name="shift",
    title="d. The split between the stages",
    question="How does the best split depend on the shift of the data and on the fleet, and where does pre-training "
    "stop paying?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
