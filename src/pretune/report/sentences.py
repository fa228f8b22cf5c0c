"""What a plan claims, in sentences: the status, the proof, the prices, the limits that bind."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pretune.convergence.criteria import criterion_of
from pretune.law import Law
from pretune.plans import Constraint, Plan
from pretune.report.words import count, gap, joules, percent, printable, quantity, seconds, significant
from pretune.scenario import Scenario

WORTHLESS = 1e-9
"""A price below this share of the objective for the whole budget is a zero that was rounded."""
_PRICED = {"energy_j": ("energy", "joule"), "delay_s": ("delay", "second"), "bandwidth_hz": ("bandwidth", "hertz")}
_UNITS = {"energy": "J", "battery": "J", "delay": "s", "deadline": "s", "clock": "Hz", "power": "W", "bandwidth": "Hz"}
PRICES_NOTE = (
    "Prices hold for small changes, at these numbers of rounds and with batches of any real size; "
    "the bound holds for all whole numbers of rounds and samples."
)
_CRITERIA = {
    "trajectory": "average squared gradient norm along both stages (trajectory)",
    "final": "optimality gap of the delivered model (final)",
    "calibrated": "delivered model's loss (or error) as predicted by a law fitted to pilot runs (calibrated)",
}


def status(plan: Plan) -> str:
    """The first line about a plan."""
    said = printable(plan.message) or plan.status.value.replace("_", " ")
    return said[:1].upper() + said[1:]


def criterion(plan: Plan) -> str:
    """What was minimised."""
    if plan.criterion == "calibrated":
        return "the " + _CRITERIA["calibrated"]
    return "a bound on the " + _CRITERIA.get(plan.criterion, printable(plan.criterion))


def single_runs(plan: Plan, law: Law | None) -> str:
    """Where a law says that single runs of the plan end up; empty without a law or its spread."""
    if plan.criterion != "calibrated" or law is None or law.spread is None:
        return ""
    low, high = (plan.objective * math.exp(sign * law.spread) for sign in (-1.0, 1.0))
    return f"a test {law.measure} from {significant(low, 3)} to {significant(high, 3)} nine times in ten, says the law"


def privacy(plan: Plan, scenario: Scenario) -> str:
    """What the plan's fine-tuning spends of epsilon, and what of the objective its noise is; empty without any."""
    spent, rounds = plan.privacy, plan.finetune.rounds if plan.finetune is not None else 0
    if spent is None or plan.pretrain is None:
        return ""
    at = criterion_of(scenario).at(plan.pretrain.rounds, rounds)
    bare = criterion_of(scenario.replace(privacy=None)).at(plan.pretrain.rounds, rounds)
    share = float((at.phi - bare.phi) / at.weight) / plan.objective if plan.objective > 0 else 0.0
    return (
        f"each device's data ({significant(spent['epsilon'], 4)}, {significant(spent['delta'], 2)})-private over all "
        f"fine-tuning rounds; noise multiplier {significant(spent['noise_multiplier'], 4)}, "
        f"{gap(share)} of the objective"
    )


def promise(plan: Plan) -> str:
    """What a plan that was made under uncertainty promises; empty for one under the scenario's own figures."""
    under = plan.under or {}
    if under.get("under") == "worst_case":
        return (
            f"worst case: gains {significant(under['interval_db'], 3)} dB lower, clocks "
            f"{percent(under['clock_interval'])} lower, computing {percent(under['compute_interval'])} longer, "
            f"constants {percent(under['constants_interval'])} worse"
        )
    if under.get("under") == "outage":
        return (
            "energy and delay kept surely; a device that is there fails a round with a probability of at most "
            f"{significant(under['device_outage'], 3)}"
        )
    if under.get("under") == "ergodic":
        confidence, energy = under.get("confidence"), "energy kept in the mean"
        if confidence is not None:
            kept = joules(under["reserve_j"], 4)
            energy = f"energy kept with a probability of {significant(confidence, 6)} ({kept} held back)"
        return (
            f"{energy}, delay surely; a device that is there is left out of a round with a probability of at most "
            f"{significant(under['device_outage'], 3)}"
        )
    if under.get("under") == "participation":
        asked, confidence, energy = under["participation"], under.get("confidence"), "energy kept in the mean"
        if confidence is not None:
            kept = joules(under["reserve_j"], 4)
            energy = f"energy kept with a probability of {significant(confidence, 6)} ({kept} held back)"
        each = f"with probabilities of {significant(min(asked), 3)} to {significant(max(asked), 3)}"
        mean = significant(sum(asked) / len(asked), 3)
        return f"{energy} over who is asked, delay surely; devices are asked {each} in a round (mean {mean})"
    return ""


def prices(plan: Plan) -> list[str]:
    """The multipliers in words, one line each; at the plan's rounds (more of a budget may still buy rounds)."""
    limits = {constraint.name: constraint.limit for constraint in plan.constraints}
    lines = []
    for name, value in plan.multipliers.items():
        budget, unit = _PRICED.get(name, (printable(name), printable(name)))
        worth = abs(value) * limits.get(budget, 1.0)
        what = "prediction" if plan.criterion == "calibrated" else "bound"
        if not worth > WORTHLESS * abs(plan.objective):
            lines.append(f"At these rounds, more {budget} would not lower the {what}.")
            continue
        step, prefix = _small_step(limits.get(budget, math.inf), unit)
        share = f" ({gap(step * abs(value / plan.objective))})" if plan.objective > 0 else ""
        lines.append(f"One more {prefix}{unit} lowers the {what} by {significant(step * abs(value), 3)}{share}.")
    return lines


def _small_step(budget: float, unit: str) -> tuple[float, str]:
    """A step that is small beside a budget, so that a price at the margin is a fair thing to say about it."""
    large = ((1e6, "mega"), (1e3, "kilo")) if unit == "hertz" else ()
    for step, prefix in (*large, (1.0, ""), (1e-3, "milli"), (1e-6, "micro")):
        if step <= budget / 20:
            return step, prefix
    return 1e-9, "nano"


def binding(constraints: Sequence[Constraint], most: int = 3) -> str:
    """The limits that bind; one kind that binds at many devices is told in one word."""
    kinds: dict[str, list[str]] = {}
    devices: dict[str, int] = {}
    for constraint in constraints:
        if constraint.binding:
            kind, _, who = constraint.name.partition(":")
            kinds.setdefault(kind, []).append(printable(who))
            devices[kind] = devices.get(kind, 0) + (constraint.devices or 1)
    said = []
    for kind, names in kinds.items():
        if names == [""]:
            said.append(printable(kind))
        elif devices[kind] > max(most, len(names)) or len(names) > most:
            said.append(f"{printable(kind)} of {count(devices[kind])} devices")
        else:
            said.append(f"{printable(kind)} of {', '.join(names)}")
    return "; ".join(said) or "none"


def amount(constraint: Constraint, value: float) -> str:
    """A figure of a constraint, in the unit its name implies."""
    unit = _UNITS.get(constraint.name.split(":", 1)[0])
    return significant(value, 5) if unit is None else quantity(value, unit, 5)


def clash(plan: Plan) -> list[str]:
    """Why nothing fits and what would, for an infeasible plan."""
    why = plan.infeasibility
    if why is None:
        return []
    lines = ["These limits clash: " + ", ".join(printable(name) for name in why.clash) + "."]
    if math.isfinite(why.min_energy_j):
        lines.append(f"At the given delay at least {joules(why.min_energy_j, 6)} of energy would do.")
    else:
        lines.append("At the given delay no amount of energy would do.")
    if math.isfinite(why.min_delay_s):
        lines.append(f"At the given energy at least {seconds(why.min_delay_s, 6)} of time would do.")
    else:
        lines.append("At the given energy no amount of time would do.")
    if why.drop is not None:
        lines.append(f"Without {_named(why.drop)} a plan exists, and none of them could stay.")
    return lines


_NAMED = 12
"""Devices that a sentence names."""


def _named(names: tuple[str, ...]) -> str:
    shown = ", ".join(printable(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more (all are in the plan file)"
