"""One round: what is asked of whom, what it may cost at the most, and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretune.control.columns import Conditions, Fleetwide
from pretune.control.kernel import best_span, least_span_of, new_found
from pretune.physics import link
from pretune.physics.types import Bools, Floats, Ints


@dataclass(frozen=True, kw_only=True, eq=False)
class Move:
    """A round that is about to begin; arrays of shape (K,), zero for devices that are not asked.

    A device computes until its own upload has to begin for the round to end in time, and gives up if it is not done by
    then: `span_s` after the broadcast (FDMA), or when the computing phase of that length ends (TDMA). So whatever its
    clock really does, `most_j` and `most_s` hold: a device draws at most its clock's power until then.
    """

    who: Bools
    batch: Ints
    clock_hz: Floats
    power_w: Floats
    upload_s: Floats
    span_s: float
    broadcast_s: float
    broadcast_j: float
    device_most_j: Floats
    most_s: float
    most_j: float
    worth_w: float = math.nan
    """What a second was worth in joules; NaN where no such price made the round."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What became of it: who answered in time, and the realised seconds and joules, by cause."""

    done: Bools
    device_j: Floats
    seconds: dict[str, float]
    joules: dict[str, float]

    @property
    def time_s(self) -> float:
        """Seconds of the round."""
        return math.fsum(self.seconds.values())

    @property
    def energy_j(self) -> float:
        """Joules of the round."""
        return math.fsum(self.joules.values())


def make_move(
    fleet: Fleetwide,
    who: Bools,
    gain: Floats,
    batch: Ints,
    clock_hz: Floats,
    power_w: Floats,
    span_s: float | None,
    *,
    spare: float = 1.0,
    worth_w: float = math.nan,
) -> Move:
    """The round with these decisions and its upper bounds.

    `span_s` None: as long as the slowest device takes, times `spare`.
    """
    asked = np.flatnonzero(who)
    upload = np.zeros(len(fleet))
    upload[asked] = link.airtime(
        fleet.upload_bits, power_w[asked], gain[asked], fleet.bandwidth_hz[asked], fleet.noise_psd
    )
    clock, power = np.where(who, clock_hz, 0.0), np.where(who, power_w, 0.0)
    compute = np.zeros(len(fleet))
    compute[asked] = fleet.cycles[asked] * batch[asked] / clock[asked]
    taken = compute if fleet.tdma else compute + upload
    if span_s is None:
        span_s = float((compute * spare + (0.0 if fleet.tdma else upload)).max())
    # a device that would be late for rounding alone is not
    span_s = span_s if float(taken.max()) > span_s * (1.0 + 1e-9) else max(span_s, float(taken.max()))
    down_s = fleet.broadcast_s(gain[who])
    down_j = fleet.server_power_w * down_s
    longest = np.maximum(span_s - (0.0 if fleet.tdma else upload), 0.0)
    draw = fleet.capacitance * clock**3 + fleet.static
    most = np.where(who, draw * longest + (power + fleet.circuit) * upload, 0.0)
    return Move(
        who=who,
        batch=np.where(who, batch, 0),
        clock_hz=clock,
        power_w=power,
        upload_s=upload,
        span_s=span_s,
        broadcast_s=down_s,
        broadcast_j=down_j,
        device_most_j=most,
        most_s=down_s + span_s + (float(upload.sum()) if fleet.tdma else 0.0),
        most_j=down_j + float(most.sum()),
        worth_w=worth_w,
    )


def best_move(
    fleet: Fleetwide,
    now: Conditions,
    who: Bools,
    batch: Ints,
    worth_w: float,
    *,
    longest_s: float,
    slowness: Floats | None = None,
    ratio: Floats | None = None,
) -> Move:
    """The round whose clocks and powers are the best when a second is worth `worth_w` joules (`kernel`).

    `longest_s`: the longest span allowed (TDMA: of the computing phase). `slowness`, shape (K,): every device's time
    for computing is planned this many times as long as its clock says. `ratio` as in `kernel`.
    """
    slow = np.ones(len(fleet)) if slowness is None else slowness
    sheet = fleet.sheet(who, now.gain, now.clock_limit_hz, slow, batch.astype(np.float64), ratio=ratio)
    found = new_found(int(who.sum()))
    span = float(best_span(sheet, worth_w, max(longest_s, float(least_span_of(sheet, fleet.tdma))), fleet.tdma, found))
    clock, power = np.zeros(len(fleet)), np.zeros(len(fleet))
    clock[who] = np.minimum(found.clock, sheet.clock_max)
    power[who] = np.minimum(sheet.noise * np.expm1(found.exponent), fleet.power_max[who])
    return make_move(fleet, who, now.gain, batch, clock, power, span, worth_w=worth_w)


def fixed_move(
    fleet: Fleetwide,
    now: Conditions,
    who: Bools,
    batch: Ints,
    clock_hz: Floats,
    power_w: Floats,
    *,
    spare: float = 1.0,
    longest_s: float = math.inf,
) -> Move:
    """The round at given clocks (as far as devices can go that fast) and powers, which ends at `longest_s`."""
    clock = np.minimum(np.minimum(clock_hz, now.clock_limit_hz), fleet.clock_max)
    move = make_move(fleet, who, now.gain, batch, clock, power_w, None, spare=spare)
    if move.span_s <= longest_s:
        return move
    return make_move(fleet, who, now.gain, batch, clock, power_w, longest_s)


def carry_out(fleet: Fleetwide, move: Move, now: Conditions) -> Outcome:
    """What a round costs when the devices are as slow as they turn out to be: the cost model of math.md section 1.

    Computing `factor` times as long as the clock says takes `factor` times the energy. Who is not done in time has
    computed for nothing, and does not upload.
    """
    asked = move.who
    safe = np.where(asked, move.clock_hz, 1.0)
    needed = np.where(asked, fleet.cycles * move.batch / safe * now.compute_factor, 0.0)
    longest = np.where(asked, np.maximum(move.span_s - (0.0 if fleet.tdma else move.upload_s), 0.0), 0.0)
    done = asked & (needed <= longest * (1.0 + 1e-9))
    compute_s = np.minimum(needed, longest)
    compute_j = np.where(asked, (fleet.capacitance * move.clock_hz**3 + fleet.static) * compute_s, 0.0)
    upload_s = np.where(done, move.upload_s, 0.0)
    upload_j = (move.power_w + fleet.circuit) * upload_s
    late = bool((asked & ~done).any())
    if fleet.tdma:
        computing = move.span_s if late else float(compute_s.max())
        sending = float(upload_s.sum())
    else:
        slowest = int((compute_s + upload_s).argmax())
        computing, sending = float(compute_s[slowest]), float(upload_s[slowest])
        if late:  # the server waits until the round's end
            computing = move.span_s - sending
    return Outcome(
        done=done,
        device_j=compute_j + upload_j,
        seconds={"compute": computing, "upload": sending, "broadcast": move.broadcast_s},
        joules={
            "compute": float(compute_j.sum()),
            "upload": float(upload_j.sum()),
            "broadcast": move.broadcast_j,
        },
    )
