"""One round: what is asked of whom, what it may cost at the most, and what it cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pretune.control.columns import Conditions, Fleetwide
from pretune.control.kernel import best_span, least_span_of, new_found
from pretune.physics import link
from pretune.physics.types import Bools, Floats, Ints
from pretune.reality import Conditions as Met


@dataclass(frozen=True, kw_only=True, eq=False)
class Move:
    """A round that is about to begin; arrays of shape (K,), zero for devices that are not asked.

    A device that has computed for `compute_most_s` without being done gives up, and does not upload. So whatever its
    clock really does, `most_j` and `most_s` hold: a device draws at most its clock's power until then. `span_s` is the
    time after the broadcast at which the last may be done (TDMA: be done computing).
    """

    who: Bools
    batch: Ints
    clock_hz: Floats
    power_w: Floats
    compute_most_s: Floats
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """A fine-tuning round that was carried out; `shares` (K,) weigh the gradients, zero for who did not answer.

    `missing` (K,): who should have answered by what is simulated, and really did not (`absence.really`).
    """

    move: Move
    met: Met
    outcome: Outcome
    shares: Floats
    waited_s: float
    missing: Bools


def make_move(
    fleet: Fleetwide,
    who: Bools,
    gain: Floats,
    batch: Ints,
    clock_hz: Floats,
    power_w: Floats,
    slowness: Floats,
    *,
    worth_w: float = math.nan,
) -> Move:
    """The round with these decisions and its upper bounds; devices may compute `slowness` times as long as planned."""
    asked = np.flatnonzero(who)
    upload, compute = np.zeros(len(fleet)), np.zeros(len(fleet))
    upload[asked] = link.airtime(
        fleet.upload_bits, power_w[asked], gain[asked], fleet.bandwidth_hz[asked], fleet.noise_psd
    )
    clock, power = np.where(who, clock_hz, 0.0), np.where(who, power_w, 0.0)
    compute[asked] = slowness[asked] * fleet.cycles[asked] * batch[asked] / clock[asked]
    span_s = float((compute if fleet.tdma else compute + upload).max())
    down_s = fleet.broadcast_s(gain[who])
    down_j = fleet.server_power_w * down_s
    draw = fleet.capacitance * clock**3 + fleet.static
    most = np.where(who, draw * compute + (power + fleet.circuit) * upload, 0.0)
    return Move(
        who=who,
        batch=np.where(who, batch, 0),
        clock_hz=clock,
        power_w=power,
        compute_most_s=compute,
        upload_s=upload,
        span_s=span_s,
        broadcast_s=down_s,
        broadcast_j=down_j,
        device_most_j=most,
        most_s=down_s + span_s + (float(upload.sum()) if fleet.tdma else 0.0),
        most_j=down_j + float(most.sum()),
        worth_w=worth_w,
    )


def idle_move(count: int) -> Move:
    """A round in which nobody is asked: nothing happens in it, and it costs nothing."""
    none, zeros = np.zeros(count, dtype=np.bool_), np.zeros(count)
    return Move(
        who=none,
        batch=np.zeros(count, dtype=np.int64),
        clock_hz=zeros,
        power_w=zeros,
        compute_most_s=zeros,
        upload_s=zeros,
        span_s=0.0,
        broadcast_s=0.0,
        broadcast_j=0.0,
        device_most_j=zeros,
        most_s=0.0,
        most_j=0.0,
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
    best_span(sheet, worth_w, max(longest_s, float(least_span_of(sheet, fleet.tdma))), fleet.tdma, found)
    clock, power = np.zeros(len(fleet)), np.zeros(len(fleet))
    clock[who] = np.minimum(found.clock, sheet.clock_max)
    power[who] = np.minimum(sheet.noise * np.expm1(found.exponent), fleet.power_max[who])
    return make_move(fleet, who, now.gain, batch, clock, power, slow, worth_w=worth_w)


def fixed_move(
    fleet: Fleetwide, now: Conditions, who: Bools, batch: Ints, clock_hz: Floats, power_w: Floats, slowness: Floats
) -> Move:
    """The round at given clocks (as far as devices can go that fast) and powers."""
    clock = np.minimum(np.minimum(clock_hz, now.clock_limit_hz), fleet.clock_max)
    return make_move(fleet, who, now.gain, batch, clock, power_w, slowness)


def carry_out(fleet: Fleetwide, move: Move, now: Conditions, missing: Bools | None = None) -> Outcome:
    """What a round costs when the devices are as slow as they turn out to be: the cost model of math.md section 1.

    Computing `factor` times as long as the clock says takes `factor` times the energy. Who is not done in time has
    computed for nothing, and does not upload. Who is `missing`, shape (K,), was asked and never heard of again: it may
    have done anything that it was allowed to, so it counts with the most that it may have taken, and is not done.
    """
    asked = move.who
    safe = np.where(asked, move.clock_hz, 1.0)
    needed = np.where(asked, fleet.cycles * move.batch / safe * now.compute_factor, 0.0)
    done = asked & (needed <= move.compute_most_s * (1.0 + 1e-9))
    compute_s = np.minimum(needed, move.compute_most_s)
    sent = done
    if missing is not None:
        compute_s = np.where(asked & missing, move.compute_most_s, compute_s)
        sent, done = done | (asked & missing), done & ~missing
    compute_j = np.where(asked, (fleet.capacitance * move.clock_hz**3 + fleet.static) * compute_s, 0.0)
    upload_s = np.where(sent, move.upload_s, 0.0)
    upload_j = (move.power_w + fleet.circuit) * upload_s
    if fleet.tdma:
        computing, sending = float(compute_s.max()), float(upload_s.sum())
    else:  # the server waits for who gives up, too: it does not know before
        slowest = int((compute_s + upload_s).argmax())
        computing, sending = float(compute_s[slowest]), float(upload_s[slowest])
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
