"""The charts of a run: what was learnt over simulated time and energy, and how it kept to the plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from pretune.ledger import Stage
from pretune.physics.types import Floats
from pretune.report.charts import Axis, Band, Line, Rule, chart
from pretune.report.folder import RunFolder
from pretune.report.spending import FINETUNE, PRETRAIN

SAME = 1e-9
"""Figures closer than this share are the same: what is left is rounding."""
_STAGES = ((Stage.PRETRAIN, PRETRAIN, "pre"), (Stage.FINETUNE, FINETUNE, "fine"))


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """The ledger as columns, one entry a record, with the stage of each."""

    stage: list[Stage]
    time_s: Floats
    energy_j: Floats
    round: Floats

    def of(self, stage: Stage) -> NDArray[np.bool_]:
        return np.array([each is stage for each in self.stage], dtype=bool)

    def bands(self, x: Floats) -> list[Band]:
        """The stretch of `x` that each stage fills; a stage starts where the one before it ended."""
        found, start = [], float(x[0]) if x.size else 0.0
        for stage, label, colour in _STAGES:
            inside = x[self.of(stage)]
            if inside.size:
                found.append(Band(label=label, colour=colour, start=start, end=float(inside[-1])))
                start = float(inside[-1])
        return found


def time_axis(longest: float) -> Axis:
    """Seconds, minutes or hours, whichever reads best."""
    if longest < 300:
        return Axis(label="simulated time (s)", from_zero=True)
    if longest < 3 * 3600:
        return Axis(label="simulated time (min)", divide=60.0, from_zero=True)
    return Axis(label="simulated time (h)", divide=3600.0, from_zero=True)


def energy_axis(most: float, *, caption: str = "energy spent") -> Axis:
    """Joules with the prefix that reads best."""
    for divide, unit in ((1e6, "MJ"), (1e3, "kJ"), (1.0, "J"), (1e-3, "mJ")):
        if most >= 2 * divide:
            return Axis(label=f"{caption} ({unit})", divide=divide, from_zero=True)
    return Axis(label=f"{caption} (J)", from_zero=True)


def learning(run: RunFolder) -> list[Markup]:
    """Loss and accuracy over time and over energy, and the gradient norm over rounds."""
    columns = _columns(run)
    last_s, last_j = float(columns.time_s.max(initial=0.0)), float(columns.energy_j.max(initial=0.0))
    pairs = ((columns.time_s, time_axis(last_s), "simulated time"), (columns.energy_j, energy_axis(last_j), "energy"))
    found = []
    for x, axis, name in pairs:
        found.append(
            chart(
                f"Accuracy on the test set, over {name}",
                [_tested(run, columns, x, "test_accuracy", "Test accuracy")],
                axis,
                Axis(label="accuracy", percent=True, from_zero=True),
                bands=columns.bands(x),
            )
        )
    for x, axis, name in pairs:
        found.append(
            chart(
                f"Loss, over {name}",
                [
                    *_by_stage(run, columns, x, "loss", "training batches"),
                    _tested(run, columns, x, "test_loss", "Test loss"),
                ],
                axis,
                Axis(label="loss", from_zero=True),
                bands=columns.bands(x),
            )
        )
    found.append(
        chart(
            "Squared norm of the stochastic gradient, over rounds",
            _by_stage(run, columns, columns.round, "gradient_norm_sq", ""),
            Axis(label="round, both stages counted", from_zero=True),
            Axis(label="squared norm", log=True),
            bands=columns.bands(columns.round),
        )
    )
    found.append(_way(run, columns))
    return [figure for figure in found if figure is not None]


def _way(run: RunFolder, columns: _Columns) -> Markup | None:
    budget, ledger = run.scenario.budget, run.ledger
    planned_s, planned_j = np.cumsum(ledger.column("planned_s")), np.cumsum(ledger.column("planned_j"))
    return chart(
        "Energy spent against time, beside the budgets",
        [
            *(
                Line(label=f"{label}, realised", colour=colour, x=columns.time_s[on], y=columns.energy_j[on])
                for stage, label, colour in _STAGES
                for on in [_joined(columns, stage)]
                if on.any()
            ),
            Line(label="planned", colour="ink", x=planned_s, y=planned_j, style="dashed"),
        ],
        time_axis(budget.delay_s),
        energy_axis(budget.energy_j, caption="energy"),
        rules=[
            Rule(label="delay budget", axis="x", at=budget.delay_s),
            Rule(label="energy budget", axis="y", at=budget.energy_j),
        ],
    )


def keeping_to_the_plan(run: RunFolder) -> list[Markup]:
    """Each round's cost against its plan; nothing when no round differs from it."""
    columns, ledger = _columns(run), run.ledger
    ratios = []
    for key, label, colour in (("s", "time", "down"), ("j", "energy", "up")):
        planned, realised = ledger.column(f"planned_{key}"), ledger.column(f"realised_{key}")
        ratio = np.divide(realised, planned, out=np.full_like(planned, np.nan), where=planned > 0)
        ratios.append(Line(label=label, colour=colour, x=columns.round, y=ratio, style="noisy"))
    if not any((np.abs(line.y - 1) >= SAME).any() for line in ratios):
        return []
    against = chart(
        "Realised cost of each round, as a multiple of the planned one",
        ratios,
        Axis(label="round, both stages counted", from_zero=True),
        Axis(label="realised / planned"),
        bands=columns.bands(columns.round),
    )
    return [] if against is None else [against]


def _columns(run: RunFolder) -> _Columns:
    records = run.ledger.records
    return _Columns(
        stage=[record.stage for record in records],
        time_s=run.ledger.column("elapsed_s"),
        energy_j=run.ledger.column("elapsed_j"),
        round=np.arange(len(records), dtype=np.float64),
    )


def _joined(columns: _Columns, stage: Stage) -> NDArray[np.bool_]:
    """A stage's records and the one before it, so that the drawn line has no hole between stages."""
    on = columns.of(stage)
    if on.any():
        on[max(int(np.argmax(on)) - 1, 0)] = True
    return on


def _by_stage(run: RunFolder, columns: _Columns, x: Floats, key: str, what: str) -> list[Line]:
    y = run.ledger.column(key)
    return [
        Line(label=f"{label}, {what}" if what else label, colour=colour, x=x[on], y=y[on], style="noisy")
        for stage, label, colour in _STAGES
        for on in [columns.of(stage)]
        if on.any()
    ]


def _tested(run: RunFolder, columns: _Columns, x: Floats, key: str, label: str) -> Line:
    y = run.ledger.column(key)
    on = np.isfinite(y)
    return Line(label=label, colour="ink", x=x[on], y=y[on], style="dots")
