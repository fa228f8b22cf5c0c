"""What prices prove where it is decided too how likely each device is asked (docs/uncertainty.md).

Price a joule at ``lambda``, a second at ``lambda omega``, device k's part of a round's span at ``lambda share_k`` while
it takes part, its battery at ``lambda (ratio_k - 1)``, and the spread ``sum_k alpha_k^2 (1/p_k - 1)`` at ``B``. By weak
duality no decision with rounds ``(M, N)`` and a span s has a numerator below

    phi + min_b0 (psi0/b0 + M c0 b0) + N (C + lambda omega s) + sum_k v_k(s) - budgets
    v_k(s) = min over p, b of p N (c_k b + x_k - lambda share_k s) + (psi A_k/b + B alpha_k^2)/p - B alpha_k^2

with whole batches and any p from the least to 1. This is concave in s at given prices, so a box of spans has its
least at one of its ends. For trajectory ``B = 2 psi (h^2 + claim)`` says that the criterion is below the claim; for
final the spread is cut into slices, the criterion of a slice is that of its lower end, and B pays for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pretune.bounds import server_bills
from pretune.caps import longest_span, most_server
from pretune.convergence.criteria import Final, Trajectory
from pretune.convergence.participation import Known, with_spread
from pretune.corners import least_over
from pretune.errors import InputError
from pretune.figures import SAME, Boxes, System
from pretune.physics.types import Floats
from pretune.price_sets import Priced, column, home_of, number, sample_cost, server_cost_of
from pretune.uploads import upload_cost

_KEYS = {"energy", "omega", "shares", "ratios", "spread", "home"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Sets:
    """Price sets, a row each: numbers of shape (P,), device columns (P, K), `home` (P, 3); units of the numerator."""

    sample_costs: Floats
    uploads: Floats
    credits: Floats
    server_cost: Floats
    round_cost: Floats
    second: Floats
    budget: Floats
    spread: Floats
    home: Floats

    def __len__(self) -> int:
        return len(self.second)


@dataclass(frozen=True, kw_only=True, eq=False)
class Asking:
    """What a bound over all probabilities is for: those from `least` to 1, and decisions worth less than `claim`."""

    system: System
    base: Known
    weight_sq: Floats
    least: float
    claim: float
    heterogeneity: float
    pl_constant: float


def asking_of(system: System, least: float, claim: float) -> Asking:
    """For a system in which all are asked."""
    scenario, base = system.scenario, system.criterion
    constants = scenario.assumed
    return Asking(
        system=system,
        base=base,  # type: ignore[arg-type]
        weight_sq=np.square(scenario.devices.weight),
        least=least,
        claim=claim,
        heterogeneity=constants.heterogeneity or 0.0,
        pl_constant=constants.pl_constant or 0.0,
    )


def set_of(system: System, entry: Mapping[str, Any]) -> dict[str, Any]:
    """One price set's row.

    Raises:
        InputError: a key is missing, unknown or out of range.
    """
    fleet, budget = system.scenario.devices, system.scenario.budget
    unknown = sorted(set(entry) - _KEYS)
    if unknown:
        raise InputError(f"plan.certificate.asked: {str(unknown[0])[:40]} is not a key of a price set")
    lam, omega, spread = (number(entry, key) for key in ("energy", "omega", "spread"))
    shares = column(entry, "shares", len(fleet), 0.0)
    ratios = column(entry, "ratios", len(fleet), 1.0)
    if min(lam, omega, spread) < 0.0 or np.any(shares < 0.0) or np.any(ratios < 1.0):
        raise InputError("plan.certificate.asked: prices must not be negative, ratios not below one")
    limited = ratios > 1.0
    if np.any(limited & ~np.isfinite(fleet.battery_j)):
        raise InputError("plan.certificate.asked: prices a battery that the scenario does not limit")
    own = shares / ratios
    samples = sample_cost(own, system.cycles, fleet.capacitance, fleet.max_clock_hz, fleet.static_power_w)
    uploads = upload_cost(own + fleet.circuit_power_w, system.noise, system.span, system.exponent_max)
    batteries = float(((ratios - 1.0)[limited] * fleet.battery_j[limited]).sum())
    return {
        "sample_costs": lam * ratios * samples,
        "uploads": lam * ratios * uploads,
        "credits": lam * shares,
        "server_cost": lam * server_cost_of(system, omega),
        "round_cost": lam * (system.down_j + omega * system.down_s),
        "second": lam * omega,
        "budget": lam * (budget.energy_j + omega * budget.delay_s + batteries),
        "spread": spread,
        "home": np.array(home_of(entry)),
    }


def stacked(rows: list[dict[str, Any]]) -> Sets:
    """The rows as one."""
    return Sets(**{key: np.array([row[key] for row in rows]) for key in rows[0]})


def spread_end(asking: Asking) -> float:
    """The largest spread at which a round still improves the model; infinity where that is not asked."""
    base = asking.base
    if not isinstance(base, Final) or asking.pl_constant == 0.0:
        return np.inf
    return float(1.0 / (4.0 * asking.pl_constant * base.device_noise))


def bound(asking: Asking, sets: Sets, boxes: Boxes, which: NDArray[np.intp], part: tuple[float, float]) -> Floats:
    """What price set ``which[i]`` proves for box i, rows ``m1, m2, n1, n2, s1, s2``, and spreads in `part`.

    Where it reaches the claim nothing in the box is worth less. Shape (B,); infinity where a box holds no plan.
    """
    system = asking.system
    fleet = system.scenario.devices
    _, _, n1, _, s1, s2 = boxes.T
    longest = np.minimum(s2, longest_span(system, boxes))
    server_high = most_server(system, boxes, s1)
    fastest = system.span / system.exponent_max
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        most = np.floor((longest[:, None] - fastest) * fleet.max_clock_hz / system.cycles * (1.0 + SAME))
    high = np.minimum(fleet.samples, np.where((n1 > 0.0)[:, None], most, np.inf))
    empty = (server_high < 1.0) | np.any(high < 1.0, axis=1) | ((n1 > 0.0) & (longest < s1 * (1.0 - SAME)))
    empty |= (n1 > 0.0) & np.any(n1[:, None] * asking.least * _least_joules(system, longest) > fleet.battery_j, axis=1)
    high = np.maximum(high, 1.0)
    ends = (s1, np.maximum(np.minimum(longest, 1e300), s1))
    samples, uploads, credits = (getattr(sets, key)[which] for key in ("sample_costs", "uploads", "credits"))
    second, round_cost, priced = sets.second[which], sets.round_cost[which], sets.spread[which]
    criterion, slope = _criterion(asking, boxes, part)
    spread: Floats = np.maximum(priced, slope) if np.isinf(part[1]) else priced
    if isinstance(asking.base, Final):
        spread = spread if np.isfinite(part[1]) else slope
        # with a price below the slope the rest is at least nothing; above it, what the slice's end would pay
        paid = -np.minimum(spread, slope) * part[0]
        paid = paid - np.maximum(spread - slope, 0.0) * (part[1] if np.isfinite(part[1]) else 0.0)
    else:
        paid = np.zeros(len(boxes))

    def fleet_bill(n: Floats, psi: Floats) -> Floats:
        if isinstance(asking.base, Trajectory):
            price = 2.0 * psi * (asking.heterogeneity**2 + max(asking.claim, 0.0))
        elif isinstance(asking.base, Final):
            price = spread
        else:
            price = np.zeros_like(psi)
        bills = []
        for s in ends:
            whole = n * (round_cost + second * s)
            joules = n[:, None] * (uploads - credits * s[:, None])
            each = least_asked(
                joules,
                n[:, None] * samples,
                psi[:, None] * system.variance,
                price[:, None] * asking.weight_sq,
                asking.least,
                high,
            )
            bills.append(whole + each.sum(axis=1))
        return np.where(n > 0.0, np.minimum(*bills), 0.0)

    prices = _as_priced(sets, which)
    value = least_over(criterion, boxes, server_bills(prices, server_high), fleet_bill, sets.budget[which] - paid)
    return np.where(empty, np.inf, value)


def _least_joules(system: System, span: Floats) -> Floats:
    """No device takes part in a round of a span for less, shape (B, K): a sample and an upload, each in all of it."""
    fleet = system.scenario.devices
    if not np.isfinite(fleet.battery_j).any():
        return np.zeros((len(span), 1))
    time = np.minimum(span, 1e290)[:, None]
    with np.errstate(over="ignore"):
        upload = system.noise * time * np.expm1(np.minimum(system.span / time, 700.0))
    joules: Floats = (upload + fleet.capacitance * system.cycles**3 / time**2) * (1.0 - SAME)
    return joules


def _as_priced(sets: Sets, which: NDArray[np.intp]) -> Priced:
    """As much of the sets as the server's bill needs."""
    none = np.zeros(0)
    return Priced(
        energy=0.0,
        delay=0.0,
        server_cost=sets.server_cost[which],
        sample_costs=none,
        round_cost=0.0,
        slack=0.0,
        budget=0.0,
        halves=none,
        home=(0.0, 0.0, 0.0),
    )


def least_asked(joules: Floats, unit: Floats, noise: Floats, spread: Floats, least: float, high: Floats) -> Floats:
    """``min over p in [least, 1], whole b in [1, high] of p (joules + unit b) + (noise/b + spread)/p - spread``.

    For given b the best p is known; what remains falls and then rises in b, with the turn where one of three formulas
    says (p at 1, at the least, between): the whole numbers next to all three are tried.
    """
    best = np.full(np.broadcast_shapes(joules.shape, high.shape), np.inf)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        first = np.sqrt(noise / unit)
        between = np.sqrt(noise * np.maximum(joules, 0.0) / (spread * unit))
        for real in (first, first / least, between):
            down = np.clip(np.floor(np.where(np.isnan(real), 1.0, real)), 1.0, high)
            for b in (down, np.minimum(down + 1.0, high)):
                cost, worth = joules + unit * b, noise / b + spread
                p = np.where(cost > 0.0, np.clip(np.sqrt(worth / cost), least, 1.0), 1.0)
                best = np.minimum(best, p * cost + worth / p - spread)
    found: Floats = best
    return found


def _criterion(asking: Asking, boxes: Boxes, part: tuple[float, float]) -> tuple[Known, Floats]:
    """The criterion at the slice's lower end, and the least that a little more spread adds to it in each box.

    final's value is convex in the spread, so its slope is at least that at the lower end, there at least
    ``delta n q^(n-1) D + 2 h^2 noise (1 - q^n)/(1 - q)`` with the least D of the box; ``n q^(n-1)`` rises, then falls.
    """
    base, c = asking.base, part[0]
    flat = np.zeros(len(boxes))
    if not isinstance(base, Final) or asking.pl_constant == 0.0:
        return base, flat
    found = with_spread(base, c, heterogeneity=asking.heterogeneity, pl_constant=asking.pl_constant)
    if not isinstance(found, Final):
        raise ValueError("a slice of the spread begins where no round improves the model")
    m1, m2, n1, n2 = boxes.T[:4]
    noise = base.device_noise * -np.expm1(base.log_q)
    delta = 4.0 * asking.pl_constant * noise
    kept = [np.exp(base.log_r * m) for m in (m1, m2)]
    gap = np.minimum(*(keep * base.gap + (1.0 - keep) * base.shift_floor for keep in kept))
    falls = np.minimum(*(n * np.exp(found.log_q * np.maximum(n - 1.0, 0.0)) for n in (n1, n2)))
    rounds = -np.expm1(found.log_q * n1) / -np.expm1(found.log_q)
    return found, delta * falls * gap + 2.0 * asking.heterogeneity**2 * noise * rounds
