"""Fleets drawn at random: ``{count: 50, seed: 0, draw: {...}}``.

Each key of `draw` is a device's key with either a constant or a distribution. Each key has a random stream of its
own, made from the seed and the key: drawing one key otherwise leaves all others as they were.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field, PlainValidator, ValidationError

from pretune.cell import Cell
from pretune.columns import Column, Table, shares
from pretune.device import QUANTITIES
from pretune.fields import Quantity
from pretune.fleet import Fleet
from pretune.parts import Part, problems_of
from pretune.physics.types import Floats
from pretune.problems import Problems, Refused, join, refused

Draw = Callable[[np.random.Generator, int], Floats]
"""From a random stream and a count to that many values."""


DRAW_SHOULD = "a mapping from a device's keys to constants or distributions"


def _keep_mapping(value: object) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise refused(value, DRAW_SHOULD)
    return value


class Population(Part):
    """A fleet drawn at random; the same file always draws the same fleet."""

    count: Annotated[int, Quantity(noun="of devices", unit="", si=50, whole=True, most=10_000_000)] = Field(
        description="Number of devices, K."
    )
    seed: Annotated[int, Quantity(noun="as a seed", unit="", si=0, whole=True, zero=True)] = Field(
        default=0, description="Seed of the random numbers."
    )
    draw: Annotated[Mapping[Any, Any], PlainValidator(_keep_mapping)] = Field(
        description="For each of a device's keys a constant or a distribution.", examples=[DRAW_SHOULD]
    )


def fleet_from_draw(spec: Mapping[Any, Any], uplink_hz: float | None = None) -> Fleet:
    """The fleet that a population describes; `uplink_hz` is the band that the devices share, if any.

    Raises:
        Refused: with one line per bad field.
    """
    problems = Problems()
    try:
        population = Population.model_validate(dict(spec))
    except ValidationError as error:
        raise Refused(problems_of(Population, error)) from None
    count = population.count
    columns: dict[str, Column] = {}
    defaults = [] if "seed" in population.model_fields_set else [f"devices.seed = {population.seed}"]
    for key, what in population.draw.items():
        if key not in QUANTITIES:
            problems.unknown("draw", QUANTITIES, key)
        elif what is not None or key not in (
            ("weight", "battery_j") if uplink_hz is None else ("weight", "battery_j", "bandwidth_hz")
        ):
            draw: Draw
            try:
                if key == "gain" and isinstance(what, Mapping) and "cell" in what:
                    cell = _read_cell(what)
                    draw = cell.draw_gains
                    defaults += [f"devices.draw.gain.cell.{line}" for line in cell.defaults]
                else:
                    draw = read_draw(QUANTITIES[key], what)
            except Refused as bad:
                problems.more(bad.problems, join("draw", key))
                columns[key] = _column(np.ones(count))
            else:
                stream = np.random.SeedSequence(population.seed, spawn_key=(zlib.crc32(key.encode()),))
                columns[key] = _column(draw(np.random.default_rng(stream), count))
    if "weight" in columns and not problems:  # drawn weights are in proportion
        columns["weight"] = _column(shares(columns["weight"].numbers))
    table = Table(
        size=count,
        columns=columns,
        where=lambda i, key: f"draw.{key} (device {i})",
        header=lambda key: f"draw.{key}",
        problems=problems,
        defaults=defaults,
        uplink_hz=uplink_hz,
    )
    return Fleet(**table.checked())


def _column(numbers: Floats) -> Column:
    return Column(numbers=numbers, present=np.ones(len(numbers), dtype=np.bool_), raw=lambda i: numbers[i].item())


def _read_cell(what: Mapping[Any, Any]) -> Cell:
    problems = Problems()
    if len(what) > 1:
        problems.holds("", what, "a cell and nothing else")
        problems.refuse()
    try:
        return Cell.model_validate(what["cell"])
    except ValidationError as error:
        problems.more(problems_of(Cell, error), "cell")
        raise Refused(problems) from None


def read_draw(quantity: Quantity, what: object) -> Draw:
    """A constant, or one of ``{uniform: [a, b]}``, ``{loguniform: [a, b]}``, ``{choice: [a, b, ...]}``.

    Limits and choices are read like the values they stand for. Whole numbers include both limits; `loguniform`
    rounds them.

    Raises:
        Refused: it is none of these, or out of the key's range.
    """
    if not isinstance(what, Mapping):
        try:
            constant = quantity.read(what)
        except ValueError:
            raise refused(what, f"{quantity.should}, or {{{' | '.join(_KINDS)}: [...]}}") from None
        return lambda rng, count: np.full(count, constant)
    if len(what) != 1 or next(iter(what)) not in _KINDS:
        raise refused(what, f"one of {', '.join(_KINDS)} and nothing else")
    kind, values = next(iter(what.items()))
    problems = Problems()
    wants = "a list of one value or more" if kind == "choice" else "two values [a, b], a <= b"
    if not isinstance(values, list | tuple) or not values or (kind != "choice" and len(values) != 2):
        problems.holds(kind, values, wants)
        problems.refuse()
    numbers = quantity.read_cells(values)
    for i in np.flatnonzero(~quantity.allows(numbers)).tolist():
        problems.holds(f"{kind}[{i}]", values[i], quantity.should)
    problems.refuse()
    if kind != "choice" and numbers[0] > numbers[1]:
        problems.holds(kind, values, wants)
    if kind == "loguniform" and numbers[0] == 0.0:
        problems.holds(f"{kind}[0]", values[0], "more than zero")
    problems.refuse()
    return _KINDS[kind](numbers, quantity.whole)


def _uniform(limits: Floats, whole: bool) -> Draw:
    low, high = limits.tolist()
    if whole:
        return lambda rng, count: rng.integers(int(low), int(high), count, endpoint=True).astype(np.float64)
    return lambda rng, count: rng.uniform(low, high, count)


def _loguniform(limits: Floats, whole: bool) -> Draw:
    low, high = limits.tolist()

    def draw(rng: np.random.Generator, count: int) -> Floats:
        numbers = np.exp(rng.uniform(np.log(low), np.log(high), count))
        return np.clip(np.rint(numbers) if whole else numbers, low, high)

    return draw


def _choice(options: Floats, whole: bool) -> Draw:
    return lambda rng, count: options[rng.integers(len(options), size=count)]


_KINDS: dict[str, Callable[[Floats, bool], Draw]] = {
    "uniform": _uniform,
    "loguniform": _loguniform,
    "choice": _choice,
}
