"""Scenario, plan and ledger as a notebook shows them: one card each, in the report's colours, light and dark.

All text that comes from a user is escaped by the template; of a large fleet the first devices are shown and the rest
are counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from pretune.ledger import Ledger
from pretune.plans import Plan, Status
from pretune.report import sentences
from pretune.report.spending import FINETUNE, PRETRAIN
from pretune.report.stages import stage_rows
from pretune.report.words import count, gap, joules, percent, printable, quantity, seconds, significant
from pretune.scenario import Fleet, Scenario

if TYPE_CHECKING:
    from jinja2 import Template

MOST_DEVICES = 8
_STAGES = {"start": "Before training", "pretrain": PRETRAIN, "finetune": FINETUNE, "total": "Both stages"}


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of texts; the first `left` columns are names, the others figures. `more` says what is not shown."""

    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int = 1
    more: str = ""


@dataclass(frozen=True, kw_only=True)
class Card:
    """What is shown of one object."""

    kicker: str
    title: str
    lead: str = ""
    tables: tuple[Table, ...] = ()


def draw(card: Card) -> str:
    """The card's HTML; nothing in it runs or is fetched."""
    return _template().render(card=card, palette=_palette())


def scenario_html(scenario: Scenario) -> str:
    """A scenario: its budgets, what the model costs, and its devices."""
    budget, workload, radio = scenario.budget, scenario.workload, scenario.radio
    facts = (
        ("Budget", f"{joules(budget.energy_j)} and {seconds(budget.delay_s)}"),
        ("One sample", quantity(workload.flops_per_sample, "FLOP")),
        ("One upload", quantity(workload.upload_bits, "bit")),
        ("Radio", radio.access.value.upper()),
        ("Criterion", scenario.convergence.criterion.value),
    )
    size = len(scenario.devices)
    return draw(
        Card(
            kicker="pretune · scenario",
            title=printable(scenario.name),
            lead=f"{count(size)} device{'s' * (size != 1)} with {count(int(scenario.devices.samples.sum()))} samples, "
            f"{count(int(scenario.server.samples))} samples at the server",
            tables=(Table(heads=(), rows=facts, left=2), _fleet(scenario.devices)),
        )
    )


def plan_html(plan: Plan) -> str:
    """A plan: its status, what it buys and how near that is to the best, and its decisions."""
    tables = []
    if plan.status.has_plan:
        facts = [
            ("Objective", significant(plan.objective, 5)),
            ("Proven lower bound", f"{significant(plan.lower_bound, 5)}, so at most {gap(plan.relative_gap)} above it"),
            ("Energy", joules(plan.energy_j)),
            ("Delay", seconds(plan.delay_s)),
        ]
        rows = [(row["stage"], row["rounds"], row["batch"], row["clock"], row["total"]) for row in stage_rows(plan)]
        tables = [
            Table(heads=(), rows=facts, left=2),
            Table(heads=("Stage", "Rounds", "Batch", "Clock", "All rounds"), rows=rows),
            *_decisions(plan),
        ]
    said = "" if plan.status is not Status.INFEASIBLE else " ".join(sentences.clash(plan))
    lead = said or f"It minimises {sentences.criterion(plan)}."
    return draw(Card(kicker="pretune · plan", title=sentences.status(plan), lead=lead, tables=tuple(tables)))


def ledger_html(ledger: Ledger) -> str:
    """A ledger: planned beside realised for each stage, and what was learnt."""
    rows = [
        (
            _STAGES[total.name],
            count(total.rounds),
            joules(total.planned_j),
            joules(total.realised_j),
            seconds(total.planned_s),
            seconds(total.realised_s),
            "-" if total.test_loss is None else significant(total.test_loss, 4),
            "-" if total.test_accuracy is None else percent(total.test_accuracy),
        )
        for total in ledger.table()
    ]
    heads = (
        *("Stage", "Rounds", "Energy, planned", "realised"),
        *("Time, planned", "realised", "Test loss", "Test accuracy"),
    )
    rounds = max(len(ledger) - 1, 0)
    title = f"{count(rounds)} round{'s' * (rounds != 1)}, {count(len(ledger.evaluations))} evaluations"
    lead = "Seconds and joules are simulated by the cost model."
    return draw(Card(kicker="pretune · ledger", title=title, lead=lead, tables=(Table(heads=heads, rows=rows),)))


def fleet_html(fleet: Fleet) -> str:
    """A fleet: its first devices."""
    size = len(fleet)
    title = f"{count(size)} device{'s' * (size != 1)} with {count(int(fleet.samples.sum()))} samples"
    return draw(Card(kicker="pretune · fleet", title=title, tables=(_fleet(fleet),)))


def _fleet(fleet: Fleet) -> Table:
    shown = min(len(fleet), MOST_DEVICES)
    rows = []
    for index in range(shown):
        device = fleet[index]
        band = "shared" if device.bandwidth_hz is None else quantity(device.bandwidth_hz, "Hz")
        rows.append(
            (
                printable(device.name),
                count(device.samples),
                quantity(device.max_clock_hz, "Hz"),
                quantity(device.max_power_w, "W"),
                significant(device.gain, 3),
                band,
            )
        )
    heads = ("Device", "Samples", "Highest clock", "Highest power", "Gain", "Band")
    return Table(heads=heads, rows=rows, more=_more(len(fleet) - shown))


def _decisions(plan: Plan) -> list[Table]:
    """What the first devices do in a round (of the last segment, if there are several)."""
    if plan.finetune is None or not plan.finetune.rounds:
        return []
    stage = plan.finetune.parts[-1]
    shown = min(len(stage.names), MOST_DEVICES)
    rows = [
        (
            printable(stage.names[k]),
            count(int(stage.batch[k])),
            quantity(float(stage.clock_hz[k]), "Hz"),
            quantity(float(stage.power_w[k]), "W"),
        )
        for k in range(shown)
    ]
    return [Table(heads=("Device", "Batch", "Clock", "Power"), rows=rows, more=_more(len(stage.names) - shown))]


def _more(left: int) -> str:
    return f"and {count(left)} more" if left else ""


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_part("notebook.html.j2"))


@cache
def _palette() -> str:
    """The report's colours, light and dark: the head of its style sheet, for the card alone."""
    from markupsafe import Markup

    head = _part("page.css").partition("* {")[0]
    return Markup(head.replace(":root", ".pretune-card"))


def _part(name: str) -> str:
    return resources.files("pretune.report").joinpath(name).read_text(encoding="utf-8")
