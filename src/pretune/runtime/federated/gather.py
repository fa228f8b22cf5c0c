"""One round's exchange with the devices: orders and the model out, answers in until all are there or time is up."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from pretune.errors import RunFailed
from pretune.fieldbook import Standing
from pretune.runtime.federated.clock import Clock
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.frames import BadFrame, unpack
from pretune.runtime.federated.hub import Arrival
from pretune.runtime.federated.messages import NotFinite, model_frame, read_update, weights_of
from pretune.runtime.federated.rows import Answer


class Carrier(Protocol):
    """What brings frames to devices and back; see `hub.Hub` for what the methods do."""

    inbox: queue.SimpleQueue[Arrival]

    def present(self) -> list[int]: ...  # noqa: D102
    def idle(self) -> list[int]: ...  # noqa: D102
    def send(self, device: int, order: bytes, model: bytes) -> bool: ...  # noqa: D102
    def clock_of(self, device: int) -> Clock | None: ...  # noqa: D102
    def synchronise(self, device: int) -> None: ...  # noqa: D102
    def strike(self, device: int, what: str, round_: int, why: str) -> None: ...  # noqa: D102


@dataclass(kw_only=True, eq=False)
class Gathering:
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


def gather(
    carrier: Carrier,
    events: Events,
    names: Sequence[str],
    model: nn.Module,
    orders: Mapping[int, bytes],
    *,
    round_: int,
    began: float,
    deadline: float,
    fewest: int,
    stalled_s: float,
) -> Gathering:
    """Ask the devices that `orders` has a line for (by number) and are there.

    Times are those of `time.monotonic`. It ends when all have answered or are gone, or at `deadline`; with fewer than
    `fewest` answers it goes on, and asks who has come in meanwhile.

    Raises:
        RunFailed: after `stalled_s` there are still too few.
    """
    frame, like = model_frame(model, round_).pack(), weights_of(model)
    found = Gathering(round=round_, down=len(frame))

    def send() -> None:
        for device in carrier.idle():
            before = time.monotonic()
            if device in orders and device not in found.sent and carrier.send(device, orders[device], frame):
                found.sent[device] = before
                found.waiting.add(device)

    send()
    while True:
        now = time.monotonic()
        enough = len(found.answers) >= fewest
        if (not found.waiting or now >= deadline) and enough:
            break
        if not found.waiting and not found.answers and found.broken:
            break  # every answer is broken: it is the model that has diverged
        if now > began + max(stalled_s, deadline - began):
            raise RunFailed(
                f"fine-tuning round {round_}: {len(found.answers)} devices answered, {fewest} should, "
                f"and it has gone on for {stalled_s:g} s; what was done until then is kept"
            )
        try:
            event = carrier.inbox.get(timeout=deadline - now if deadline > now else 1.0)
        except queue.Empty:
            continue
        _enter(carrier, events, names, found, event, like)
        if not found.waiting and len(found.answers) < fewest:
            send()  # who came in meanwhile is better than nobody
    for device in found.waiting:
        found.standing[device] = Standing.LATE
        events.tell("late", device=names[device], round_=round_, why=f"no answer within {now - began:.3g} s")
    return found


def _enter(
    carrier: Carrier,
    events: Events,
    names: Sequence[str],
    found: Gathering,
    event: Arrival,
    like: Mapping[str, Tensor],
) -> None:
    device = event.device
    if event.joined:
        return
    if event.left:
        if device in found.waiting and event.at_s >= found.sent[device]:  # else it has come back since
            found.waiting.discard(device)
            found.standing[device] = Standing.LEFT
            events.tell("lost", device=names[device], round_=found.round, why="its stream ended in mid-round")
        return
    try:
        frame = unpack(event.data)
        if frame.kind != "update":
            raise BadFrame(f"is a {frame.kind[:40]}, should be an update")
        round_ = frame.whole("round")
        if round_ < found.round or device not in found.waiting:
            why = f"its answer of round {round_} came in round {found.round}"
            events.tell("discarded", device=names[device], round_=found.round, why=why)
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
