"""`pretune compare --html`: the joint plan beside every baseline as one HTML file that opens offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pretune.planner.baselines import CONSTANT, JOINT, ONE_STEP, Outcome
from pretune.plans import Plan
from pretune.report import fill, sentences
from pretune.report.spending import shares
from pretune.report.view import Fact, Meter, meter
from pretune.report.words import count, gap, joules, printable, seconds, significant
from pretune.scenario import Scenario

TITLES = {
    JOINT: "joint plan",
    CONSTANT: "constant plan",
    ONE_STEP: "one local step",
    "pretrain-only": "pre-train only",
    "finetune-only": "fine-tune only",
    "fixed-batch": "fixed batches",
    "fixed-clock": "highest clocks",
    "fixed-power": "highest powers",
    "equal-bandwidth": "equal bandwidth",
    "equal-split": "equal split",
    "random": "random",
    "successive": "successive",
}
"""What people call the ways of planning."""
LONGEST = 3.0
"""Ratios above this are drawn no longer: one hopeless way would hide the differences of all others."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of planning; `width` is that of its bar in percent, `cut` that the bar should be longer."""

    title: str
    joint: bool
    rounds: str
    objective: str
    ratio: str
    width: float
    cut: bool
    energy: str
    delay: str
    took: str
    order: tuple[float, float, float]
    """What the columns objective, energy and delay are sorted by."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What one way does with both budgets."""

    title: str
    meters: tuple[Meter, Meter]


@dataclass(frozen=True, kw_only=True)
class ComparePage:
    """Everything the template shows."""

    title: str
    lead: str
    tiles: tuple[Fact, ...]
    rows: list[Row]
    spent: list[Spent]
    notes: list[str]
    proof: str


def ranked(found: Sequence[Outcome]) -> list[Outcome]:
    """By objective; the joint plan first among equals, those without a plan last."""

    def key(outcome: Outcome) -> tuple[bool, float, bool]:
        value = outcome.plan.objective if outcome.plan is not None else math.inf
        return not math.isfinite(value), value, outcome.name != JOINT

    return sorted(found, key=key)


def ratio_of(plan: Plan, joint: Plan) -> float:
    """The objective in units of the joint plan's; one where both are nothing."""
    if joint.objective > 0.0:
        return plan.objective / joint.objective
    return 1.0 if plan.objective <= 0.0 else math.inf


def render_compare(scenario: Scenario, found: Sequence[Outcome]) -> str:
    """The page; `found` begins with the joint plan, as `compare` gives it."""
    return fill("compare.html.j2", _page(scenario, found))


def _page(scenario: Scenario, found: Sequence[Outcome]) -> ComparePage:
    joint, order, budget = found[0].plan, ranked(found), scenario.budget
    whole = joint is not None and joint.status.has_plan
    return ComparePage(
        title=printable(scenario.name),
        lead=_lead(order, joint) if joint is not None and whole else sentences.status(joint) if joint else "",
        tiles=(
            Fact(name="Energy budget", value=joules(budget.energy_j), note="the same for all"),
            Fact(name="Delay budget", value=seconds(budget.delay_s), note="the same for all"),
            Fact(name="Devices", value=count(len(scenario.devices)), note=scenario.radio.access.value.upper()),
            Fact(
                name="Proven gap",
                value=gap(joint.relative_gap) if joint is not None and whole else "-",
                note="of the joint plan to the best there can be",
            ),
        ),
        rows=[_row(one, joint) for one in order] if joint is not None else [],
        spent=[_spent(one, scenario) for one in order if one.plan is not None and one.plan.status.has_plan],
        notes=[f"{TITLES.get(one.name, one.name)}: {printable(one.note)}" for one in found if one.note]
        + (sentences.clash(joint) if joint is not None else []),
        proof=_proof(found, joint) if joint is not None and whole else "",
    )


def _lead(order: Sequence[Outcome], joint: Plan) -> str:
    others = [one for one in order if one.name != JOINT and one.plan is not None and one.plan.status.has_plan]
    if not others or others[0].plan is None:
        return "No other way found a plan within these budgets."
    ratio = ratio_of(others[0].plan, joint)
    best = TITLES.get(others[0].name, others[0].name)
    if ratio <= 1.00005:
        return f"The best of the other ways, {best}, does as well as the joint plan."
    return f"The best of the other ways, {best}, ends {gap(ratio - 1.0)} above the joint plan's objective."


def _proof(found: Sequence[Outcome], joint: Plan) -> str:
    said = f"No plan within these budgets is below {significant(joint.lower_bound, 6)}: that is proven. "
    if any(one.status == "time_limit" for one in found):
        said += "An asterisk marks what the time limit ended. "
    return said + f"It minimises {sentences.criterion(joint)}."


def _row(one: Outcome, joint: Plan) -> Row:
    plan, title = one.plan, TITLES.get(one.name, one.name)
    took = "" if one.status == "unavailable" else seconds(one.planning_s, 3)
    if plan is None or plan.pretrain is None or plan.finetune is None:
        return Row(
            title=title,
            joint=False,
            rounds=one.status.replace("_", " "),
            objective="",
            ratio="",
            width=0.0,
            cut=False,
            energy="",
            delay="",
            took=took,
            order=(1e300, 1e300, 1e300),
        )
    ratio = ratio_of(plan, joint)
    return Row(
        title=title + "*" * (plan.status.value == "time_limit"),
        joint=one.name == JOINT,
        rounds=f"{count(plan.pretrain.rounds)} + {count(plan.finetune.rounds)}",
        objective=significant(plan.objective, 6),
        ratio=f"{ratio:.4f}" if math.isfinite(ratio) else "-",
        width=round(100.0 * min(ratio, LONGEST) / LONGEST, 2),
        cut=ratio > LONGEST,
        energy=joules(plan.energy_j),
        delay=seconds(plan.delay_s),
        took=took,
        order=(plan.objective, plan.energy_j, plan.delay_s),
    )


def _spent(one: Outcome, scenario: Scenario) -> Spent:
    plan = one.plan
    if plan is None:
        raise ValueError("only ways that found a plan spend anything")
    parts, budget = shares(plan, scenario), scenario.budget
    return Spent(
        title=TITLES.get(one.name, one.name),
        meters=(
            meter("Energy", plan.energy_j, budget.energy_j, joules, [(part, part.energy_j) for part in parts]),
            meter("Delay", plan.delay_s, budget.delay_s, seconds, [(part, part.delay_s) for part in parts]),
        ),
    )
