"""`pretune pareto --html`: the energy-delay-objective fronts as one HTML file that opens offline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pretune.physics.types import Floats
from pretune.planner.pareto import FrontPoint
from pretune.plans import Plan
from pretune.report import fill, sentences
from pretune.report.charts import Axis, Line, Rule, chart
from pretune.report.figures import energy_axis, time_axis
from pretune.report.view import Fact
from pretune.report.words import count, gap, joules, printable, seconds, significant
from pretune.scenario import Scenario

TITLES = {
    "energy": "More energy, the same delay",
    "delay": "More time, the same energy",
    "grid": "More of both",
}
"""What people call the sweeps."""
_GRID_COLOURS = ("ink", "down", "pre", "up", "fine")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure as shown, and the number it is sorted by."""

    text: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Front:
    """One sweep: its charts and its plans."""

    title: str
    note: str
    charts: list[Markup]
    rows: list[tuple[Cell, ...]]


@dataclass(frozen=True, kw_only=True)
class FrontPage:
    """Everything the template shows."""

    title: str
    lead: str
    tiles: tuple[Fact, ...]
    fronts: list[Front]
    note: str


def render_fronts(scenario: Scenario, found: Sequence[FrontPoint]) -> str:
    """The page of some sweeps."""
    return fill("front.html.j2", _page(scenario, found))


def _page(scenario: Scenario, found: Sequence[FrontPoint]) -> FrontPage:
    planned = [point.plan for point in found if point.plan is not None]
    budget = scenario.budget
    return FrontPage(
        title=printable(scenario.name),
        lead=_lead(found, planned),
        tiles=(
            Fact(name="Plans", value=count(len(planned)), note=f"of {count(len(found))} budgets"),
            Fact(name="Energy budget", value=joules(budget.energy_j), note="of the scenario"),
            Fact(name="Delay budget", value=seconds(budget.delay_s), note="of the scenario"),
            Fact(
                name="Widest gap",
                value=gap(max((plan.relative_gap for plan in planned), default=float("nan"))),
                note="of a plan to its proven bound",
            ),
        ),
        fronts=[_front(scenario, axis, found) for axis in dict.fromkeys(point.axis for point in found)],
        note=f"Every plan minimises {sentences.criterion(planned[0])}." if planned else "",
    )


def _lead(found: Sequence[FrontPoint], planned: Sequence[Plan]) -> str:
    if not planned:
        return "Nothing fits any of these budgets."
    low, high = (f(plan.objective for plan in planned) for f in (min, max))
    said = f"From the smallest budget that has a plan to the largest the objective falls from {significant(high, 4)}"
    said += f" to {significant(low, 4)}."
    missing = len(found) - len(planned)
    return said + (f" Nothing fits {count(missing)} of the budgets." if missing else "")


def _front(scenario: Scenario, axis: str, found: Sequence[FrontPoint]) -> Front:
    here = [point for point in found if point.axis == axis]
    budget = scenario.budget
    note = {
        "energy": f"The delay budget is {seconds(budget.delay_s)} throughout.",
        "delay": f"The energy budget is {joules(budget.energy_j)} throughout.",
    }.get(axis, "Every pair of budgets; a line for each of some delays.")
    return Front(
        title=TITLES[axis],
        note=note,
        charts=_grid_charts(here) if axis == "grid" else _charts(scenario, axis, here),
        rows=[_row(point) for point in here],
    )


def _charts(scenario: Scenario, axis: str, here: Sequence[FrontPoint]) -> list[Markup]:
    """Objective and bound, and the rounds of both stages, over the budget."""
    known = [(point, point.plan) for point in here if point.plan is not None]
    if not known:
        return []
    is_energy = axis == "energy"
    x = _column(point.energy_j if is_energy else point.delay_s for point, _ in known)
    own = scenario.budget.energy_j if is_energy else scenario.budget.delay_s
    across = _budget_axis(axis, float(x.max()))
    rules = [Rule(label="the scenario's", axis="x", at=own)] if x.min() <= own <= x.max() else []
    objective, bound = (_column(getattr(plan, key) for _, plan in known) for key in ("objective", "lower_bound"))
    rounds = [_column(_rounds(plan)[stage] for _, plan in known) for stage in (0, 1)]
    found = (
        chart(
            f"Objective over the {axis} budget",
            [
                Line(label="objective", colour="pre" if is_energy else "fine", x=x, y=objective, style="dots"),
                Line(label="proven bound", colour="ink", x=x, y=bound, style="dashed"),
            ],
            across,
            Axis(label="objective", log=True, tight=True),
            rules=rules,
        ),
        chart(
            f"Rounds over the {axis} budget",
            [
                Line(label="pre-training", colour="pre", x=x, y=rounds[0]),
                Line(label="fine-tuning", colour="fine", x=x, y=rounds[1]),
            ],
            across,
            Axis(label="rounds", from_zero=True),
            rules=rules,
        ),
    )
    return [figure for figure in found if figure is not None]


def _grid_charts(here: Sequence[FrontPoint]) -> list[Markup]:
    """The objective over the energy budget, a line for each of up to five delays."""
    delays = sorted({point.delay_s for point in here if point.plan is not None})
    if not delays:
        return []
    few = min(len(delays), len(_GRID_COLOURS))
    chosen = [delays[round(index * (len(delays) - 1) / max(few - 1, 1))] for index in range(few)]
    lines = []
    for delay, colour in zip(chosen, _GRID_COLOURS, strict=False):
        line = [(point.energy_j, point.plan) for point in here if point.plan is not None and point.delay_s == delay]
        x, y = _column(energy for energy, _ in line), _column(plan.objective for _, plan in line)
        lines.append(Line(label=seconds(delay, 3), colour=colour, x=x, y=y))
    across = _budget_axis("energy", max(float(line.x.max()) for line in lines))
    figure = chart("Objective over the energy budget", lines, across, Axis(label="objective", log=True, tight=True))
    return [] if figure is None else [figure]


def _budget_axis(axis: str, most: float) -> Axis:
    plain = energy_axis(most) if axis == "energy" else time_axis(most)
    unit = plain.label[plain.label.rindex("(") :]
    return Axis(label=f"{axis} budget {unit}", divide=plain.divide, log=True, tight=True)


def _column(values: object) -> Floats:
    return np.array(list(values), dtype=np.float64)  # type: ignore[call-overload]


def _rounds(plan: Plan) -> tuple[int, int]:
    pretrain, finetune = plan.pretrain, plan.finetune
    return (0 if pretrain is None else pretrain.rounds), (0 if finetune is None else finetune.rounds)


def _row(point: FrontPoint) -> tuple[Cell, ...]:
    plan = point.plan
    budgets = (
        Cell(text=joules(point.energy_j), value=point.energy_j),
        Cell(text=seconds(point.delay_s), value=point.delay_s),
    )
    if plan is None:
        return (*budgets, Cell(text="infeasible", value=-1), *(Cell(text="", value=1e300) for _ in range(4)))
    first, second = _rounds(plan)
    return (
        *budgets,
        Cell(text=f"{count(first)} + {count(second)}", value=first + second),
        Cell(text=significant(plan.objective, 6), value=plan.objective),
        Cell(text=gap(plan.relative_gap), value=plan.relative_gap),
        Cell(text=joules(plan.energy_j), value=plan.energy_j),
        Cell(text=seconds(plan.delay_s), value=plan.delay_s),
    )
