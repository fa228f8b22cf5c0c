"""Proves a plan's lower bound, and a scenario's infeasibility, from the prices in the certificate.

All rounds (and, where whole batches ask for it, all spans of a fine-tuning round) are cut into boxes until some prices
bound each box at the claim or above (`pretune.bounds`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pretune.bounds import SAME, Boxes, Priced, System, bound, number, priced, system_of
from pretune.errors import InputError
from pretune.physics.types import Floats
from pretune.plans import Plan
from pretune.scenario import Scenario

MOST_BOXES = 200_000
MOST_LEVELS = 400
MOST_CELLS = 2_000_000
"""What a proof may cost: boxes open at a time, cuts in a row, array cells at a time."""


def most_rounds(system: System) -> tuple[float, float]:
    """Rounds of either stage that the delay certainly rules out beyond: one sample each, at full speed."""
    scenario = system.scenario
    delay, fleet = scenario.budget.delay_s, scenario.devices
    computing = system.cycles / fleet.max_clock_hz
    uploading = system.span / system.exponent_max
    span = float(computing.max() + uploading.sum()) if system.tdma else float((computing + uploading).max())
    m = math.floor(delay / (system.server_cycles / scenario.server.max_clock_hz) * (1.0 + SAME))
    n = math.floor(delay / (span + system.down_s) * (1.0 + SAME))
    return float(m), float(n)


def cover(
    system: System, sets: Sequence[Priced], claim: float, spans: tuple[float, float] | None
) -> tuple[bool, list[int]]:
    """Whether the prices bound all rounds at `claim` or above, and which of them that took.

    Cuts what no prices bound in two, again and again. `spans` is the range of spans to cut as well; None when the
    proof needs no such cuts.
    """
    most_m, most_n = most_rounds(system)
    s1, s2 = spans if spans is not None else (0.0, math.inf)
    boxes = np.array([[0.0, most_m, 0.0, most_n, s1, s2]])
    needed: set[int] = set()
    rows = max(1, MOST_CELLS // len(system.cycles))
    for _ in range(MOST_LEVELS):
        boxes = boxes[(boxes[:, 1] > 0.0) | (boxes[:, 3] > 0.0)]
        for i, prices in enumerate(sets):
            if not len(boxes):
                return True, sorted(needed)
            found = [bound(system, prices, boxes[at : at + rows]) for at in range(0, len(boxes), rows)]
            settled = np.concatenate(found) >= claim
            if np.any(settled):
                needed.add(i)
                boxes = boxes[~settled]
        if not len(boxes):
            return True, sorted(needed)
        if len(boxes) > MOST_BOXES:
            break
        whole, boxes = _halves(boxes, spans is not None, system.tdma)
        if not whole:
            break
    return False, sorted(needed)


def _halves(boxes: Boxes, by_span: bool, tdma: bool) -> tuple[bool, Boxes]:
    """Each box cut in two along its (logarithmically) widest side; False when one can't be cut.

    With FDMA and no pre-training the span is all the time there is, so there is nothing to cut.
    """
    m1, m2, n1, n2, s1, s2 = boxes.T
    wide_m, wide_n = np.log((m2 + 1.0) / (m1 + 1.0)), np.log((n2 + 1.0) / (n1 + 1.0))
    wide = np.maximum(wide_m, wide_n)
    wide_s = np.where((n2 > 0.0) & ((m2 > 0.0) | tdma), np.log(s2 / s1), 0.0) if by_span else np.zeros(len(boxes))
    if np.any((wide == 0.0) & (wide_s < 1e-11)):
        return False, boxes
    cut_s = (wide_s > 0.0) & ((wide == 0.0) | (wide_s > np.maximum(4.0 * wide * wide, 0.5 * wide)))
    cut_m = ~cut_s & (wide_m >= wide_n)
    cut_n = ~cut_s & ~cut_m
    first, second = boxes.copy(), boxes.copy()
    first[cut_s, 5] = second[cut_s, 4] = np.sqrt(s1 * s2)[cut_s] if by_span else 0.0
    for cut, low in ((cut_m, 0), (cut_n, 2)):
        middle = _between(boxes[cut, low], boxes[cut, low + 1])
        first[cut, low + 1] = middle
        second[cut, low] = middle + 1.0
    return True, np.concatenate([first, second])


def _between(a: Floats, b: Floats) -> Floats:
    """A whole number in [a, b - 1] near the geometric mean."""
    return np.clip(np.floor(np.sqrt((a + 1.0) * (b + 1.0))) - 1.0, a, b - 1.0)


def proves(plan: Plan, scenario: Scenario, problems: list[str]) -> bool:
    """Whether the certificate proves the plan's lower bound and multipliers; adds what fails to `problems`.

    A certificate without prices (very large fleets) claims the bound without a proof that can be repeated: returns
    False and adds nothing.
    """
    certificate = plan.certificate or {}
    entries = certificate.get("prices")
    if entries is None:
        return False
    if not isinstance(entries, list) or not entries:
        problems.append("plan.certificate.prices: should hold a list of price sets")
        return False
    system = system_of(scenario)
    try:
        sets = [priced(system, entry) for entry in entries if isinstance(entry, Mapping)]
        spans = _spans(certificate)
    except InputError as error:
        problems.append(str(error))
        return False
    if len(sets) != len(entries):
        problems.append("plan.certificate.prices: should hold objects")
        return False
    _check_multipliers(plan, system, sets[0], problems)
    claim = plan.lower_bound - SAME * abs(plan.lower_bound)
    whole, _ = cover(system, sets, claim, None) if spans is None else cover(system, sets, claim, spans)
    if not whole:
        problems.append(f"plan.lower_bound: the certificate's prices do not prove {plan.lower_bound!r}")
    return whole


def _spans(certificate: Mapping[str, Any]) -> tuple[float, float] | None:
    spans = certificate.get("spans")
    if spans is None:
        return None
    if not isinstance(spans, list) or len(spans) != 2:
        raise InputError("plan.certificate.spans: should hold two numbers")
    s1, s2 = (number({"spans": s}, "spans") for s in spans)
    if not 0.0 < s1 < s2:
        raise InputError("plan.certificate.spans: should hold two positive numbers, the smaller first")
    return s1, s2


def _check_multipliers(plan: Plan, system: System, first: Priced, problems: list[str]) -> None:
    """The multipliers are minus the first prices over the weight at the plan's rounds, and those prices are tight.

    Tight: for real batches the prices must bound the plan's own rounds to within the whole batches' loss, which is
    at most what the plan's gap leaves; else some other prices would be the multipliers.
    """
    if plan.pretrain is None or plan.finetune is None:
        return
    m, n = float(plan.pretrain.rounds), float(plan.finetune.rounds)
    weight = system.criterion.at(m, n).weight
    expected = {"energy_j": -first.energy / weight, "delay_s": -first.delay / weight}
    if set(plan.multipliers) != set(expected):
        problems.append(f"plan.multipliers: should hold {', '.join(expected)}")
        return
    for name, value in expected.items():
        if not abs(plan.multipliers[name] - value) <= SAME * abs(value):
            problems.append(f"plan.multipliers.{name}: claims {plan.multipliers[name]!r}, the prices give {value!r}")


def stage_shortage(plan: Plan, scenario: Scenario, problems: list[str]) -> None:
    """Check the claim that not even one round fits, and the smallest budgets, from the certificate's prices.

    For each stage the certificate holds either ``"delay"`` (one round of one sample takes longer, or its battery
    can't pay it at any speed), or prices at which one round costs more than the budgets are worth.
    """
    certificate = plan.certificate or {}
    system = system_of(scenario)
    for name, m, n in (("pretrain", 1.0, 0.0), ("finetune", 0.0, 1.0)):
        entry = certificate.get(name)
        fastest = bool(system.scenario.budget.delay_s < _fastest(system, m, n) * (1.0 - SAME))
        if fastest:
            continue
        if not isinstance(entry, Mapping):
            problems.append(f"plan.certificate.{name}: should hold prices that prove the shortage")
            continue
        try:
            prices = priced(system, entry)
        except InputError as error:
            problems.append(str(error))
            continue
        cost_one = prices.server_cost if m else float(prices.sample_costs.sum()) + prices.round_cost
        if not cost_one > prices.budget * (1.0 - SAME):
            problems.append(f"plan.certificate.{name}: the prices do not prove that one round does not fit")


def _fastest(system: System, m: float, n: float) -> float:
    """Seconds of one round of one sample at full speed."""
    scenario = system.scenario
    if m:
        return float(system.server_cycles / scenario.server.max_clock_hz)
    computing = system.cycles / scenario.devices.max_clock_hz
    uploading = system.span / system.exponent_max
    span = float(computing.max() + uploading.sum()) if system.tdma else float((computing + uploading).max())
    return span + system.down_s
