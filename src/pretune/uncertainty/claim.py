"""What a plan says of what it was planned under, and the check of it, which looks at the laws in another way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.planning import Under
from pretune.reality.columns import columns_of
from pretune.scenario import Scenario
from pretune.stages import FinetuneStage
from pretune.uncertainty.equivalent import Equivalent, asking, equivalent, planned_under
from pretune.uncertainty.margin import margin_j
from pretune.uncertainty.odds import Odds
from pretune.uncertainty.verify import chance_below, inverse_mean_above

_SAME = 1e-9
_CLOSE = 1e-4
"""Relative difference up to which the other formulas have to agree: they are good to about 1e-6."""
MOST_LAWS = 50
"""Laws that a plan lists, and a check works out again; a fleet has few, unless each device has its own."""


def claim_of(scenario: Scenario, counted: Equivalent, reserve_j: float = 0.0) -> dict[str, Any] | None:
    """The plan's `under`: the mode, what was asked for, and the laws' figures; None for `mean`."""
    planning = scenario.planning
    if planning is None or counted.under is Under.MEAN:
        return None
    if counted.under is Under.PARTICIPATION:
        asked = counted.scenario.devices.asked
        return {
            "under": planning.under.value,
            "least_participation": planning.least_asked,
            "confidence": planning.confidence,
            "reserve_j": reserve_j,
            "participation": [] if asked is None else asked.tolist(),
        }
    if counted.under is Under.WORST_CASE:
        return {
            "under": planning.under.value,
            "interval_db": planning.drop_db,
            "clock_interval": planning.clock_interval or 0.0,
            "compute_interval": planning.compute_interval or 0.0,
            "constants_interval": planning.constants_interval or 0.0,
        }
    claim: dict[str, Any] = {
        "under": planning.under.value,
        "outage": planning.share,
        "device_outage": planning.device_outage(len(scenario.devices)),
        "laws": laws_of(scenario, counted),
    }
    if counted.under is Under.ERGODIC:
        claim["confidence"] = planning.confidence
        claim["reserve_j"] = reserve_j
    return claim


def laws_of(scenario: Scenario, counted: Equivalent) -> list[dict[str, Any]]:
    """The different laws of fading and shadowing among the devices, those of most devices first.

    A `k_factor` of null stands for no fading. Ways and traces come on top, and are not in it.
    """
    odds, columns = counted.odds, columns_of(scenario)
    if odds is None:
        return []
    way = np.ones(len(scenario.devices))
    drawn = np.isfinite(columns.k_factor) | (columns.std_db > 0.0)
    for one in columns.ways:
        way[one.devices] = one.lowest_factor
    rows = np.stack([columns.k_factor, columns.std_db, odds.chance, odds.floor / way], axis=1)[drawn]
    if not len(rows):
        return []
    different, counts = np.unique(rows, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MOST_LAWS]
    return [
        {
            "k_factor": None if math.isinf(k_factor) else k_factor,
            "std_db": std_db,
            "chance": chance,
            "quantile": quantile,
            "devices": int(count),
        }
        for (k_factor, std_db, chance, quantile), count in zip(
            different[order].tolist(), counts[order].tolist(), strict=True
        )
    ]


def wrong_with(
    claim: Mapping[str, Any] | None, scenario: Scenario, finetune: FinetuneStage | None, energy_j: float
) -> list[str]:
    """What of a plan's `under` does not hold, one line each.

    The claim is compared with what the scenario asks for; the quantiles are worked out by other formulas than the
    planner's; with a confidence, the run's energy and what Bernstein's inequality adds to it are held against the
    budget.
    """
    under = planned_under(scenario)
    if under is Under.MEAN:
        return [] if claim is None else ["plan.under: should not be there: the scenario plans under the mean"]
    reserve_j = claim.get("reserve_j", 0.0) if claim is not None else 0.0
    if claim is None or not isinstance(reserve_j, int | float) or not 0.0 <= reserve_j < scenario.budget.energy_j:
        return [f"plan.under: should say {under.value}, and hold a reserve_j within the budget if it holds one"]
    if under is Under.PARTICIPATION:
        asked, least = claim.get("participation"), planned_least(scenario)
        numbers = isinstance(asked, list) and all(isinstance(p, int | float) and least <= p <= 1.0 for p in asked)
        if not numbers or not isinstance(asked, list) or len(asked) != len(scenario.devices):
            return [f"plan.under.participation: should hold a probability of {least:g} to 1 for each device"]
        counted = asking(scenario, np.array(asked, dtype=np.float64), reserve_j)
    else:
        counted = equivalent(scenario, reserve_j)
    expected = claim_of(scenario, counted, reserve_j) or {}
    problems = _differences(claim, expected)
    if problems or (counted.odds is None and under is not Under.PARTICIPATION):
        return problems
    if counted.odds is not None:
        problems = _wrong_odds(counted.odds, scenario, expected, under)
    if planning_confidence(scenario) is not None and finetune is not None:
        beyond = margin_j(counted, finetune, planning_confidence(scenario) or 0.0)
        if energy_j + beyond > scenario.budget.energy_j * (1.0 + _SAME):
            problems.append(
                f"plan.under.reserve_j: with {reserve_j!r} kept back the run may take {energy_j + beyond!r} J, "
                f"the budget is {scenario.budget.energy_j!r} J"
            )
    return problems


def _wrong_odds(odds: Odds, scenario: Scenario, expected: Mapping[str, Any], under: Under) -> list[str]:
    """The laws' figures by other formulas than the planner's."""
    problems = [line for law in expected["laws"] for line in _wrong_law(law)]
    columns = columns_of(scenario)
    drawn = {law["quantile"]: law for law in expected["laws"]}
    fading = np.isfinite(columns.k_factor) | (columns.std_db > 0.0)
    on_way = np.zeros(len(fading), dtype=np.bool_)
    for way in columns.ways:
        on_way[way.devices] = True
    for k in np.flatnonzero(fading & ~on_way).tolist():
        law = drawn.get(float(odds.floor[k]))
        if law is not None and under is Under.ERGODIC and "mean" not in law:
            law["mean"] = inverse_mean_above(law["quantile"], _k_of(law), law["std_db"])
            if law["mean"] > odds.inverse_mean[k] * (1.0 + _CLOSE):
                claimed = float(odds.inverse_mean[k])
                problems.append(f"plan.under: counts an inverse mean of {claimed!r}, integrated it is {law['mean']!r}")
    return problems


def planned_least(scenario: Scenario) -> float:
    """The least probability that the scenario's planning lets a device be asked with."""
    return 1.0 if scenario.planning is None else scenario.planning.least_asked


def planning_confidence(scenario: Scenario) -> float | None:
    """The probability with which the whole run is to keep its energy budget; None where none is asked for."""
    return None if scenario.planning is None else scenario.planning.confidence


def _k_of(law: Mapping[str, Any]) -> float:
    return math.inf if law["k_factor"] is None else float(law["k_factor"])


def _wrong_law(law: Mapping[str, Any]) -> list[str]:
    """Whether a law's quantile keeps its probability, by the integral over the in-phase part."""
    found = float(chance_below(np.array([law["quantile"]]), _k_of(law), law["std_db"])[0])
    if found <= law["chance"] * (1.0 + _CLOSE):
        return []
    return [f"plan.under.laws: a gain below {law['quantile']!r} has the probability {found!r}, not {law['chance']!r}"]


def _differences(claim: Mapping[str, Any], expected: Mapping[str, Any]) -> list[str]:
    """Where two claims differ by more than rounding."""
    problems = []
    for key in {**expected, **claim}:
        if not _same(claim.get(key), expected.get(key)):
            found = str(expected.get(key))[:80]
            problems.append(f"plan.under.{str(key)[:40]}: claims {str(claim.get(key))[:80]}, recomputed {found}")
    return problems


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    numbers = [isinstance(value, int | float) and not isinstance(value, bool) for value in (one, other)]
    if all(numbers):
        return bool(abs(one - other) <= _SAME * max(abs(one), abs(other)))
    return bool(one == other)
