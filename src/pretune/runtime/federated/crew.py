"""The server's side of a fine-tuning round: orders and the model out, answers in, checked and combined.

This file knows no network: whatever carries the frames is a `Carrier` (hub.py over streams, or Flower's messages).
"""

from __future__ import annotations

import contextlib
import math
import queue
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pretune.errors import RunFailed
from pretune.fieldbook import FieldBook, FieldRound, Standing
from pretune.physics.cost import FinetuneCost
from pretune.physics.types import Floats, Ints
from pretune.plans import FinetuneStage
from pretune.runtime.aggregate import Combiner
from pretune.runtime.charges import Charge, charge_finetune
from pretune.runtime.federated.clock import Clock
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.frames import BadFrame, unpack
from pretune.runtime.federated.hub import Arrival
from pretune.runtime.federated.messages import NotFinite, Order, Update, model_frame, read_update, weights_of
from pretune.runtime.federated.rows import Answer, device_round
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


class Carrier(Protocol):
    """What brings frames to devices and back; see `hub.Hub` for what the methods do."""

    inbox: queue.SimpleQueue[Arrival]

    def present(self) -> list[int]: ...  # noqa: D102
    def idle(self) -> list[int]: ...  # noqa: D102
    def send(self, device: int, order: bytes, model: bytes) -> bool: ...  # noqa: D102
    def clock_of(self, device: int) -> Clock | None: ...  # noqa: D102
    def synchronise(self, device: int) -> None: ...  # noqa: D102
    def strike(self, device: int, what: str, round_: int, why: str) -> None: ...  # noqa: D102


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


@dataclass(kw_only=True, eq=False)
class _Gathering:
    """The answers of one round as they come in. `sent` holds those who were sent the model, with the time."""

    round: int
    sent: dict[int, float] = field(default_factory=dict)
    waiting: set[int] = field(default_factory=set)
    answers: dict[int, Answer] = field(default_factory=dict)
    standing: dict[int, Standing] = field(default_factory=dict)
    down: int = 0
    """Bytes of the model's frame."""
    broken: int = 0
    """Answers that were in order but not finite."""


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
        self._book(found, began, ended)
        if not found.answers:
            return Gradient(loss=math.nan, parts=[], norm_sq=math.nan)
        present: Ints = np.array(sorted(found.answers), dtype=np.int64)
        updates = [found.answers[k].update for k in present.tolist()]
        # noise was chosen for the plan's weights: larger ones would protect less than was promised
        private = isinstance(combine, PrivateMean)
        shares = self.shares[present] if private else self.rounds.weigh(self.shares, present)
        mean = _combined(model, updates, shares, round_, combine)
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

    def _gather(self, model: nn.Module, seed: int, round_: int, began: float) -> _Gathering:
        carrier, patience = self.rounds.carrier, self.rounds.patience
        frame, orders, like = model_frame(model, round_).pack(), self.orders(seed), weights_of(model)
        found = _Gathering(round=round_, down=len(frame))
        deadline = began + patience.deadline_s(self.piece.round_s)

        def send(device: int) -> None:
            if device not in found.sent and carrier.send(device, orders[device], frame):
                found.sent[device] = time.monotonic()
                found.waiting.add(device)

        for device in carrier.idle():
            send(device)
        while True:
            now = time.monotonic()
            enough = len(found.answers) >= patience.fewest
            if (not found.waiting or now >= deadline) and enough:
                break
            if not found.waiting and not found.answers and found.broken:
                break  # every answer is broken: it is the model that has diverged
            if now > began + max(patience.stalled_s, deadline - began):
                raise RunFailed(
                    f"fine-tuning round {round_}: {len(found.answers)} devices answered, {patience.fewest} should, "
                    f"and it has gone on for {patience.stalled_s:g} s; what was done until then is kept"
                )
            try:
                wait_s = deadline - now if deadline > now else 1.0
                event = carrier.inbox.get(timeout=wait_s)
            except queue.Empty:
                continue
            self._enter(found, event, like)
            if not found.waiting and len(found.answers) < patience.fewest:
                for device in carrier.idle():  # who came in meanwhile is better than nobody
                    send(device)
        for device in found.waiting:
            found.standing[device] = Standing.LATE
            why = f"no answer within {now - began:.3g} s"
            self.rounds.events.tell("late", device=self.piece.names[device], round_=round_, why=why)
        return found

    def _enter(self, found: _Gathering, event: Arrival, like: Mapping[str, Tensor]) -> None:
        device, carrier = event.device, self.rounds.carrier
        if event.joined:
            return
        if event.left:
            if device in found.waiting:
                found.waiting.discard(device)
                found.standing[device] = Standing.LEFT
                name = self.piece.names[device]
                self.rounds.events.tell("lost", device=name, round_=found.round, why="its stream ended in mid-round")
            return
        try:
            frame = unpack(event.data)
            if frame.kind != "update":
                raise BadFrame(f"is a {frame.kind[:40]}, should be an update")
            round_ = frame.whole("round")
            if round_ < found.round or device not in found.waiting:
                why = f"its answer of round {round_} came in round {found.round}"
                self.rounds.events.tell("discarded", device=self.piece.names[device], round_=found.round, why=why)
                return
            if round_ > found.round:
                raise BadFrame(f"is of round {round_}, which has not begun")
            update = read_update(frame, like)
        except BadFrame as error:
            found.broken += isinstance(error, NotFinite)
            found.waiting.discard(device)
            found.standing[device] = Standing.REJECTED
            carrier.strike(device, "rejected", found.round, str(error))
            return
        found.waiting.discard(device)
        clock = carrier.clock_of(device)
        ahead = None if clock is None else clock.ahead_s
        found.standing[device] = Standing.OK
        found.answers[device] = Answer(update=update, at_s=event.at_s, ahead_s=ahead, size=len(event.data))
        if clock is not None and clock.due:
            carrier.synchronise(device)

    def _book(self, found: _Gathering, began: float, ended: float) -> None:
        here = set(self.rounds.carrier.present())
        rows = []
        for k, name in enumerate(self.piece.names):
            nothing = Standing.BEHIND if k in here else Standing.ABSENT
            rows.append(
                device_round(
                    self.rounds.scenario,
                    self.cost,
                    k,
                    name,
                    power_w=float(self.piece.power_w[k]),
                    standing=found.standing.get(k, nothing),
                    sent_at=found.sent.get(k),
                    answer=found.answers.get(k),
                    ended=ended,
                    bytes_down=found.down,
                )
            )
        self.rounds.book.enter(
            FieldRound(
                round=found.round,
                began_s=began - self.rounds.began_at,
                planned_s=self.piece.round_s,
                planned_broadcast_s=self.cost.broadcast.time_s,
                measured_s=ended - began,
                devices=tuple(rows),
            )
        )


def _combined(
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
