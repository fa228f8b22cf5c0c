"""The law of a scenario that minimises `calibrated`: a family and its parameters, as they stand in the file.

What the parameters mean, and the formulas, are in `pretune.convergence.laws`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pretune.problems import Problems, refused

Range = tuple[float, float]

_LEVEL: dict[str, Range] = {"floor": (0.0, 1e6), "scale": (1e-9, 1e6)}
_ROUNDS: Range = (1e-3, 1e9)
_POWER: Range = (1e-3, 20.0)
_CONCAVE: Range = (1e-3, 1.0)
FAMILIES: Mapping[str, Mapping[str, Range]] = {
    "product": {
        **_LEVEL,
        "finetune_rounds": _ROUNDS,
        "finetune_power": _POWER,
        "pretrain_rounds": _ROUNDS,
        "pretrain_power": _POWER,
    },
    "effective": {
        **_LEVEL,
        "rounds": _ROUNDS,
        "power": _POWER,
        "exchange": (1e-9, 1e9),
        "pretrain_power": _CONCAVE,
    },
    "logistic": {
        **_LEVEL,
        "rounds": _ROUNDS,
        "power": _POWER,
        "exchange": (1e-9, 1e9),
        "pretrain_power": _CONCAVE,
    },
    "transfer": {
        **_LEVEL,
        "rounds": _ROUNDS,
        "power": _POWER,
        "exchange": (1e-9, 1e9),
        "finetune_rounds": _ROUNDS,
        "finetune_power": _CONCAVE,
        "pretrain_rounds": _ROUNDS,
        "pretrain_power": _POWER,
    },
    "decay": {**_LEVEL, "finetune_rounds": _ROUNDS, "pretrain_rounds": _ROUNDS, "shift_share": (0.0, 1.0)},
}
"""The families, and for each the parameters of its noiseless part with the least and the greatest value allowed."""

COMMON: Mapping[str, Range] = {
    "pretrain_noise": (0.0, 1e9),
    "finetune_noise": (0.0, 1e9),
    "noise_power": (0.0, 5.0),
    "pretrain_most": (1.0, 1e12),
    "finetune_most": (1.0, 1e12),
}
"""What all families have in common: how batches enter, and beyond how many rounds of a stage no gain is predicted."""

MEASURES = ("loss", "error")
SPREAD: Range = (0.0, 100.0)


@dataclass(frozen=True, kw_only=True)
class Law:
    """A family with the values of its parameters, in the order of `names`; `Law.read` checks them.

    `measure` is what it predicts of the delivered model: the test `loss`, or the test `error`, the share of samples
    classified wrongly. `spread`: nine runs in ten are predicted to within a factor ``exp(+-spread)``, as far as the
    pilot runs tell.
    """

    family: str
    values: tuple[float, ...]
    measure: str = "loss"
    spread: float | None = None

    @staticmethod
    def names(family: str) -> tuple[str, ...]:
        """The parameters of a family, those that all have in common last."""
        return (*FAMILIES[family], *COMMON)

    def to_dict(self) -> dict[str, Any]:
        """The scenario file's tree."""
        tree: dict[str, Any] = {"family": self.family, "measure": self.measure}
        tree.update(zip(self.names(self.family), self.values, strict=True))
        if self.spread is not None:
            tree["spread"] = self.spread
        return tree

    @staticmethod
    def read(value: object) -> Law | None:
        """The law that a scenario's `convergence.law` describes.

        Raises:
            Refused: one line per key that won't do.
        """
        if value is None or isinstance(value, Law):
            return value
        kinds = ", ".join(FAMILIES)
        if not isinstance(value, Mapping):
            raise refused(value, f"a mapping with a family ({kinds}) and its parameters, as `pretune pilot` writes it")
        problems = Problems()
        family = value.get("family")
        if not isinstance(family, str) or family not in FAMILIES:
            problems.holds("family", family, f"one of {kinds}")
            problems.refuse()
        assert isinstance(family, str)
        ranges = {**FAMILIES[family], **COMMON}
        known = ("family", "measure", "spread", *ranges)
        for key in value:
            if key not in known:
                problems.unknown("", known, key)
        measure = value.get("measure", "loss")
        if measure not in MEASURES:
            problems.holds("measure", measure, " or ".join(MEASURES))
        numbers = []
        for key, (low, high) in ranges.items():
            should = f"a number from {low:g} to {high:g}"
            if key not in value:
                problems.missing(key, f"{should}, which the family {family} needs")
            elif not _within(value[key], low, high):
                problems.holds(key, value[key], should)
            else:
                numbers.append(float(value[key]))
        spread = value.get("spread")
        if spread is not None and not _within(spread, *SPREAD):
            problems.holds("spread", spread, f"a number from {SPREAD[0]:g} to {SPREAD[1]:g}, or null")
        problems.refuse()
        return Law(
            family=family,
            values=tuple(numbers),
            measure=str(measure),
            spread=None if spread is None else float(spread),
        )


def _within(value: object, low: float, high: float) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value) and low <= value <= high
    except OverflowError:
        return False
