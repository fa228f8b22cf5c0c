"""A round that fits what is left, or none: the upper bounds of its cost are looked at before it begins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pretune.control.columns import Conditions, Fleetwide
from pretune.control.moves import Move, best_move, fixed_move
from pretune.physics.types import Bools, Floats, Ints

SPARE = 1e-12
"""Share of what is left that is kept for rounding errors."""
_HALVINGS = 14


def fits(move: Move, energy_j: float, delay_s: float, battery_j: Floats) -> bool:
    """Whether the round can't break a budget, whatever the devices' clocks really do; `battery_j` has shape (K,)."""
    keep = 1.0 - SPARE
    return (
        move.most_j <= energy_j * keep
        and move.most_s <= delay_s * keep
        and bool((move.device_most_j <= battery_j * keep).all())
    )


def fitted(
    fleet: Fleetwide,
    met: Conditions,
    move: Move,
    energy_j: float,
    delay_s: float,
    battery_j: Floats,
    *,
    slowness: Floats,
    clocks: tuple[Floats, Floats] | None,
) -> Move | None:
    """The round as it is if it fits; else a smaller one; None if not even that fits.

    Devices whose battery is too low for their part are left out first. Then clocks and powers are those of the least
    energy in the time that is left (where they may be chosen: `clocks` None), and then all batches shrink alike.
    """
    if fits(move, energy_j, delay_s, battery_j):
        return move
    who = move.who & (move.device_most_j <= battery_j * (1.0 - SPARE))
    if not who.any():
        return None
    if who.sum() < move.who.sum():
        move = _with(fleet, met, who, move, slowness, clocks, move.span_s, move.worth_w)
        if fits(move, energy_j, delay_s, battery_j):
            return move
    down_s = fleet.broadcast_s(met.gain[who])
    left_s = (delay_s * (1.0 - SPARE) - down_s) * (1.0 - SPARE)
    if left_s <= 0.0:
        return None

    def smaller(share: float) -> Move:
        batch = np.where(who, np.maximum(np.floor(move.batch * share), 1), 0).astype(np.int64)
        if fleet.tdma and clocks is None:  # there the span is of the computing alone
            return _cheapest_tdma(fleet, met, who, batch, slowness, left_s)
        worth = 1e-9 if clocks is None else move.worth_w
        return _with(fleet, met, who, move, slowness, clocks, left_s, worth, batch)

    return _largest(smaller, lambda one: fits(one, energy_j, delay_s, battery_j))


def _largest(make: Callable[[float], Move], good: Callable[[Move], bool]) -> Move | None:
    """The move of the largest share that is good, by halving; None if not even that of the least batches is."""
    whole = make(1.0)
    if good(whole):
        return whole
    best = make(0.0)
    if not good(best):
        return None
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        trial = make(middle)
        if good(trial):
            low, best = middle, trial
        else:
            high = middle
    return best


def _with(
    fleet: Fleetwide,
    met: Conditions,
    who: Bools,
    move: Move,
    slowness: Floats,
    clocks: tuple[Floats, Floats] | None,
    longest_s: float,
    worth_w: float,
    batch: Ints | None = None,
) -> Move:
    sizes = np.where(who, move.batch, 0) if batch is None else batch
    if clocks is None:
        return best_move(fleet, met, who, sizes, worth_w, longest_s=longest_s, slowness=slowness)
    return fixed_move(fleet, met, who, sizes, clocks[0], clocks[1], slowness)


def _cheapest_tdma(fleet: Fleetwide, met: Conditions, who: Bools, batch: Ints, slowness: Floats, left_s: float) -> Move:
    """Of moves in which computing and uploads together take no more than `left_s`, about the cheapest."""
    low, high = 1e-9, 1e9
    move = best_move(fleet, met, who, batch, high, longest_s=left_s, slowness=slowness)
    for _ in range(40):
        worth = float(np.sqrt(low * high))
        trial = best_move(fleet, met, who, batch, worth, longest_s=left_s, slowness=slowness)
        if trial.most_s - trial.broadcast_s <= left_s:
            high, move = worth, trial
        else:
            low = worth
        if high / low < 1.01:
            break
    return move
