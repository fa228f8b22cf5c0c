"""What the planner hands over: the decisions, what they cost, and the proof of how good they are."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from pretune.errors import InputError, field_problem
from pretune.stages import DevicePlan, FinetuneStage, PretrainStage

__all__ = [
    "FORMAT",
    "Constraint",
    "DevicePlan",
    "FinetuneStage",
    "Infeasibility",
    "Plan",
    "PretrainStage",
    "Status",
    "load_plan",
    "plan_from_dict",
]

FORMAT = 1


class Status(StrEnum):
    """How a plan ended; `message` is its sentence for people."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"
    TIME_LIMIT = "time_limit"
    NUMERICAL_FAILURE = "numerical_failure"

    @property
    def has_plan(self) -> bool:
        """Whether there are decisions that can be run."""
        return self in (Status.OPTIMAL, Status.FEASIBLE, Status.TIME_LIMIT)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One named limit: ``value <= limit``; `binding` when the slack is within rounding of zero."""

    name: str
    value: float
    limit: float
    binding: bool

    @property
    def slack(self) -> float:
        """What is left of the limit, in its own unit."""
        return self.limit - self.value


@dataclass(frozen=True, kw_only=True)
class Infeasibility:
    """Why nothing fits: the limits that clash, and the smallest budgets that would do.

    `min_energy_j` is the least energy at the given delay, `min_delay_s` the least delay at the given energy;
    infinity (written as null) where no amount would do.
    """

    clash: tuple[str, ...]
    min_energy_j: float
    min_delay_s: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A plan and its certificate. Its attributes bear the names of the plan file (interface.md)."""

    status: Status
    criterion: str
    scenario_sha256: str
    pretrain: PretrainStage | None = None
    finetune: FinetuneStage | None = None
    objective: float = math.nan
    lower_bound: float = math.nan
    relative_gap: float = math.nan
    energy_j: float = math.nan
    delay_s: float = math.nan
    multipliers: Mapping[str, float] = field(default_factory=dict)
    constraints: tuple[Constraint, ...] = ()
    infeasibility: Infeasibility | None = None
    certificate: Mapping[str, Any] | None = None
    defaults: tuple[str, ...] = ()
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The plan file's tree."""
        head: dict[str, Any] = {
            "pretune": FORMAT,
            "status": self.status.value,
            "criterion": self.criterion,
            "scenario_sha256": self.scenario_sha256,
            "message": self.message,
        }
        if self.infeasibility is not None:
            head["infeasibility"] = {
                "clash": list(self.infeasibility.clash),
                "min_energy_j": _or_none(self.infeasibility.min_energy_j),
                "min_delay_s": _or_none(self.infeasibility.min_delay_s),
            }
        if self.pretrain is not None and self.finetune is not None:
            head |= {
                "pretrain": self.pretrain.to_dict(),
                "finetune": self.finetune.to_dict(),
                "objective": self.objective,
                "lower_bound": self.lower_bound,
                "relative_gap": self.relative_gap,
                "energy_j": self.energy_j,
                "delay_s": self.delay_s,
                "multipliers": dict(self.multipliers),
                "constraints": [vars(constraint).copy() for constraint in self.constraints],
            }
        if self.certificate is not None:
            head["certificate"] = dict(self.certificate)
        head["defaults"] = list(self.defaults)
        return head

    def to_json(self, indent: int | None = 1) -> str:
        """The plan file's text; the same plan always gives the same text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan file, whole or not at all."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        part.write_text(self.to_json() + "\n", encoding="utf-8")
        part.replace(target)
        return target


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read a plan file.

    Raises:
        InputError: the file can't be read, is no JSON, or a field is missing or of the wrong kind.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path}: can't be read as a plan file ({error})") from None
    try:
        tree = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a whole JSON file ({error})") from None
    return plan_from_dict(tree)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def plan_from_dict(tree: object) -> Plan:
    """The plan a plan file's tree describes.

    Raises:
        InputError: naming the first field that is missing, unknown or of the wrong kind.
    """
    reader = _Reader(tree, "plan")
    if reader.take("pretune", int) != FORMAT:
        raise InputError(f"plan.pretune: holds another format, should hold {FORMAT}")
    status_text = reader.take("status", str)
    try:
        status = Status(status_text)
    except ValueError:
        raise InputError.field("plan.status", status_text, "one of " + ", ".join(s.value for s in Status)) from None
    common: dict[str, Any] = {
        "status": status,
        "criterion": reader.take("criterion", str),
        "scenario_sha256": reader.take("scenario_sha256", str),
        "message": reader.take("message", str, ""),
        "defaults": tuple(str(item) for item in reader.take("defaults", list, [])),
        "certificate": reader.take("certificate", dict, None),
    }
    if not status.has_plan:
        clash = reader.take("infeasibility", dict, None)
        if clash is not None:
            inner = _Reader(clash, "plan.infeasibility")
            common["infeasibility"] = Infeasibility(
                clash=tuple(str(name) for name in inner.take("clash", list)),
                min_energy_j=inner.budget("min_energy_j"),
                min_delay_s=inner.budget("min_delay_s"),
            )
            inner.done()
        reader.done()
        return Plan(**common)
    plan = Plan(
        **common,
        pretrain=_pretrain(_Reader(reader.take("pretrain", dict), "plan.pretrain")),
        finetune=_finetune(_Reader(reader.take("finetune", dict), "plan.finetune")),
        objective=reader.take("objective", float),
        lower_bound=reader.take("lower_bound", float),
        relative_gap=reader.take("relative_gap", float),
        energy_j=reader.take("energy_j", float),
        delay_s=reader.take("delay_s", float),
        multipliers=_numbers(reader.take("multipliers", dict), "plan.multipliers"),
        constraints=tuple(
            _constraint(_Reader(item, f"plan.constraints[{i}]"))
            for i, item in enumerate(reader.take("constraints", list))
        ),
    )
    reader.done()
    return plan


def _pretrain(reader: _Reader) -> PretrainStage:
    stage = PretrainStage(
        rounds=reader.take("rounds", int),
        batch=reader.take("batch", int),
        clock_hz=reader.take("clock_hz", float),
        round_s=reader.take("round_s", float),
        segments=tuple(_pretrain(part) for part in reader.rows("segments")),
    )
    reader.done()
    return stage


def _finetune(reader: _Reader) -> FinetuneStage:
    rounds, round_s = reader.take("rounds", int), reader.take("round_s", float)
    devices = []
    for i, item in enumerate(reader.take("devices", list)):
        row = _Reader(item, f"plan.finetune.devices[{i}]")
        devices.append(
            DevicePlan(
                name=row.take("name", str),
                batch=row.take("batch", int),
                clock_hz=row.take("clock_hz", float),
                power_w=row.take("power_w", float),
                upload_s=row.take("upload_s", float),
            )
        )
        row.done()
    segments = tuple(_finetune(part) for part in reader.rows("segments"))
    reader.done()
    return FinetuneStage(
        rounds=rounds,
        round_s=round_s,
        names=tuple(device.name for device in devices),
        batch=np.array([device.batch for device in devices], dtype=np.int64),
        clock_hz=np.array([device.clock_hz for device in devices], dtype=np.float64),
        power_w=np.array([device.power_w for device in devices], dtype=np.float64),
        upload_s=np.array([device.upload_s for device in devices], dtype=np.float64),
        segments=segments,
    )


def _constraint(reader: _Reader) -> Constraint:
    constraint = Constraint(
        name=reader.take("name", str),
        value=reader.take("value", float),
        limit=reader.take("limit", float),
        binding=reader.take("binding", bool),
    )
    reader.done()
    return constraint


def _numbers(tree: dict[str, Any], path: str) -> dict[str, float]:
    reader = _Reader(tree, path)
    return {name: reader.take(name, float) for name in tree}


_REQUIRED = object()


class _Reader:
    """Takes the keys of one object of the plan file, each once, and knows where it is."""

    def __init__(self, tree: object, path: str) -> None:
        if not isinstance(tree, dict):
            raise InputError.field(path, tree, "an object of named values")
        self.tree, self.path, self.left = tree, path, set(tree)

    def take(self, key: str, kind: type, default: Any = _REQUIRED) -> Any:
        self.left.discard(key)
        if key not in self.tree:
            if default is _REQUIRED:
                raise InputError(f"{self.path}.{key}: is missing")
            return default
        value = self.tree[key]
        wrong = isinstance(value, bool) and kind is not bool
        if kind is float and isinstance(value, int) and not wrong and abs(value) < 10**300:
            value = float(value)
        if kind is int and isinstance(value, int) and not wrong and abs(value) >= 2**63:
            wrong = True
        if wrong or not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
            names = {int: "a whole number", float: "a finite number", str: "a text", bool: "true or false"}
            raise InputError(
                field_problem(f"{self.path}.{key}", value, names.get(kind, "a list" if kind is list else "an object"))
            )
        return value

    def budget(self, key: str) -> float:
        """A number, or null for infinity."""
        if self.tree.get(key, 0) is None:
            self.left.discard(key)
            return math.inf
        return float(self.take(key, float))

    def rows(self, key: str) -> list[_Reader]:
        """The objects of a list that may be absent."""
        return [_Reader(item, f"{self.path}.{key}[{i}]") for i, item in enumerate(self.take(key, list, []))]

    def done(self) -> None:
        if self.left:
            raise InputError(f"{self.path}.{min(map(str, self.left))}: is not a key of the plan file")
