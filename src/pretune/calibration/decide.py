"""Which of the measured figures become values in use: a value that somebody set by hand is not overwritten unasked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.convergence.constants import Measured
from pretune.measured import Figure, Measurement, Measurements, figure_text, section_of
from pretune.scenario import Scenario

DIGITS = 4
"""Significant digits that are written; the intervals are far wider than the fifth."""
MOST_DEVICES = 200
"""Above so many devices one variance stands for all: a scenario file is no place for a long column."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What goes into the file: `measured` whole, `values` by section; `kept` tells what stays, in a line each."""

    measured: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, Mapping[str, Figure]]
    kept: tuple[str, ...]


def rounded(number: float) -> float:
    """The number to `DIGITS` significant digits; whole numbers as they are."""
    if number.is_integer() and abs(number) < 1e15:
        return number
    return float(f"{number:.{DIGITS}g}")


def decide(
    figures: Mapping[str, Measured],
    device_variance: tuple[Measured, ...],
    *,
    tree: Mapping[str, Any],
    scenario: Scenario,
    overwrite: bool,
    date: str,
    seed: int,
) -> Decision:
    """Sort the figures into those that are written and those that are only told.

    `tree` is the scenario file as it is; `scenario` what it says, with stand-ins where it lacks constants. A value is
    written if the file has none (and needs one: one local step needs no heterogeneity), or one that an earlier
    calibration wrote (it equals its `measured.KEY.value`), or if `overwrite` asks for it.
    """
    before = scenario.measured or Measurements()
    measured: dict[str, dict[str, Any]] = {}
    values: dict[str, dict[str, Figure]] = {}
    kept = []
    for key in Measurements.model_fields:
        if key not in figures:
            old = getattr(before, key)
            if old is not None:
                measured[key] = old.to_dict()
            continue
        measured[key] = _entry(key, figures[key], device_variance, date, seed)
        section = section_of(key)
        if section is None:
            continue
        value: Figure = measured[key]["value"]
        known = dict(tree.get(section) or {})
        old = getattr(before, key)
        by_hand = known.get(key) is not None and not (
            old is not None and old.is_value(getattr(getattr(scenario, section), key))
        )
        if not by_hand or overwrite:
            needless = key == "heterogeneity" and known.get(key) is None and scenario.convergence.choices == (1,)
            if not _impossible(key, value) and not needless:
                values.setdefault(section, {})[key] = value
        elif not Measurement(**measured[key]).is_value(getattr(getattr(scenario, section), key)):
            used = figure_text(getattr(getattr(scenario, section), key))
            kept.append(f"{section}.{key}: {used} was set by hand and stays; measured {figure_text(_plain(value))}")
    return Decision(measured=measured, values=values, kept=tuple(kept))


def _impossible(key: str, value: Figure) -> bool:
    """A smoothness or a rate of zero is measured where there is no curvature, and is no value to plan with."""
    return key in ("smoothness", "pl_constant") and value == 0.0


def _plain(value: Any) -> Figure:
    return tuple(value) if isinstance(value, list) else value


def _entry(key: str, figure: Measured, devices: tuple[Measured, ...], date: str, seed: int) -> dict[str, Any]:
    if key == "finetune_variance" and 1 < len(devices) <= MOST_DEVICES:
        columns = np.array([[rounded(d.value), rounded(d.low), rounded(d.high)] for d in devices])
        value, low, high = (
            columns[:, 0],
            np.minimum(columns[:, 1], columns[:, 0]),
            np.maximum(columns[:, 2], columns[:, 0]),
        )
        numbers: dict[str, Any] = {"value": value.tolist(), "low": low.tolist(), "high": high.tolist()}
        method = devices[0].method.partition("; met ")[0]
    else:
        one = rounded(figure.value)
        high_one = rounded(figure.high) if math.isfinite(figure.high) else figure.value
        numbers = {"value": one, "low": min(rounded(figure.low), one), "high": max(high_one, one)}
        method = figure.method
    return {**numbers, "method": method, "date": date, "seed": seed}
