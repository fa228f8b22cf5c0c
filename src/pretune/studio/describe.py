"""A scenario as the page edits it: every value with its unit and what it may be, the devices in short."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel
from pydantic.fields import FieldInfo as ModelField

from pretune.device import QUANTITIES, Device
from pretune.fields import Quantity, mark_of
from pretune.planner.pareto import default_range
from pretune.report.words import count, joules, quantity, seconds, significant
from pretune.scenario import Access, Budget, Convergence, Criterion, Radio, Scenario, Server, Shares, Workload
from pretune.studio.responses import Budgets, ColumnInfo, FieldInfo, FleetInfo, ScenarioAnswer, Span

SPELLED_OUT = 500
"""Fleets up to this size are in the answer, device by device."""
_SECTIONS: dict[str, type[BaseModel]] = {
    "budget": Budget,
    "workload": Workload,
    "server": Server,
    "radio": Radio,
    "convergence": Convergence,
}
_CHOICES = {"access": Access, "criterion": Criterion, "bandwidth_shares": Shares}
_PREFIXED = frozenset({"Hz", "W", "J", "bit", "flop"})


def scenario_answer(scenario: Scenario, key: str, defaults: tuple[str, ...]) -> ScenarioAnswer:
    """All that the page needs to show and edit a scenario."""
    tree = scenario.to_dict()
    if len(scenario.devices) > SPELLED_OUT:
        del tree["devices"]
    reason = (
        "" if scenario.task is not None else "task: is missing; a run needs a model and data, such as {name: digits}"
    )
    energy, delay = (default_range(scenario, axis) for axis in ("energy", "delay"))
    return ScenarioAnswer(
        scenario_id=key,
        name=scenario.name,
        sha256=scenario.sha256,
        words=words_of(scenario),
        criterion=scenario.convergence.criterion.value,
        access=scenario.radio.access.value,
        budget=Budgets(energy_j=scenario.budget.energy_j, delay_s=scenario.budget.delay_s),
        energy_range_j=Span(low=energy[0], high=energy[1]),
        delay_range_s=Span(low=delay[0], high=delay[1]),
        fields=_fields(scenario),
        devices=_fleet(scenario),
        tree=tree,
        defaults=list(defaults),
        warnings=list(scenario.not_as_measured),
        can_run=not reason,
        cannot_run_because=reason,
    )


def words_of(scenario: Scenario) -> str:
    """The scenario in a sentence."""
    fleet = scenario.devices
    return (
        f"{count(len(fleet))} device{'s' * (len(fleet) != 1)} with {count(int(fleet.samples.sum()))} samples, "
        f"{scenario.radio.access.value.upper()}, {joules(scenario.budget.energy_j)} and "
        f"{seconds(scenario.budget.delay_s)} to spend."
    )


def _fields(scenario: Scenario) -> list[FieldInfo]:
    found = []
    for section, model in _SECTIONS.items():
        part = getattr(scenario, section)
        for key, field in model.model_fields.items():
            if key in ("law",) or (section == "radio" and key == "bandwidth_shares" and not _has_band(scenario)):
                continue
            found.append(_field(section, key, field, getattr(part, key)))
    return found


def _has_band(scenario: Scenario) -> bool:
    return scenario.radio.uplink_bandwidth_hz is not None


def _field(section: str, key: str, field: ModelField, value: Any) -> FieldInfo:
    mark = mark_of(field)
    if isinstance(value, tuple):
        value = list(value)
    plain = getattr(value, "value", value)
    unit = mark.unit if isinstance(mark, Quantity) else ""
    choices = [option.value for option in _CHOICES[key]] if key in _CHOICES else None
    if key == "robust":
        choices = ["true", "false"]
    return FieldInfo(
        path=f"{section}.{key}",
        section=section,
        key=key,
        value=plain,
        text=text_of(plain, unit),
        unit=unit,
        description=field.description or "",
        should=mark.should if mark is not None else f"one of {', '.join(choices)}" if choices else "",
        choices=choices,
        optional=not field.is_required(),
    )


def text_of(value: Any, unit: str) -> str:
    """A value as it can be typed in again: with a unit where there is one, digit for digit."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float) and unit in _PREFIXED:
        text = quantity(float(value), unit, 7)
        if unit == "flop":
            text = text.replace("flop", "FLOP")
        return text.replace("µ", "u")
    if isinstance(value, float):
        return f"{significant(value, 9)} {unit}".strip()
    if isinstance(value, list):
        return ", ".join(text_of(item, unit) for item in value[:20]) + (", ..." if len(value) > 20 else "")
    return f"{value} {unit}".strip()


def _fleet(scenario: Scenario) -> FleetInfo:
    fleet = scenario.devices
    columns = []
    for key, field in Device.model_fields.items():
        if key not in QUANTITIES or (key == "bandwidth_hz" and fleet.uplink_hz is not None):
            continue
        values = np.asarray(getattr(fleet, key), dtype=np.float64)
        known = values[np.isfinite(values)]
        unit = QUANTITIES[key].unit
        least, median, most = (
            (float(known.min()), float(np.median(known)), float(known.max())) if known.size else (None, None, None)
        )
        columns.append(
            ColumnInfo(
                key=key,
                unit=unit,
                description=field.description or "",
                least=least,
                median=median,
                most=most,
                words=_range(least, most, unit),
            )
        )
    return FleetInfo(count=len(fleet), samples=int(fleet.samples.sum()), columns=columns)


def _range(least: float | None, most: float | None, unit: str) -> str:
    if least is None or most is None:
        return "no limit"
    low, high = (
        quantity(value, unit) if unit in _PREFIXED else f"{significant(value)} {unit}".strip()
        for value in (least, most)
    )
    return low if low == high else f"{low} to {high}"
