"""e. Accuracy against the number of devices, the shared band, their heterogeneity, and how data are dealt out.

One thing at a time is changed about a fleet of fifty devices on `mnist-rotated`; the budgets are the medium ones of
that fleet throughout. A dealing has a pilot of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune.planner.baselines import JOINT
from pretune.study import Experiment, Figure, Point, Scale, Table
from pretune.study.draw import drawing
from pretune.study.words import table_text

from ._runs import FEW, METHODS, against_best, budget_of, lines, mean_of, percent, rows_at

TASK = "mnist-rotated"
COUNT = 50
VALUES: dict[str, tuple[float | int | None, ...]] = {
    "count": (10, 50, 200),
    "band_hz": (5e6, 20e6, 80e6),
    "spread": (0.0, 1.0, 2.0),
    "alpha": (None, 1.0, 0.1),
}
NAMES = {
    "count": "devices",
    "band_hz": "shared band (MHz)",
    "spread": "spread of clocks, gains and samples",
    "alpha": "data: 0 iid, 1 Dirichlet 1.0, 2 Dirichlet 0.1",
}


def points(scale: Scale) -> list[Point]:
    """All values of one thing with the others at the reference."""
    if scale is Scale.SMOKE:
        head = {"task": "digits", "cell": "medium-medium", "seeds": 2, "smoke": True, "sweep": "count", "home": 4}
        return [Point(count=count, method=method, **head) for count in (4, 6) for method in FEW[:3]]
    found = []
    head = {"task": TASK, "cell": "medium-medium", "seeds": 5, "home": COUNT}
    for sweep, values in VALUES.items():
        for value in values:
            what = {"count": COUNT, sweep: value}
            found += [Point(sweep=sweep, method=method, **{**head, **what}) for method in METHODS]
    return found


def measure(point: Point) -> list[dict[str, Any]]:
    """Runs within the medium budgets of the reference fleet; `value` is what the figure has as its axis."""
    from pretune.study.fleets import Setting

    home = Setting(task=point.text("task"), count=point.integer("home"))
    sweep = point.text("sweep")
    value = point.get(sweep)
    if sweep == "alpha":
        value = VALUES["alpha"].index(value)  # type: ignore[arg-type]
    elif sweep == "band_hz":
        value = float(value) / 1e6  # type: ignore[arg-type]
    return [{"value": value, **row} for row in rows_at(point, budget_of(point, home))]


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """A panel for each thing that is changed."""
    sweeps = rows.distinct("sweep")
    if not sweeps:
        return []
    caption = (
        f"Test accuracy on `{rows.distinct('task')[0]}` at the same budgets against what is changed about the fleet. "
        "Means over seeds with 95 % intervals."
    )
    with drawing(folder, "fleet", caption, columns=len(sweeps), size=(3.2, 2.8)) as (axes, made):
        for i, sweep in enumerate(sweeps):
            lines(axes[0][i], rows.where(sweep=sweep), "value")
            axes[0][i].set(xlabel=NAMES[sweep])
            if sweep in ("count", "band_hz"):
                axes[0][i].set(xscale="log")
        axes[0][0].set_ylabel("test accuracy (%)")
        axes[0][0].legend(ncols=2, fontsize=6)
    return made


def words(rows: Table) -> str:
    """Joint planning and the best other at every value."""
    out = []
    for (sweep, value), part in rows.groups("sweep", "value"):
        own = part.where(method=JOINT)
        best, gain = against_best(part)
        rounds = f"{mean_of(own, 'pretrain'):.0f} + {mean_of(own, 'finetune'):.0f}"
        bands = percent(part.where(method="equal-bandwidth"))
        out.append([NAMES[sweep], f"{value:g}", rounds, percent(own), best, gain, bands])
    heads = (
        "what",
        "value",
        "joint M + N",
        "joint (%)",
        "best other",
        "joint above it (points)",
        "`equal-bandwidth` (%)",
    )
    return (
        table_text(heads, out)
        + "\n\nA fine-tuning round has one step of federated SGD: with it, data dealt out unevenly change the noise of "
        "the average gradient but not its mean, so there is no drift of the devices' models as with more local steps."
    )


EXPERIMENT = Experiment(
    name="fleet",
    title="e. Devices, bandwidth, heterogeneity, partition",
    question="How does accuracy at fixed budgets depend on the number of devices, the band, and how unequal they are?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
