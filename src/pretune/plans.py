"""What the planner hands over: the decisions, what they cost, and the proof of how good they are."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from pretune.display import html_of
from pretune.errors import InputError
from pretune.jsontext import plain_columns, tree_text
from pretune.reader import Reader
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
    """One named limit: ``value <= limit``; `binding` when the slack is within rounding of zero.

    A plan for a large fleet names, of each kind of limit, the device that is nearest to its own, and tells at how many
    `devices` that kind binds.
    """

    name: str
    value: float
    limit: float
    binding: bool
    devices: int | None = None

    @property
    def slack(self) -> float:
        """What is left of the limit, in its own unit."""
        return self.limit - self.value


@dataclass(frozen=True, kw_only=True)
class Infeasibility:
    """Why nothing fits: the limits that clash, and the smallest budgets that would do.

    `min_energy_j` is the least energy at the given delay, `min_delay_s` the least delay at the given energy;
    infinity (written as null) where no amount would do. `drop` names devices without which a plan exists, none of
    which could stay; None (absent from the file) where no part of the fleet fits.
    """

    clash: tuple[str, ...]
    min_energy_j: float
    min_delay_s: float
    drop: tuple[str, ...] | None = None


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
    privacy: Mapping[str, float] | None = None
    under: Mapping[str, Any] | None = None
    """What it was planned under, where that is not the scenario's own figures (`pretune.uncertainty.claim`)."""
    certificate: Mapping[str, Any] | None = None
    defaults: tuple[str, ...] = ()
    message: str = ""

    def _repr_html_(self) -> str:
        return html_of(self, "plan_html")

    def to_dict(self) -> dict[str, Any]:
        """The plan file's tree; a large fleet's is large (`to_json` and `save` do without it)."""
        return self._tree(None if self.finetune is None else self.finetune.to_dict())

    def _tree(self, finetune: dict[str, Any] | None) -> dict[str, Any]:
        """The plan file's tree with this one for the fine-tuning stage."""
        head: dict[str, Any] = {
            "pretune": FORMAT,
            "status": self.status.value,
            "criterion": self.criterion,
            "scenario_sha256": self.scenario_sha256,
            "message": self.message,
        }
        if self.under is not None:
            head["under"] = dict(self.under)
        if self.infeasibility is not None:
            head["infeasibility"] = {
                "clash": list(self.infeasibility.clash),
                "min_energy_j": _or_none(self.infeasibility.min_energy_j),
                "min_delay_s": _or_none(self.infeasibility.min_delay_s),
            }
            if self.infeasibility.drop is not None:
                head["infeasibility"]["drop"] = list(self.infeasibility.drop)
        if self.pretrain is not None and self.finetune is not None:
            head |= {
                "pretrain": self.pretrain.to_dict(),
                "finetune": finetune,
                "objective": self.objective,
                "lower_bound": self.lower_bound,
                "relative_gap": self.relative_gap,
                "energy_j": self.energy_j,
                "delay_s": self.delay_s,
                "multipliers": dict(self.multipliers),
                "constraints": [
                    {key: value for key, value in vars(constraint).items() if value is not None}
                    for constraint in self.constraints
                ],
            }
        if self.privacy is not None:
            head["privacy"] = dict(self.privacy)
        if self.certificate is not None:
            head["certificate"] = dict(self.certificate)
        head["defaults"] = list(self.defaults)
        return head

    def to_json(self, indent: int | None = 1) -> str:
        """The plan file's text; the same plan always gives the same text."""
        return "".join(self._text(indent))

    def _text(self, indent: int | None) -> Iterator[str]:
        """The plan file's text in pieces: the devices are written from their columns."""
        stage = self.finetune
        if stage is None or stage.segments:
            return iter((json.dumps(self.to_dict(), indent=indent, allow_nan=False),))
        tree = self._tree({**stage.head, "devices": []})
        return tree_text(tree, indent, ("finetune", "devices"), stage.columns)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the plan file, whole or not at all."""
        target = Path(path)
        part = target.with_name(target.name + ".part")
        with part.open("w", encoding="utf-8") as file:
            file.writelines(self._text(1))
            file.write("\n")
        part.replace(target)
        return target


def _device_tree(device: DevicePlan) -> dict[str, Any]:
    return {key: value for key, value in vars(device).items() if value is not None}


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
    reader = Reader(tree, "plan")
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
        "under": reader.take("under", dict, None),
    }
    if not status.has_plan:
        clash = reader.take("infeasibility", dict, None)
        if clash is not None:
            inner = Reader(clash, "plan.infeasibility")
            drop = inner.take("drop", list, None)
            common["infeasibility"] = Infeasibility(
                clash=tuple(str(name) for name in inner.take("clash", list)),
                min_energy_j=inner.budget("min_energy_j"),
                min_delay_s=inner.budget("min_delay_s"),
                drop=None if drop is None else tuple(str(name) for name in drop),
            )
            inner.done()
        reader.done()
        return Plan(**common)
    privacy = reader.take("privacy", dict, None)
    plan = Plan(
        **common,
        privacy=None if privacy is None else _numbers(privacy, "plan.privacy"),
        pretrain=_pretrain(Reader(reader.take("pretrain", dict), "plan.pretrain")),
        finetune=_finetune(Reader(reader.take("finetune", dict), "plan.finetune")),
        objective=reader.take("objective", float),
        lower_bound=reader.take("lower_bound", float),
        relative_gap=reader.take("relative_gap", float),
        energy_j=reader.take("energy_j", float),
        delay_s=reader.take("delay_s", float),
        multipliers=_numbers(reader.take("multipliers", dict), "plan.multipliers"),
        constraints=tuple(
            _constraint(Reader(item, f"plan.constraints[{i}]"))
            for i, item in enumerate(reader.take("constraints", list))
        ),
    )
    reader.done()
    return plan


def _pretrain(reader: Reader) -> PretrainStage:
    stage = PretrainStage(
        rounds=reader.take("rounds", int),
        batch=reader.take("batch", int),
        clock_hz=reader.take("clock_hz", float),
        round_s=reader.take("round_s", float),
        segments=tuple(_pretrain(part) for part in reader.rows("segments")),
    )
    reader.done()
    return stage


_DEVICE_KEYS: dict[str, type] = {"name": str, "batch": int, "clock_hz": float, "power_w": float, "upload_s": float}


def _finetune(reader: Reader) -> FinetuneStage:
    rounds, round_s = reader.take("rounds", int), reader.take("round_s", float)
    local_steps = reader.take("local_steps", int, None)
    rows = reader.take("devices", list)
    columns = plain_columns(rows, _DEVICE_KEYS) or plain_columns(rows, {**_DEVICE_KEYS, "bandwidth_hz": float})
    if columns is None:
        columns = _columns_one_by_one(rows)
    segments = tuple(_finetune(part) for part in reader.rows("segments"))
    reader.done()
    shared = [value for value in columns.get("bandwidth_hz", []) if value is not None]
    if len(shared) not in (0, len(rows)):
        raise InputError(
            f"plan.finetune.devices: {len(shared)} of {len(rows)} have a bandwidth_hz, should be all or none"
        )
    return FinetuneStage(
        rounds=rounds,
        round_s=round_s,
        names=tuple(columns["name"]),
        batch=np.array(columns["batch"], dtype=np.int64),
        clock_hz=np.array(columns["clock_hz"], dtype=np.float64),
        power_w=np.array(columns["power_w"], dtype=np.float64),
        upload_s=np.array(columns["upload_s"], dtype=np.float64),
        segments=segments,
        bandwidth_hz=np.array(shared, dtype=np.float64) if shared else None,
        local_steps=local_steps,
    )


def _columns_one_by_one(rows: list[Any]) -> dict[str, list[Any]]:
    """The devices' columns, with every value looked at: it says what is wrong, and where."""
    columns: dict[str, list[Any]] = {key: [] for key in (*_DEVICE_KEYS, "bandwidth_hz")}
    for i, item in enumerate(rows):
        row = Reader(item, f"plan.finetune.devices[{i}]")
        for key, kind in _DEVICE_KEYS.items():
            columns[key].append(row.take(key, kind))
        columns["bandwidth_hz"].append(row.take("bandwidth_hz", float, None))
        row.done()
    return columns


def _constraint(reader: Reader) -> Constraint:
    constraint = Constraint(
        name=reader.take("name", str),
        value=reader.take("value", float),
        limit=reader.take("limit", float),
        binding=reader.take("binding", bool),
        devices=reader.take("devices", int, None),
    )
    reader.done()
    return constraint


def _numbers(tree: dict[str, Any], path: str) -> dict[str, float]:
    reader = Reader(tree, path)
    return {name: reader.take(name, float) for name in tree}
