"""Tight, medium and ample budgets: a rule on the law and the joint plan, set before any evaluation run was looked at.

Errors are judged on the law's own scale, their logarithm. With e0 the error of guessing, e* the least that the law
promises (most rounds, no noise) and e(T) that of the joint plan within the delay T and its energy, the progress is
``p(T) = log(e0/e(T)) / log(e0/e*)``. The regimes are the delays at which p is 1/2, 7/10 and 9/10.

The energy that goes with a delay T is a quarter of what the best plan takes that has T, any energy and equal shares of
the band (with shares to decide such plans take a second each): then either budget binds. For a sweep of one budget the
other stays at its medium value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.laws import predict
from pretune.errors import InputError
from pretune.planner import plan
from pretune.study.cache import cache_folder, cached
from pretune.study.fleets import Setting
from pretune.study.simulate import TOLERANCE, Budget, law_of, planning_scenario

PROGRESS = {"tight": 0.5, "medium": 0.7, "ample": 0.9}
SHARE = 0.25
CLASSES = 10
_LOW, _HIGH = 0.05, 2000.0
"""Delays among which the rule looks."""
_HALVINGS = 10
_SMOKE = {"tight": (0.13, 0.67), "medium": (0.32, 1.7), "ample": (0.8, 3.2)}
"""Budgets of the smoke scale: a round of planning there is dearer than all of its runs."""
CELLS = tuple(
    f"{energy}-{delay}"
    for energy, delay in (
        ("tight", "tight"),
        ("medium", "medium"),
        ("ample", "ample"),
        ("medium", "tight"),
        ("medium", "ample"),
        ("tight", "medium"),
        ("ample", "medium"),
    )
)
"""Energy's regime and delay's: the diagonal, and the two sweeps through its middle."""
CORNERS = ("tight-ample", "ample-tight")
"""What makes of `CELLS` a full grid of three by three."""


@dataclass(frozen=True, kw_only=True)
class Regimes:
    """The budgets of a setting's regimes, and the errors that the rule is about."""

    budgets: dict[str, Budget]
    least_error: float

    def cell(self, name: str) -> Budget:
        """The budget of ``energy-delay``, such as ``medium-tight``."""
        energy, _, delay = name.partition("-")
        return Budget(energy_j=self.budgets[energy].energy_j, delay_s=self.budgets[delay].delay_s)


def regimes_of(setting: Setting, *, smoke: bool = False) -> Regimes:
    """The regimes of a setting, by the rule above.

    Raises:
        InputError: no delay within reason makes that progress.
    """
    if smoke:
        known = {name: Budget(energy_j=e, delay_s=t) for name, (e, t) in _SMOKE.items()}
        return Regimes(budgets=known, least_error=math.nan)
    tree = cached(cache_folder(), {"what": "regimes", "setting": setting.key}, lambda: _found(setting))
    budgets = {name: Budget(energy_j=e, delay_s=t) for name, (e, t) in tree["budgets"].items()}
    return Regimes(budgets=budgets, least_error=tree["least"])


def _found(setting: Setting) -> dict[str, Any]:
    law = law_of(setting).law
    scenario = planning_scenario(setting, law)
    radio = {key: getattr(scenario.radio, key) for key in scenario.radio.model_fields_set}
    equal = scenario.replace(radio={**radio, "bandwidth_shares": "equal"})
    values = np.asarray(law.values)
    least = float(predict(law.family, values, np.array([[values[-2], values[-1], 0.0, 0.0]]))[0])
    guess = 1.0 - 1.0 / CLASSES

    def at(delay_s: float) -> tuple[float, float]:
        """The energy that goes with a delay, and the joint plan's error; no error where nothing fits."""
        free = plan(equal.with_budget(energy_j=1e12, delay_s=delay_s), tolerance=TOLERANCE, throw=False)
        if not free.status.has_plan:
            return math.nan, math.inf
        energy_j = SHARE * free.energy_j
        made = plan(scenario.with_budget(energy_j=energy_j, delay_s=delay_s), tolerance=TOLERANCE, throw=False)
        return energy_j, made.objective if made.status.has_plan else math.inf

    budgets = {}
    for name, progress in PROGRESS.items():
        aim = guess * (least / guess) ** progress
        low, high = math.log(_LOW), math.log(_HIGH)
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if at(math.exp(middle))[1] <= aim else (middle, high)
        delay_s = float(f"{math.exp(high):.3g}")
        energy_j, error = at(delay_s)
        if not math.isfinite(error):
            raise InputError.field(f"{setting.task}: delay", delay_s, "a delay at which a plan fits")
        budgets[name] = [float(f"{energy_j:.3g}"), delay_s]
    return {"budgets": budgets, "least": least}
