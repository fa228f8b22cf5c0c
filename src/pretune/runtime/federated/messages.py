"""The messages of a run, and what each must hold.

server to device   welcome  which run and scenario          order   the plan's line for this device, until the next one
                   model    a round begins: the weights     sync    a clock reading is wanted
                   stop     the run has ended
device to server   hello    who I am, token and signature   update  my gradient, and what it took
                   sync     the clock reading               refuse  I can't take part, and why
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from pretune.ledger import Stage
from pretune.runtime.federated.frames import BadFrame, Frame, pack_tensors, unpack_tensors
from pretune.runtime.gradient import all_finite, trainable

_BUFFER = "buffer:"
_FIGURES = ("clock_hz", "power_w", "compute_s", "upload_s", "step_size")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the plan asks of one device in a stage (or a segment of one).

    `first` is how many draws of a round's stream come before the device's own, `seed` the run's (sampling.py).
    `compute_s` and `upload_s` are the plan's figures for it. With several local steps it takes `steps` of size
    `step_size` by itself, the draws of one step `stride` after those of the one before.
    """

    stage: Stage
    seed: int
    batch: int
    first: int
    clock_hz: float
    power_w: float
    compute_s: float
    upload_s: float
    steps: int = 1
    step_size: float = 0.0
    stride: int = 0

    def frame(self) -> Frame:
        """As it is sent."""
        return Frame(kind="order", values={**vars(self), "stage": self.stage.value})

    @staticmethod
    def of(frame: Frame) -> Order:
        """As it was received.

        Raises:
            BadFrame: something is missing or of the wrong kind.
        """
        if frame.kind != "order" or frame.text("stage") != Stage.FINETUNE.value:
            raise BadFrame("is no order for the devices' stage")
        numbers = {key: frame.number(key) for key in _FIGURES}
        if min(numbers.values()) < 0:
            raise BadFrame("an order has negative figures")
        return Order(
            stage=Stage.FINETUNE,
            seed=frame.whole("seed"),
            batch=max(1, frame.whole("batch")),
            first=frame.whole("first"),
            steps=max(1, frame.whole("steps")),
            stride=frame.whole("stride"),
            **numbers,
        )


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a device did about each of the plan's decisions, in words: ``applied`` or why not."""

    batch: str
    clock: str
    power: str


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a round took at the device; times in seconds of its own monotonic clock.

    `compute_j` is None where there is no counter; `source` names the counter.
    """

    received_at: float
    sent_at: float
    compute_s: float
    compute_j: float | None
    source: str
    applied: Applied


@dataclass(frozen=True, kw_only=True, eq=False)
class Update:
    """A device's answer: its mean loss and gradient (one tensor a trainable parameter), its buffers, and its effort."""

    round: int
    batch: int
    loss: float
    parts: tuple[Tensor, ...]
    buffers: Mapping[str, Tensor]
    effort: Effort


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """What of a model travels: trainable parameters by number, and all buffers; they share memory with the model."""
    found: dict[str, Tensor] = {f"{i}": part.detach() for i, part in enumerate(trainable(model))}
    return found | {_BUFFER + name: buffer.detach() for name, buffer in model.named_buffers()}


def model_frame(model: nn.Module, round_: int) -> Frame:
    """The order to begin a round."""
    return Frame(kind="model", values={"round": round_}, body=pack_tensors(weights_of(model)))


def update_frame(
    run: str, round_: int, batch: int, loss: float, tensors: Mapping[str, Tensor], effort: Effort
) -> Frame:
    """A device's answer; a loss that is no number is sent as null."""
    values: dict[str, Any] = {**vars(effort), "applied": dict(vars(effort.applied))}
    loss_value = loss if math.isfinite(loss) else None
    return Frame(
        kind="update",
        values={"run": run, "round": round_, "batch": batch, "loss": loss_value, **values},
        body=pack_tensors(tensors),
    )


class NotFinite(BadFrame):
    """An answer in order but for a NaN or an infinity in it."""


def read_update(frame: Frame, like: Mapping[str, Tensor]) -> Update:
    """A device's answer, checked against the model's tensors `like` (`weights_of`).

    Raises:
        NotFinite: its loss or an entry of its tensors is NaN or infinite.
        BadFrame: anything else is wrong with it.
    """
    found = unpack_tensors(frame.body, like)
    tree = frame.values.get("applied")
    if not isinstance(tree, dict) or set(tree) != {"batch", "clock", "power"}:
        raise BadFrame("does not say which decisions were applied")
    said = Frame(kind="applied", values=tree)
    joules = frame.values.get("compute_j")
    effort = Effort(
        received_at=frame.number("received_at"),
        sent_at=frame.number("sent_at"),
        compute_s=frame.number("compute_s"),
        compute_j=None if joules is None else frame.number("compute_j"),
        source=frame.text("source"),
        applied=Applied(batch=said.text("batch"), clock=said.text("clock"), power=said.text("power")),
    )
    if frame.values.get("loss") is None or not all_finite(found.values()):
        raise NotFinite("holds numbers that are not finite")
    count = sum(not name.startswith(_BUFFER) for name in like)
    return Update(
        round=frame.whole("round"),
        batch=frame.whole("batch"),
        loss=frame.number("loss"),
        parts=tuple(found[str(i)] for i in range(count)),
        buffers={name.removeprefix(_BUFFER): found[name] for name in like if name.startswith(_BUFFER)},
        effort=effort,
    )
