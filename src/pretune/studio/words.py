"""Prices as people say them: "10 more joules lower the bound by 2 %"."""

from __future__ import annotations

import math

from pretune.plans import Plan
from pretune.report.sentences import WORTHLESS
from pretune.report.words import printable, significant
from pretune.studio.responses import Price

_PRICED = {
    "energy_j": ("energy", "J", "joule"),
    "delay_s": ("delay", "s", "second"),
    "bandwidth_hz": ("bandwidth", "Hz", "hertz"),
}
_PREFIXES = ((1e9, "giga"), (1e6, "mega"), (1e3, "kilo"), (1.0, ""), (1e-3, "milli"), (1e-6, "micro"), (1e-9, "nano"))
_TIMES = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"))
STEP = 0.01
"""The share of a budget that a sentence speaks of: small enough for a price at the margin."""


def price_of(plan: Plan, name: str, value: float) -> Price:
    """What a multiplier says; `value` is the change of the objective for one more unit of the budget."""
    budget, unit, word = _PRICED.get(name, (printable(name), "", printable(name)))
    limit = next((one.limit for one in plan.constraints if one.name == budget), math.nan)
    what = "prediction" if plan.criterion == "calibrated" else "bound"
    step, amount = _step(limit, word)
    share = step * abs(value) / plan.objective if plan.objective > 0.0 and math.isfinite(step) else 0.0
    if not (abs(value) * limit > WORTHLESS * abs(plan.objective)):
        said = f"At these rounds, more {budget} would not lower the {what}."
        share = 0.0
    else:
        said = f"{amount} lower{'s' * amount.startswith('1 ')} the {what} by {significant(100.0 * share, 2)} %."
    return Price(budget=budget, price=value, unit=unit, step=step, share=share, sentence=said)


def _step(limit: float, word: str) -> tuple[float, str]:
    """About a hundredth of the budget, a number people say; in words."""
    if not (math.isfinite(limit) and limit > 0.0):
        return math.inf, ""
    aim = limit * STEP
    for size, name in _TIMES if word == "second" else ():
        if aim >= size:
            number = _round(aim / size)
            return number * size, f"{number:g} more {name}{'s' * (number != 1)}"
    size, prefix = next(((size, prefix) for size, prefix in _PREFIXES if aim >= 0.999 * size), _PREFIXES[-1])
    number = _round(aim / size)
    plural = "s" * (number != 1 and not word.endswith("z"))
    return number * size, f"{number:g} more {prefix}{word}{plural}"


def _round(number: float) -> float:
    """One of 1, 2 and 5 times a power of ten, at most `number` (and a little)."""
    power = 10.0 ** math.floor(math.log10(number * 1.001))
    return float(max(factor for factor in (1, 2, 5) if factor * power <= number * 1.001)) * power
