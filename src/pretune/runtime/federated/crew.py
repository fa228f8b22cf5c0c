"""The server's side of a fine-tuning round of a plan: who is asked for what, and one gradient of what came back.

This file knows no network: whatever carries the frames is a `gather.Carrier` (hub.py over streams, or Flower's
messages).
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from pretune.fieldbook import FieldBook, FieldRound, Standing
from pretune.physics.cost import FinetuneCost
from pretune.physics.types import Floats, Ints
from pretune.plans import FinetuneStage
from pretune.runtime.aggregate import Combiner
from pretune.runtime.charges import Charge, charge_finetune
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.gather import Carrier, Gathering, gather
from pretune.runtime.federated.messages import Order, Update
from pretune.runtime.federated.rows import device_round
from pretune.runtime.gradient import Gradient, norm_sq, trainable
from pretune.runtime.local import Crew
from pretune.runtime.private import PrivateMean
from pretune.runtime.task import PerSampleLoss
from pretune.scenario import Scenario

Weigh = Callable[[Floats, Ints], Floats]


def renormalised(shares: Floats, present: Ints) -> Floats:
    """The weights of those that answered: their shares, made to add up to one. `present` holds their numbers.

    The mean over those that answered is unbiased for the whole fleet's only if who is missing is a matter of chance.
    """
    kept: Floats = shares[present]
    kept /= kept.sum()
    return kept


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long the server waits, in seconds.

    A round ends `factor` times its planned time after its beginning, but not before `floor_s`, with the answers that
    are there; if they are fewer than `fewest`, it goes on until `stalled_s` and the run stops. Before its first round
    the server waits up to `start_s` for all devices, then begins with at least `fewest`; when it goes on with a run,
    only `again_s` from when the first `fewest` are there.
    """

    factor: float = 3.0
    floor_s: float = 5.0
    start_s: float = 120.0
    again_s: float = 10.0
    stalled_s: float = 600.0
    fewest: int = 1

    def deadline_s(self, planned_s: float) -> float:
        """Seconds from a round's beginning to its end at the latest."""
        return max(self.floor_s, self.factor * planned_s)


@dataclass(kw_only=True, eq=False)
class Rounds:
    """What all rounds of a run share."""

    scenario: Scenario
    carrier: Carrier
    events: Events
    book: FieldBook
    patience: Patience
    weigh: Weigh = renormalised
    began_at: float = field(default_factory=time.monotonic)
    started: bool = False

    def start(self) -> None:
        """Wait for all devices, for a while."""
        if self.started:
            return
        self.started = True
        now, count = time.monotonic(), len(self.scenario.devices)
        until, again = now + self.patience.start_s, bool(self.book.rounds)
        while (here := len(self.carrier.present())) < count and now < until:
            if again and here >= self.patience.fewest:
                # a run that goes on does not wait long for those who may have gone for good
                until, again = min(until, now + self.patience.again_s), False
            with contextlib.suppress(queue.Empty):
                self.carrier.inbox.get(timeout=until - now)
            now = time.monotonic()
        here = len(self.carrier.present())
        self.events.tell("started", why=f"{here} of {count} devices are there")

    def enter(
        self,
        found: Gathering,
        names: Sequence[str],
        cost: FinetuneCost,
        power_w: Floats,
        planned_s: float,
        *,
        began: float,
        ended: float,
        asked: Container[int] | None = None,
    ) -> None:
        """Write down what was measured in a round, beside what was planned; `asked`: not everybody was."""
        here = set(self.carrier.present())
        rows = []
        for k, name in enumerate(names):
            nothing = Standing.BEHIND if k in here else Standing.ABSENT
            if asked is not None and k in here and k not in asked:
                nothing = Standing.UNASKED
            rows.append(
                device_round(
                    self.scenario,
                    cost,
                    k,
                    name,
                    power_w=float(power_w[k]),
                    standing=found.standing.get(k, nothing),
                    sent_at=found.sent.get(k),
                    answer=found.answers.get(k),
                    ended=ended,
                    bytes_down=found.down,
                )
            )
        self.book.enter(
            FieldRound(
                round=found.round,
                began_s=began - self.began_at,
                planned_s=planned_s,
                planned_broadcast_s=cost.broadcast.time_s,
                measured_s=ended - began,
                devices=tuple(rows),
            )
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class RemoteCrew(Crew):
    """The devices of a stage (or a segment), each in a process of its own. `cost` is the plan's round."""

    rounds: Rounds
    piece: FinetuneStage
    cost: FinetuneCost
    _orders: dict[int, list[bytes]] = field(default_factory=dict)

    def gradient(
        self,
        model: nn.Module,
        loss: PerSampleLoss,
        seed: int,
        round_: int,
        *,
        coupled: bool = False,
        combine: Combiner | None = None,
    ) -> Gradient:
        """The average of the answers that came in time, those of missing devices left out (`Rounds.weigh`).

        Raises:
            RunFailed: too few devices answered for too long.
        """
        self.rounds.start()
        began = time.monotonic()
        found = self._gather(model, seed, round_, began)
        ended = max((answer.at_s for answer in found.answers.values()), default=time.monotonic())
        cost, power, planned_s = self.cost, self.piece.power_w, self.piece.round_s
        self.rounds.enter(found, self.piece.names, cost, power, planned_s, began=began, ended=ended)
        if not found.answers:
            return Gradient(loss=math.nan, parts=[], norm_sq=math.nan)
        present: Ints = np.array(sorted(found.answers), dtype=np.int64)
        updates = [found.answers[k].update for k in present.tolist()]
        # noise was chosen for the plan's weights: larger ones would protect less than was promised
        private = isinstance(combine, PrivateMean)
        shares = self.shares[present] if private else self.rounds.weigh(self.shares, present)
        mean = combined(model, updates, shares, round_, combine)
        if self.local is not None:  # what came is the sum over the local steps: of the first alone nothing is known
            mean = replace(mean, norm_known=False, whole_sq=mean.norm_sq)
        if len(present) == len(self.batch):
            return mean
        here = np.isin(np.arange(len(self.batch)), present)
        charge = charge_finetune(self.rounds.scenario, self.piece, self.batch, here)
        return replace(mean, charge=charge)

    def exceptions(self) -> Mapping[int, Charge]:
        """The rounds in which somebody was missing."""
        names, found = np.array(self.piece.names), {}
        for line in self.rounds.book.rounds:
            if len(line.answered) < len(names):
                here = np.isin(names, line.answered)
                if here.any():
                    found[line.round] = charge_finetune(self.rounds.scenario, self.piece, self.batch, here)
        return found

    def orders(self, seed: int) -> list[bytes]:
        """What each device is asked for, packed."""
        if seed not in self._orders:
            firsts = (np.cumsum(self.batch) - self.batch).tolist()
            self._orders[seed] = [
                Order(
                    stage=self.stage,
                    seed=seed,
                    batch=int(self.batch[k]),
                    first=firsts[k],
                    clock_hz=float(self.piece.clock_hz[k]),
                    power_w=float(self.piece.power_w[k]),
                    compute_s=float(self.cost.compute_s[k]),
                    upload_s=float(self.cost.upload_s[k]),
                    steps=1 if self.local is None else self.local.count,
                    step_size=0.0 if self.local is None else self.local.size,
                    stride=int(self.batch.sum()),
                )
                .frame()
                .pack()
                for k in range(len(self.batch))
            ]
        return self._orders[seed]

    def _gather(self, model: nn.Module, seed: int, round_: int, began: float) -> Gathering:
        patience = self.rounds.patience
        return gather(
            self.rounds.carrier,
            self.rounds.events,
            self.piece.names,
            model,
            dict(enumerate(self.orders(seed))),
            round_=round_,
            began=began,
            deadline=began + patience.deadline_s(self.piece.round_s),
            fewest=patience.fewest,
            stalled_s=patience.stalled_s,
        )


def combined(
    model: nn.Module, updates: list[Update], shares: Floats, round_: int, combine: Combiner | None
) -> Gradient:
    """One gradient of several: their weighted mean, or what a robust rule makes of them.

    In the devices' order, so that the sum does not depend on who was faster.
    """
    loss = sum(float(share) * update.loss for share, update in zip(shares, updates, strict=True))
    parameters = trainable(model)
    buffers: dict[str, Tensor] = {}
    if combine is None:
        parts = [torch.zeros_like(parameter) for parameter in parameters]
        for update, share in zip(updates, shares.tolist(), strict=True):
            for total, part in zip(parts, update.parts, strict=True):
                total.add_(part, alpha=share)
            for name, buffer in update.buffers.items():
                if not buffer.dtype.is_floating_point:
                    buffers.setdefault(name, buffer)
                else:
                    buffers[name] = buffer * share if name not in buffers else buffers[name].add_(buffer, alpha=share)
        return Gradient(loss=loss, parts=parts, norm_sq=norm_sq(parts), buffers=buffers)
    stack = torch.stack([torch.cat([part.reshape(-1) for part in update.parts]) for update in updates])
    whole = combine(stack, torch.from_numpy(shares), round_)
    pieces = torch.split(whole, [parameter.numel() for parameter in parameters])
    found = [piece.view_as(parameter) for piece, parameter in zip(pieces, parameters, strict=True)]
    return Gradient(loss=loss, parts=found, norm_sq=norm_sq(found))
