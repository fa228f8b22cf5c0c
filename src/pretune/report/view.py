"""From a run's folder to what the page says: every figure as text, in the order the template shows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pretune.ledger import Stage, StageTotal
from pretune.plans import Plan
from pretune.report import sentences
from pretune.report.devices import Devices, devices
from pretune.report.field import Field, field
from pretune.report.figures import SAME, keeping_to_the_plan, learning
from pretune.report.folder import RunFolder
from pretune.report.spending import FINETUNE, PRETRAIN, Share, shares
from pretune.report.stages import stage_rows
from pretune.report.steered import Steered, steered
from pretune.report.words import count, gap, joules, percent, printable, seconds, significant
from pretune.version import __version__

MOST_LIMITS = 200
_STAGE_NAMES = {"start": "Before training", "pretrain": PRETRAIN, "finetune": FINETUNE, "total": "Whole run"}


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A name, its value, and a word about it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Meter:
    """One budget as a bar: what is used of it, part by part (widths in percent of the budget)."""

    name: str
    used: str
    limit: str
    share: str
    parts: tuple[dict[str, object], ...]


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is proven about the plan."""

    status: str
    facts: tuple[Fact, ...]
    prices: list[str]
    note: str
    limits: list[dict[str, object]]
    more: str


@dataclass(frozen=True, kw_only=True)
class Page:
    """Everything the template shows."""

    title: str
    lead: str
    warning: str
    tiles: tuple[Fact, ...]
    meters: tuple[Meter, ...]
    shares: list[dict[str, str]]
    learning_note: str
    learning: list[Markup]
    criterion: str
    stages: list[dict[str, str]]
    ledger_note: str
    ledger: list[dict[str, str]]
    keeping: list[Markup]
    devices: Devices | None
    field: Field | None
    steered: Steered | None
    certificate: Certificate
    provenance: tuple[Fact, ...]
    defaults: tuple[str, ...]


def page(run: RunFolder) -> Page:
    """The page of a run."""
    plan, budget = run.plan, run.scenario.budget
    spent = shares(plan, run.scenario)
    return Page(
        title=printable(run.scenario.name),
        lead=_lead(run),
        warning=_warning(run),
        tiles=_tiles(run),
        meters=(
            meter("Energy", plan.energy_j, budget.energy_j, joules, [(share, share.energy_j) for share in spent]),
            meter("Delay", plan.delay_s, budget.delay_s, seconds, [(share, share.delay_s) for share in spent]),
        ),
        shares=[_share_row(share, plan) for share in spent],
        learning_note=(
            "The shading and the colour of a line say which stage was training. Pre-training batches come from the "
            "server's general data, fine-tuning batches from the devices' own; the test set is the devices' task."
        ),
        learning=learning(run),
        criterion=sentences.criterion(plan),
        stages=stage_rows(plan),
        ledger_note=_ledger_note(run),
        ledger=[_ledger_row(total) for total in run.ledger.table()],
        keeping=keeping_to_the_plan(run),
        devices=devices(plan, run.scenario),
        field=field(run),
        steered=steered(run),
        certificate=_certificate(plan),
        provenance=_provenance(run),
        defaults=tuple(printable(line) for line in plan.defaults),
    )


def _accuracies(run: RunFolder) -> dict[str, float]:
    """The last test accuracy of each stage that has one."""
    return {total.name: total.test_accuracy for total in run.ledger.table() if total.test_accuracy is not None}


def _lead(run: RunFolder) -> str:
    (pretrain, finetune), total = run.rounds_done, run.ledger.table()[-1]
    accuracy = _accuracies(run)
    said = (
        f"{count(pretrain)} rounds of pre-training and {count(finetune)} of fine-tuning on "
        f"{count(len(run.scenario.devices))} devices"
    )
    cost = f"for {joules(total.realised_j)} in {seconds(total.realised_s)}"
    if len(accuracy) > 2:  # not only that of the start, which is the total's too
        return (
            f"{said} took the test accuracy from {percent(accuracy['start'])} to {percent(accuracy['total'])}, {cost}."
        )
    return f"{said}, {cost}."


def _warning(run: RunFolder) -> str:
    if run.complete or (run.identity.get("replan", "off") != "off" and run.summary.get("status") == "finished"):
        return ""  # a run that was planned anew is complete when it says so
    (pretrain, finetune), (all_pretrain, all_finetune) = run.rounds_done, run.rounds_planned
    why = printable(run.summary["message"]) + "; " if "message" in run.summary else ""
    return (
        f"{why}{count(pretrain)} of {count(all_pretrain)} pre-training and {count(finetune)} of {count(all_finetune)} "
        "fine-tuning rounds were run; everything below about what was learnt and realised ends there."
    )


def _tiles(run: RunFolder) -> tuple[Fact, ...]:
    plan, budget, total = run.plan, run.scenario.budget, run.ledger.table()[-1]
    accuracy = _accuracies(run)
    steps = [
        f"{percent(accuracy[key])} {words}"
        for key, words in (("start", "untrained"), ("pretrain", "pre-trained"))
        if key in accuracy
    ]
    return (
        Fact(name="Test accuracy", value=percent(accuracy.get("total", math.nan)), note=", ".join(steps)),
        Fact(
            name="Energy",
            value=joules(total.realised_j),
            note=f"{percent(total.realised_j / budget.energy_j, 2)} of {joules(budget.energy_j)}",
        ),
        Fact(
            name="Delay",
            value=seconds(total.realised_s),
            note=f"{percent(total.realised_s / budget.delay_s, 2)} of {seconds(budget.delay_s)}",
        ),
        Fact(name="Proven gap", value=gap(plan.relative_gap), note="to the best plan there can be"),
    )


def meter(name: str, used: float, limit: float, write: Any, parts: Sequence[tuple[Share, float]]) -> Meter:
    """A budget as a bar: the amount used of it, cause by cause; `write` makes text of an amount."""
    return Meter(
        name=name,
        used=write(used, 5) if math.isfinite(used) else "-",
        limit=write(limit, 5),
        share=percent(used / limit, 2),
        parts=tuple(
            {
                "stage": share.stage,
                "cause": share.cause,
                "colour": share.colour,
                "value": write(value),
                "width": round(100 * min(value / limit, 1.0), 3) if math.isfinite(limit) else 0,
            }
            for share, value in parts
            if value > 0
        ),
    )


def _share_row(share: Share, plan: Plan) -> dict[str, str]:
    return {
        "stage": share.stage,
        "cause": share.cause,
        "colour": share.colour,
        "energy": joules(share.energy_j),
        "energy_share": percent(share.energy_j / plan.energy_j) if plan.energy_j > 0 else "-",
        "delay": seconds(share.delay_s),
        "delay_share": percent(share.delay_s / plan.delay_s) if plan.delay_s > 0 else "-",
    }


def _ledger_row(total: StageTotal) -> dict[str, str]:
    idle = total.name == Stage.START.value
    return {
        "stage": _STAGE_NAMES[total.name],
        "rounds": "" if idle else count(total.rounds),
        "planned_s": "" if idle else seconds(total.planned_s, 5),
        "realised_s": "" if idle else seconds(total.realised_s, 5),
        "planned_j": "" if idle else joules(total.planned_j, 5),
        "realised_j": "" if idle else joules(total.realised_j, 5),
        "loss": "" if total.test_loss is None else significant(total.test_loss),
        "accuracy": "" if total.test_accuracy is None else percent(total.test_accuracy),
    }


def _ledger_note(run: RunFolder) -> str:
    worst = 0.0
    for record in run.ledger:
        for planned, realised in ((record.planned_s, record.realised_s), (record.planned_j, record.realised_j)):
            if planned > 0:
                worst = max(worst, abs(realised / planned - 1))
    if worst < SAME:
        return "Every round took exactly the time and energy that were planned for it."
    return f"The round furthest from its plan differs by {percent(worst, 2)} in time or energy."


def _certificate(plan: Plan) -> Certificate:
    limits = sorted(plan.constraints, key=lambda limit: not limit.binding)
    return Certificate(
        status=sentences.status(plan),
        facts=(
            Fact(name="Objective of this plan", value=significant(plan.objective, 7)),
            Fact(name="Proven lower bound", value=significant(plan.lower_bound, 7)),
            Fact(name="Relative gap", value=gap(plan.relative_gap)),
            Fact(name="Binding limits", value=sentences.binding(plan.constraints)),
            *([Fact(name="Promise", value=sentences.promise(plan))] if plan.under is not None else []),
        ),
        prices=sentences.prices(plan),
        note=sentences.PRICES_NOTE,
        limits=[
            {
                "name": printable(limit.name),
                "value": sentences.amount(limit, limit.value),
                "limit": sentences.amount(limit, limit.limit),
                "slack": sentences.amount(limit, limit.slack if limit.slack > SAME * limit.limit else 0.0),
                "binding": limit.binding,
            }
            for limit in limits[:MOST_LIMITS]
        ],
        more=f"{count(len(limits) - MOST_LIMITS)} more limits are in plan.json." if len(limits) > MOST_LIMITS else "",
    )


def _provenance(run: RunFolder) -> tuple[Fact, ...]:
    facts = [
        Fact(name="Scenario", value=printable(run.scenario.name)),
        Fact(name="Scenario SHA-256", value=printable(run.plan.scenario_sha256)),
        Fact(name="Criterion", value=printable(run.plan.criterion)),
        Fact(name="Report written by", value=f"pretune {__version__}"),
    ]
    known = {**run.timing, **run.identity, **run.summary}
    for key, name in (("task", "Task"), ("seed", "Seed"), ("parameters", "Trained parameters"), ("torch", "PyTorch")):
        if key in known:
            facts.append(Fact(name=name, value=printable(known[key])))
    return tuple(facts)
