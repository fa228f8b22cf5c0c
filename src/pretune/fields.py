"""What a field may hold: its unit, its range, an example, and how a value or a whole column is read.

One description serves three readers: pydantic (one value of one model), the fleet (a column of a million
values) and the documentation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import PydanticCustomError, core_schema

from pretune import units
from pretune.physics.types import Floats
from pretune.problems import Problems, concise, refused

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

HUGE = 1e60
TINY = 1e-60
"""Beyond these no quantity is physical, and a product of a few of them would leave float64."""
MOST = 10**12
"""The largest whole number taken, so that a million of them still sum up within int64."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A finite number with a unit; positive, or also zero where `zero` is set.

    `noun` completes "a positive ..." (or "a whole number ..."); `example` is written with a unit, `si` is
    the same or a similar value as a bare number. `least` and `most` narrow the range.
    """

    noun: str
    unit: str
    si: float
    example: str = ""
    zero: bool = False
    whole: bool = False
    least: float = TINY
    most: float = HUGE

    @property
    def should(self) -> str:
        """What the field should hold, in words."""
        such = f"such as {self.example!r} or {concise(self.si)}" if self.example else f"such as {concise(self.si)}"
        if self.whole:
            return f"a whole number {self.noun} from {concise(self._low)} to {concise(self._high)}, {such}"
        limits = [f"at least {concise(self.least)}"] if self.least > TINY else []
        limits += [f"at most {concise(self.most)}"] if self.most < HUGE else []
        bounds = f" of {' and '.join(limits)}" if limits else ""
        return (
            f"a {self.noun} of zero or more{bounds}, {such}" if self.zero else f"a positive {self.noun}{bounds}, {such}"
        )

    @property
    def range(self) -> str:
        """The range, for tables."""
        if self.whole:
            return f"whole, {concise(self._low)} to {concise(self._high)}"
        low = "≥ 0" if self.zero else "> 0" if self.least == TINY else f"≥ {concise(self.least)}"
        return low if self.most == HUGE else f"{low}, ≤ {concise(self.most)}"

    @property
    def _low(self) -> float:
        return 0.0 if self.zero else max(self.least, 1.0)

    @property
    def _high(self) -> float:
        return min(self.most, MOST)

    def allows(self, numbers: Floats) -> NDArray[np.bool_]:
        """Which numbers (SI) are within the range; NaN and infinity never are."""
        if self.whole:
            fit: NDArray[np.bool_] = (numbers >= self._low) & (numbers <= self._high)
            fit &= np.floor(numbers, where=fit, out=np.zeros_like(numbers)) == numbers
        else:
            fit = (numbers >= self.least) & (numbers <= self.most)
            if self.zero:
                fit |= numbers == 0.0
        return fit

    def read(self, value: object) -> float:
        """One value, a number or a text with a unit, as an SI number within the range.

        Raises:
            ValueError: it is neither, or out of range.
        """
        number = units.to_si(value, self.unit) if isinstance(value, str) else _plain(value)
        if not self.allows(np.array([number]))[0]:
            raise ValueError(f"{number} is out of range")
        return number + 0.0  # no negative zero

    def read_cells(self, cells: Sequence[object]) -> Floats:
        """A column of values as SI numbers, NaN where a value can't be read; ranges are not checked here."""
        if {type(cell) for cell in cells} <= {int, float}:
            try:
                return np.array(cells, dtype=np.float64) + 0.0
            except OverflowError:
                pass
        numbers = np.full(len(cells), np.nan)
        by_unit: dict[str, list[int]] = {}
        for i, cell in enumerate(cells):
            try:
                if isinstance(cell, str):
                    numbers[i], unit = units.split_quantity(cell)
                    by_unit.setdefault(unit, []).append(i)
                else:
                    numbers[i] = _plain(cell)
            except ValueError:
                continue
        for unit, rows in by_unit.items():
            try:
                numbers[rows] = units.to_si_column(numbers[rows], unit, self.unit)
            except ValueError:
                numbers[rows] = np.nan
        return numbers + 0.0

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let pydantic read the field with `read`."""

        def check(value: object) -> float:
            try:
                number = self.read(value)
            except ValueError:
                raise PydanticCustomError("should", "{should}", {"should": self.should}) from None
            return int(number) if self.whole else number

        return core_schema.no_info_plain_validator_function(check)


def _plain(value: object) -> float:
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise ValueError("not a number")
    try:
        return float(value)
    except OverflowError:
        raise ValueError("too large") from None


@dataclass(frozen=True, kw_only=True)
class Text:
    """A name: one line of text for people."""

    noun: str
    example: str
    most: int = 200

    @property
    def should(self) -> str:
        """What the field should hold, in words."""
        return f"{self.noun}, one line of at most {self.most} characters, such as {self.example!r}"

    @property
    def range(self) -> str:
        """The range, for tables."""
        return f"one line, 1 to {self.most} characters"

    def allows(self, value: object) -> bool:
        """Whether it is a text that can be printed on one line."""
        return isinstance(value, str) and 0 < len(value) <= self.most and value.isprintable() and value == value.strip()

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let pydantic check the field with `allows`."""

        def check(value: object) -> str:
            if not self.allows(value):
                raise PydanticCustomError("should", "{should}", {"should": self.should})
            return str(value)

        return core_schema.no_info_plain_validator_function(check)


def read_one_or_each(quantity: Quantity, value: object) -> float | tuple[float, ...]:
    """One number for all devices, or one for each.

    Raises:
        Refused: it is neither; of a list, one line for each bad number.
    """
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list | tuple):
        try:
            return quantity.read(value)
        except ValueError:
            raise refused(value, f"{quantity.should}, or a list with one for each device") from None
    numbers, problems = quantity.read_cells(value), Problems()
    for i in np.flatnonzero(~quantity.allows(numbers)).tolist():
        problems.holds(f"[{i}]", value[i], quantity.should)
    problems.refuse()
    return tuple(numbers.tolist())


def mark_of(field: FieldInfo) -> Quantity | Text | None:
    """The description that a model's field carries, also when it is written ``Annotated[...] | None``."""
    marks = [*field.metadata]
    for option in getattr(field.annotation, "__args__", ()):
        marks += getattr(option, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Quantity | Text)), None)
