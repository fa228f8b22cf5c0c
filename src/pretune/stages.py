"""The decisions of a plan: what the server and each device do in the rounds of either stage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from pretune.physics.types import Floats, Ints


@dataclass(frozen=True, kw_only=True)
class PretrainStage:
    """Pre-training at the server; an unused stage has `rounds` 0 and the rest 0.

    A plan of a scenario with a `schedule` has `segments`, one for each segment with rounds; then `batch` and `clock_hz`
    are those of the last one and `round_s` is the mean.
    """

    rounds: int
    batch: int
    clock_hz: float
    round_s: float
    segments: tuple[PretrainStage, ...] = ()

    @property
    def parts(self) -> tuple[PretrainStage, ...]:
        """The segments, or the stage itself where it is one piece; none where it is not used."""
        return self.segments or ((self,) if self.rounds else ())

    @staticmethod
    def of(segments: Sequence[PretrainStage]) -> PretrainStage:
        """The stage that the segments (at least one) make up."""
        rounds, last = sum(part.rounds for part in segments), segments[-1]
        round_s = math.fsum(part.rounds * part.round_s for part in segments) / rounds
        return replace(last, rounds=rounds, round_s=round_s, segments=tuple(segments))

    def to_dict(self) -> dict[str, Any]:
        """The plan file's tree of the stage."""
        tree = {key: value for key, value in vars(self).items() if key != "segments"}
        if self.segments:
            tree["segments"] = [part.to_dict() for part in self.segments]
        return tree


@dataclass(frozen=True, kw_only=True)
class DevicePlan:
    """What one device does in each fine-tuning round."""

    name: str
    batch: int
    clock_hz: float
    power_w: float
    upload_s: float
    bandwidth_hz: float | None = None
    """Only where the bandwidths are decisions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FinetuneStage:
    """Federated fine-tuning, kept as columns of shape (K,) (all empty when `rounds` is 0).

    `round_s` includes the broadcast, so the delay is ``pretrain.rounds * pretrain.round_s + rounds * round_s``.
    `segments` is as in `PretrainStage`; the columns are those of the last one. `bandwidth_hz` is None where the
    devices' bandwidths are the scenario's, and no decisions. `local_steps` is None where the scenario asks for one (the
    default): federated SGD. Each local step takes a fresh batch of `batch` samples.
    """

    rounds: int
    round_s: float
    names: tuple[str, ...]
    batch: Ints
    clock_hz: Floats
    power_w: Floats
    upload_s: Floats
    bandwidth_hz: Floats | None = None
    segments: tuple[FinetuneStage, ...] = ()
    local_steps: int | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def parts(self) -> tuple[FinetuneStage, ...]:
        """The segments, or the stage itself where it is one piece; none where it is not used."""
        return self.segments or ((self,) if self.rounds else ())

    @staticmethod
    def of(segments: Sequence[FinetuneStage]) -> FinetuneStage:
        """The stage that the segments (at least one) make up."""
        rounds, last = sum(part.rounds for part in segments), segments[-1]
        round_s = math.fsum(part.rounds * part.round_s for part in segments) / rounds
        return replace(last, rounds=rounds, round_s=round_s, segments=tuple(segments))

    def to_dict(self) -> dict[str, Any]:
        """The plan file's tree of the stage."""
        tree: dict[str, Any] = {
            **self.head,
            "devices": [
                {key: value for key, value in vars(device).items() if value is not None} for device in self.devices
            ],
        }
        if self.segments:
            tree["segments"] = [part.to_dict() for part in self.segments]
        return tree

    @property
    def head(self) -> dict[str, Any]:
        """What the plan file says of the stage before the devices."""
        several = {} if self.local_steps is None else {"local_steps": self.local_steps}
        return {"rounds": self.rounds, "round_s": self.round_s, **several}

    @property
    def columns(self) -> dict[str, Any]:
        """The devices' columns by the keys of the plan file."""
        columns: dict[str, Any] = {
            "name": self.names,
            "batch": self.batch,
            "clock_hz": self.clock_hz,
            "power_w": self.power_w,
            "upload_s": self.upload_s,
        }
        if self.bandwidth_hz is not None:
            columns["bandwidth_hz"] = self.bandwidth_hz
        return columns

    @property
    def devices(self) -> Iterator[DevicePlan]:
        """The devices one by one, in the scenario's order."""
        rows = zip(
            self.names,
            self.batch.tolist(),
            self.clock_hz.tolist(),
            self.power_w.tolist(),
            self.upload_s.tolist(),
            [None] * len(self) if self.bandwidth_hz is None else self.bandwidth_hz.tolist(),
            strict=True,
        )
        for name, batch, clock_hz, power_w, upload_s, bandwidth_hz in rows:
            yield DevicePlan(
                name=name,
                batch=batch,
                clock_hz=clock_hz,
                power_w=power_w,
                upload_s=upload_s,
                bandwidth_hz=bandwidth_hz,
            )

    @staticmethod
    def unused() -> FinetuneStage:
        """The stage of a plan that does not fine-tune."""
        none = np.zeros(0)
        return FinetuneStage(
            rounds=0,
            round_s=0.0,
            names=(),
            batch=np.zeros(0, dtype=np.int64),
            clock_hz=none,
            power_w=none,
            upload_s=none,
        )


AnyStage = TypeVar("AnyStage", PretrainStage, FinetuneStage)


def labelled(path: str, stage: AnyStage) -> list[tuple[str, AnyStage]]:
    """The parts of a stage, each with its path in the plan file."""
    if not stage.segments:
        return [(path, part) for part in stage.parts]
    return [(f"{path}.segments[{i}]", part) for i, part in enumerate(stage.parts)]
