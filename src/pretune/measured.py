"""What `pretune calibrate` measured, kept in the scenario beside the values in use: where a figure comes from.

Nothing is planned with it: the planner reads `convergence` and `workload` alone, so this part is no part of the
scenario's digest.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, PlainValidator, model_validator

from pretune.fields import Quantity, Text, read_one_or_each
from pretune.parts import Part
from pretune.problems import Problems, concise, refused

FIGURE = Quantity(noun="number", unit="", si=9.5, zero=True)
SAME = 1e-9
"""Relative difference up to which a value in use is the one that was measured."""

Figure = float | tuple[float, ...]


def _read_figure(value: object) -> Figure:
    return read_one_or_each(FIGURE, value)


def _read_date(value: object) -> str:
    """A day; YAML and TOML may have made a date of it already."""
    should = "a day, such as '2026-05-31'"
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        return value.isoformat()
    try:
        return datetime.date.fromisoformat(str(value) if isinstance(value, str) else "").isoformat()
    except ValueError:
        raise refused(value, should) from None


_FIGURE: Any = PlainValidator(_read_figure)


class Measurement(Part):
    """One measured figure: its value, its 95% interval, and how, when and with which seed it was taken."""

    value: Annotated[Figure, FIGURE, _FIGURE] = Field(
        description="The figure; for `finetune_variance` also a list with one for each device."
    )
    low: Annotated[Figure, FIGURE, _FIGURE] = Field(description="Lower end of the 95% interval.")
    high: Annotated[Figure, FIGURE, _FIGURE] = Field(description="Upper end of the 95% interval.")
    method: Annotated[str, Text(noun="a sentence", example="largest Hessian eigenvalue", most=600)] = Field(
        description="How it was taken."
    )
    date: Annotated[str, PlainValidator(_read_date)] = Field(
        description="The day it was taken.", examples=["a day, such as '2026-05-31'"]
    )
    seed: Annotated[int, Quantity(noun="", unit="", si=0, whole=True, zero=True)] = Field(
        description="Seed of the measurement."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        problems = Problems()
        value, low, high = (np.atleast_1d(figure) for figure in (self.value, self.low, self.high))
        if not value.shape == low.shape == high.shape:
            problems.say(": value, low and high differ in length, should hold one number each, or lists of one length")
        elif not bool(np.all((low <= value) & (value <= high))):
            problems.say(f": holds the value {figure_text(self.value)}, should hold one from low to high")
        problems.refuse()
        return self

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a file."""
        tree = self.model_dump()
        return {key: list(part) if isinstance(part, tuple) else part for key, part in tree.items()}

    def is_value(self, other: Figure) -> bool:
        """Whether a value in use is this one; one number stands for as many equal ones."""
        mine, theirs = np.atleast_1d(self.value), np.atleast_1d(other)
        if len(mine) != len(theirs) and len(theirs) != 1:
            return False
        return bool(np.all(np.abs(mine - theirs) <= SAME * np.abs(mine)))


class Measurements(Part):
    """What `pretune calibrate` measured, with its provenance; the values in use stand in their own sections."""

    smoothness: Measurement | None = Field(default=None, description="Of `convergence.smoothness`.")
    initial_gap: Measurement | None = Field(default=None, description="Of `convergence.initial_gap`.")
    shift: Measurement | None = Field(default=None, description="Of `convergence.shift`.")
    pretrain_variance: Measurement | None = Field(default=None, description="Of `convergence.pretrain_variance`.")
    finetune_variance: Measurement | None = Field(default=None, description="Of `convergence.finetune_variance`.")
    heterogeneity: Measurement | None = Field(default=None, description="Of `convergence.heterogeneity`.")
    pl_constant: Measurement | None = Field(default=None, description="Of `convergence.pl_constant`.")
    flops_per_sample: Measurement | None = Field(default=None, description="Of `workload.flops_per_sample`.")
    upload_bits: Measurement | None = Field(default=None, description="Of `workload.upload_bits`.")
    download_bits: Measurement | None = Field(default=None, description="Of `workload.download_bits`.")
    wasserstein: Measurement | None = Field(
        default=None, description="Label-aware Wasserstein distance between general and task data; for information."
    )

    @property
    def found(self) -> Iterator[tuple[str, Measurement]]:
        """The figures that are there, by key."""
        for key in type(self).model_fields:
            figure = getattr(self, key)
            if figure is not None:
                yield key, figure


WORKLOAD = ("flops_per_sample", "upload_bits", "download_bits")
CONVERGENCE = (
    "smoothness",
    "initial_gap",
    "shift",
    "pretrain_variance",
    "finetune_variance",
    "heterogeneity",
    "pl_constant",
)


def section_of(key: str) -> str | None:
    """The section of the scenario that the value in use stands in; none for what is only information."""
    return "workload" if key in WORKLOAD else "convergence" if key in CONVERGENCE else None


def figure_text(figure: Figure | None) -> str:
    """A figure for a line of text."""
    if figure is None:
        return "null"
    if isinstance(figure, float | int):
        return concise(figure)
    return f"{concise(min(figure))} to {concise(max(figure))} ({len(figure)} devices)"
