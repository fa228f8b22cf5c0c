"""The devices' part of a steered run: every round other devices, batches, clocks and powers; a `hands.Hands`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from pretune.control.columns import Fleetwide
from pretune.control.steering import Round
from pretune.errors import RunFailed
from pretune.ledger import Stage
from pretune.physics.cost import BroadcastCost, FinetuneCost
from pretune.physics.types import Bools
from pretune.runtime.federated.crew import Rounds, combined
from pretune.runtime.federated.gather import Gathering, gather
from pretune.runtime.federated.messages import Order
from pretune.runtime.gradient import Gradient
from pretune.runtime.hands import firsts
from pretune.runtime.local import LocalSteps

LOOK_S = 0.05


@dataclass(frozen=True, kw_only=True, eq=False)
class Gathered:
    """A `hands.Answers`."""

    here: Bools
    found: Gathering
    model: nn.Module
    local: LocalSteps | None

    def mean(self, done: Round) -> Gradient | None:
        """See `hands.Answers`; not finite where all that came was not: then it is the model that has diverged."""
        present = np.flatnonzero(done.outcome.done)
        if not len(present):
            return Gradient(loss=math.nan, parts=[], norm_sq=math.nan) if self.found.broken else None
        updates = [self.found.answers[k].update for k in present.tolist()]
        mean = combined(self.model, updates, done.shares[present], self.found.round, None)
        if self.local is None:
            return mean
        return replace(mean, norm_known=False, whole_sq=mean.norm_sq)  # of the first local step alone nothing is known


@dataclass(frozen=True, kw_only=True, eq=False)
class SteeredDevices:
    """A `hands.Hands`."""

    rounds: Rounds

    def ready(self, before_waiting: Callable[[], None]) -> Bools:
        """See `hands.Hands`: so many as `Patience.fewest`, or it waits for `Patience.stalled_s` at the most."""
        if not self.rounds.started:
            before_waiting()
        self.rounds.start()
        carrier, patience = self.rounds.carrier, self.rounds.patience
        until = time.monotonic() + patience.stalled_s
        while len(idle := carrier.idle()) < patience.fewest:
            before_waiting()
            left = until - time.monotonic()
            if left <= 0.0:
                raise RunFailed(
                    f"fine-tuning: {len(idle)} devices can be reached, {patience.fewest} should, and it has gone on "
                    f"for {patience.stalled_s:g} s; what was done until then is kept"
                )
            time.sleep(min(left, LOOK_S))  # what comes in meanwhile waits in the inbox for the next round
        there = np.zeros(len(self.rounds.scenario.devices), dtype=np.bool_)
        there[idle] = True
        return there

    def ask(
        self, model: nn.Module, done: Round, fleet: Fleetwide, round_: int, *, seed: int, local: LocalSteps | None
    ) -> Gathered:
        """See `hands.Hands`. A round ends at its deadline with the answers that are there, however few."""
        rounds, began, cost = self.rounds, time.monotonic(), _cost(fleet, done)
        names, move = rounds.scenario.devices.names, done.move
        orders = _orders(done, cost, seed, local)
        found = gather(
            rounds.carrier,
            rounds.events,
            names,
            model,
            orders,
            round_=round_,
            began=began,
            deadline=began + rounds.patience.deadline_s(move.most_s),
            fewest=0,
            stalled_s=rounds.patience.stalled_s,
        )
        ended = max((answer.at_s for answer in found.answers.values()), default=time.monotonic())
        rounds.enter(found, names, cost, move.power_w, cost.time_s, began=began, ended=ended, asked=orders)
        here = np.zeros(len(names), dtype=np.bool_)
        here[list(found.answers)] = True
        return Gathered(here=here, found=found, model=model, local=local)


def _orders(done: Round, cost: FinetuneCost, seed: int, local: LocalSteps | None) -> dict[int, bytes]:
    """What each device that is asked is told, by its number; who is late by what is simulated is not asked."""
    move, first = done.move, firsts(done)
    here = np.flatnonzero(done.outcome.done).tolist()
    return {
        k: Order(
            stage=Stage.FINETUNE,
            seed=seed,
            batch=int(move.batch[k]),
            first=int(first[k]),
            clock_hz=float(move.clock_hz[k]),
            power_w=float(move.power_w[k]),
            compute_s=float(cost.compute_s[k]),
            upload_s=float(cost.upload_s[k]),
            steps=1 if local is None else local.count,
            step_size=0.0 if local is None else local.size,
            stride=int(move.batch[here].sum()),
        )
        .frame()
        .pack()
        for k in here
    }


def _cost(fleet: Fleetwide, done: Round) -> FinetuneCost:
    """What the round takes if all clocks tell the truth; zero for devices that are not asked."""
    move = done.move
    compute_s = fleet.cycles * move.batch / np.where(move.who, move.clock_hz, 1.0)
    compute_j = (fleet.capacitance * move.clock_hz**3 + fleet.static) * compute_s
    upload_j = (move.power_w + fleet.circuit) * move.upload_s
    span = float(compute_s.max() + move.upload_s.sum()) if fleet.tdma else float((compute_s + move.upload_s).max())
    return FinetuneCost(
        time_s=move.broadcast_s + span,
        energy_j=move.broadcast_j + float((compute_j + upload_j).sum()),
        broadcast=BroadcastCost(time_s=move.broadcast_s, energy_j=move.broadcast_j),
        compute_s=compute_s,
        compute_j=compute_j,
        upload_s=move.upload_s,
        upload_j=upload_j,
    )
