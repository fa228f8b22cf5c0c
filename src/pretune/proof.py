"""Proves a plan's lower bound, and a scenario's infeasibility, from the prices in the certificate.

All rounds (and, where whole batches ask for it, all spans of a fine-tuning round) are cut into boxes until some prices
bound each box at the claim or above (`pretune.bounds`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.bounds import bound
from pretune.compact import compact_priced, is_compact, most_rounds
from pretune.errors import InputError
from pretune.figures import SAME, Boxes, System, system_of
from pretune.frontier import THIN, Frontier, between
from pretune.physics.types import Floats
from pretune.plans import Plan
from pretune.price_sets import Priced, multipliers_of, priced
from pretune.scenario import Scenario
from pretune.segment_bounds import bound_segments, priced_segments

MOST_BOXES = 50_000
MOST_LEVELS = 400
MOST_CELLS = 2_000_000
"""What a proof may cost: boxes open at a time, cuts in a row, array cells at a time."""
ASKED = 64
"""How many price sets a box asks before it is cut."""
LITTLE = 0.02
"""A cut that brings less than this share of what is missing brings nothing."""

Order = NDArray[np.intp]


def cover(
    system: System,
    sets: Sequence[Priced],
    claim: float,
    cut_spans: bool,
    most: tuple[float, float] | None = None,
    deadline: float = math.inf,
) -> tuple[bool, list[int]]:
    """Whether the prices bound all rounds at `claim` or above, and which of them that took.

    Cuts what no prices bound in two, again and again; each box asks the price sets whose homes are nearest, and a box
    that can't be cut asks all. `cut_spans`: whether the proof needs the spans of a fine-tuning round cut as well.
    `most`: the most rounds of either stage, by default all that the delay allows. From `deadline` on (of
    `time.monotonic`) nothing more is cut.
    """
    most_m, most_n = most_rounds(system) if most is None else most
    s1, s2 = _length_range(system) if cut_spans else (0.0, math.inf)
    boxes = np.array([[0.0, most_m, 0.0, most_n, s1, s2]])
    stacked = _stack(sets)
    homes = _place(np.array([entry.home for entry in sets]), cut_spans)
    # how many boxes each set has settled: the sets that did most are asked by every box
    settled: Order = np.zeros(len(sets), dtype=np.intp)
    for _ in range(MOST_LEVELS):
        boxes = boxes[(boxes[:, 1] > 0.0) | (boxes[:, 3] > 0.0)]
        proven = np.argsort(-settled, kind="stable")[:ASKED]
        asked = np.hstack([_nearest(boxes, homes, cut_spans), np.broadcast_to(proven, (len(boxes), len(proven)))])
        boxes, best, which = _open(system, stacked, boxes, asked, claim, settled)
        whole = _cuttable(boxes, cut_spans, system.tdma)
        everything = np.broadcast_to(np.arange(len(sets)), (int((~whole).sum()), len(sets)))
        if len(_open(system, stacked, boxes[~whole], everything, claim, settled)[0]):
            return False, np.flatnonzero(settled).tolist()
        boxes, best, which = boxes[whole], best[whole], which[whole]
        if not len(boxes):
            return True, np.flatnonzero(settled).tolist()
        if len(boxes) > MOST_BOXES or time.monotonic() > deadline:
            break
        sides = _sides(system, stacked, boxes, best, which, claim, cut_spans)
        boxes = np.concatenate(_halves(boxes, sides))
    return False, np.flatnonzero(settled).tolist()


def _length_range(system: System) -> tuple[float, float]:
    """The lengths a fine-tuning round can have: one sample at full speed and the uploads, up to the delay."""
    computing = system.cycles / system.scenario.devices.max_clock_hz
    uploading = system.span / system.exponent_max
    least = computing.max() + uploading.sum() if system.tdma else (computing + uploading).max()
    shortest = float(least) * (1.0 - SAME)
    return shortest, max(system.scenario.budget.delay_s, 2.0 * shortest)


def _stack(sets: Sequence[Priced]) -> Priced:
    """The price sets as one whose entries have the sets along their first axis."""
    keys = [key for key in vars(sets[0]) if key not in ("home", "curve")]
    columns: dict[str, Any] = {key: np.array([getattr(entry, key) for entry in sets]) for key in keys}
    return Priced(**columns, home=(0.0, 0.0, 0.0))


def _open(
    system: System, stacked: Priced, boxes: Boxes, asked: Order, claim: float, settled: Order
) -> tuple[Boxes, Floats, Order]:
    """The boxes that none of the price sets they ask (rows of `asked`, in order) bound at the claim.

    With the best bound of each, and the set that it is from. Counts in `settled` the boxes that each set did settle.
    """
    left = np.arange(len(boxes))
    best, by = np.full(len(boxes), -np.inf), np.zeros(len(boxes), dtype=np.intp)
    for rank in range(asked.shape[1]):
        which = asked[left, rank]
        found = _bounds(system, stacked, boxes[left], which)
        done = found >= claim
        np.add.at(settled, which[done], 1)
        better = found > best[left]
        best[left[better]], by[left[better]] = found[better], which[better]
        left = left[~done]
        if not len(left):
            break
    return boxes[left], best[left], by[left]


def _bounds(system: System, stacked: Priced, boxes: Boxes, which: Order) -> Floats:
    """What price set `which[i]` proves for box `i`."""
    schedule = system.scenario.schedule
    prove = bound_segments if schedule > 1 else bound
    rows = max(1, MOST_CELLS // (len(system.cycles) * schedule))
    found = np.empty(len(boxes))
    for at in range(0, len(boxes), rows):
        some = slice(at, at + rows)
        columns = {key: value for key, value in vars(stacked).items() if key not in ("home", "curve")}
        taken: dict[str, Any] = {key: value[which[some]] for key, value in columns.items()}
        found[some] = prove(system, replace(stacked, **taken), boxes[some])
    return found


def _place(points: Floats, by_span: bool) -> Floats:
    """Rounds and spans in logarithms, where distances mean something."""
    logs = np.log1p(points)
    logs[:, 2] = np.log(np.maximum(points[:, 2], 1e-300)) if by_span else 0.0
    return logs


def _nearest(boxes: Boxes, homes: Floats, by_span: bool) -> Order:
    """For each box the price sets solved nearest to it, nearest first, shape (B, ASKED or fewer)."""
    count = min(ASKED, len(homes))
    ends = [_place(boxes[:, [i, i + 2, i + 4]], by_span) for i in (0, 1)]
    centres = 0.5 * (ends[0] + ends[1])
    order = np.empty((len(boxes), count), dtype=np.intp)
    rows = max(1, MOST_CELLS // len(homes))
    for at in range(0, len(boxes), rows):
        away = ((centres[at : at + rows, None, :] - homes[None, :, :]) ** 2).sum(axis=2)
        order[at : at + rows] = np.argsort(away, axis=1, kind="stable")[:, :count]
    return order


def _cuttable(boxes: Boxes, by_span: bool, tdma: bool) -> NDArray[np.bool_]:
    """Which boxes hold more than one pair of rounds, or a span worth cutting."""
    rounds = (boxes[:, 1] > boxes[:, 0]) | (boxes[:, 3] > boxes[:, 2])
    return rounds | (_span_widths(boxes, by_span, tdma) > 0.0)


def _span_widths(boxes: Boxes, by_span: bool, tdma: bool) -> Floats:
    """Logarithmic widths of the spans; zero where there is nothing to cut, or next to nothing.

    With FDMA and no pre-training the span is all the time there is.
    """
    if not by_span:
        return np.zeros(len(boxes))
    free = (boxes[:, 3] > 0.0) & ((boxes[:, 1] > 0.0) | tdma)
    widths = np.log(boxes[:, 5] / boxes[:, 4])
    return np.where(free & (widths > THIN), widths, 0.0)


def _sides(
    system: System, stacked: Priced, boxes: Boxes, best: Floats, which: Order, claim: float, by_span: bool
) -> Order:
    """Along which side to cut each box: the rounds of pre-training (0), those of fine-tuning (1), or the span (2).

    Where the two halves come nearer to the claim, by the prices that bound the box best; the relatively longest side
    where no cut brings anything.
    """
    m1, m2, n1, n2 = boxes.T[:4]
    spans = _span_widths(boxes, by_span, system.tdma)
    wide = np.stack([np.log((m2 + 1.0) / (m1 + 1.0)), np.log((n2 + 1.0) / (n1 + 1.0)), spans])
    longest: Order = wide.argmax(axis=0)
    gains = np.zeros(wide.shape)
    for side in range(3):
        some = np.flatnonzero(wide[side] > 0.0)
        if len(some):
            for part in _halves(boxes[some], np.full(len(some), side)):
                found = _bounds(system, stacked, part, which[some])
                gains[side, some] += np.clip(found, best[some], claim) - best[some]
    telling = gains.max(axis=0) > LITTLE * (claim - best)
    return np.where(telling, gains.argmax(axis=0), longest)


def _halves(boxes: Boxes, sides: Order) -> tuple[Boxes, Boxes]:
    """The lower and the upper half of each box, cut along its side."""
    lower, upper = boxes.copy(), boxes.copy()
    for side, low in ((0, 0), (1, 2)):
        cut = sides == side
        middle = between(boxes[cut, low], boxes[cut, low + 1])
        lower[cut, low + 1], upper[cut, low] = middle, middle + 1.0
    cut = sides == 2
    lower[cut, 5] = upper[cut, 4] = np.sqrt(boxes[cut, 4] * boxes[cut, 5])
    return lower, upper


def proves(plan: Plan, scenario: Scenario, problems: list[str]) -> bool:
    """Whether the certificate proves the plan's lower bound and multipliers; adds what fails to `problems`.

    Where the number of local steps is chosen, the bound has to hold for all of them: the certificate's `prices` are for
    the plan's own, and `local_steps` has prices (or the proof that nothing fits) for each of the others.

    A certificate without prices claims the bound without a proof that can be repeated: returns False and adds nothing.
    """
    certificate = plan.certificate or {}
    unknown = sorted(set(certificate) - {"tolerance", "prices", "local_steps"})
    if unknown:
        problems.append(f"plan.certificate.{unknown[0]}: is not a key of a certificate")
        return False
    entries = certificate.get("prices")
    if entries is None:
        return False
    own = None if plan.finetune is None else plan.finetune.local_steps
    settled = scenario.settled(own)
    if not _bounds_all(plan, settled, entries, problems, own=True):
        return False
    rest = certificate.get("local_steps", [])
    found = {one.get("steps"): one for one in rest if isinstance(one, Mapping)} if isinstance(rest, list) else {}
    others = [count for count in scenario.convergence.choices if len(scenario.convergence.choices) > 1 and count != own]
    if not isinstance(rest, list) or list(found) != others or len(rest) != len(others):
        problems.append(f"plan.certificate.local_steps: should hold a proof for each of {others}")
        return False
    for count in others:
        other, proof = scenario.settled(count), found[count]
        if "prices" in proof:
            if not _bounds_all(plan, other, proof["prices"], problems, own=False):
                return False
            continue
        before = len(problems)
        stage_shortage(replace(plan, certificate={key: proof[key] for key in proof if key != "steps"}), other, problems)
        if len(problems) > before:
            return False
    return True


def _bounds_all(plan: Plan, scenario: Scenario, entries: Any, problems: list[str], *, own: bool) -> bool:
    """Whether these price sets prove the plan's lower bound for the scenario; `own`: the first is the multipliers."""
    if not isinstance(entries, list) or not entries:
        problems.append("plan.certificate.prices: should hold a list of price sets")
        return False
    system = system_of(scenario)
    try:
        read = priced_segments if scenario.schedule > 1 else price_set
        sets = [read(system, entry) for entry in entries if isinstance(entry, Mapping)]
    except InputError as error:
        problems.append(str(error))
        return False
    if len(sets) != len(entries):
        problems.append("plan.certificate.prices: should hold objects")
        return False
    compact = is_compact(entries[0])
    if any(is_compact(entry) != compact for entry in entries):
        problems.append("plan.certificate.prices: all sets should hold shares, or none")
        return False
    if own:
        check_multipliers(plan, system, sets[0], problems)
    claim = plan.lower_bound - SAME * abs(plan.lower_bound)
    if compact:
        whole = Frontier.of(system).advance(sets, claim) is None
    else:
        # the bounds of plans in segments know nothing of spans
        whole = cover(system, sets, claim, False)[0] or (scenario.schedule == 1 and cover(system, sets, claim, True)[0])
    if not whole:
        problems.append(f"plan.lower_bound: the certificate's prices do not prove {plan.lower_bound!r}")
    return whole


def price_set(system: System, entry: Mapping[str, Any]) -> Priced:
    """The costs that a price set of the certificate implies, whether it holds the devices' shares or leaves them.

    Raises:
        InputError: a key is missing, unknown or out of range.
    """
    if is_compact(entry) and system.band_hz is not None:
        raise InputError("plan.certificate.prices: should hold each device's share where the plan shares out a band")
    return compact_priced(system, entry) if is_compact(entry) else priced(system, entry)


def check_multipliers(plan: Plan, system: System, first: Priced, problems: list[str]) -> None:
    """The multipliers are minus the first prices over the weight at the plan's rounds, and those prices are tight.

    Tight: for real batches the prices must bound the plan's own rounds to within the whole batches' loss, which is
    at most what the plan's gap leaves; else some other prices would be the multipliers.
    """
    if plan.pretrain is None or plan.finetune is None:
        return
    m, n = float(plan.pretrain.rounds), float(plan.finetune.rounds)
    expected = multipliers_of(system, first, m, n)
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
    if m:
        return float(system.server_cycles / system.scenario.server.max_clock_hz)
    return system.shortest + system.up_s + system.down_s
