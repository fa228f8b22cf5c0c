"""Quantities written as text become SI floats, at the edge and nowhere else.

The unit tables are those of the library pint. It takes a third of a second to start, a quarter of what `pretune plan`
takes for a small scenario, so it is imported only when it is needed: for any unit but the wanted one with a decimal
prefix (``"20 MHz"`` where hertz are wanted) and levels in dB and dBm.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pint import UnitRegistry

Floats = NDArray[np.float64]

LONGEST = 64
"""Characters a quantity may have; nothing sensible is longer."""

_PREFIXES = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "m": 1e-3}
_PREFIXED = ("Hz", "W", "J", "s", "m", "bit")
"""What the prefixes are read before without pint, in exactly this spelling."""
_LEVELS = {("dB", ""): 1.0, ("dBm", "W"): 1e-3, ("dBm/Hz", "W/Hz"): 1e-3}
"""What a level of zero is worth in the wanted unit."""

_NUMBER = re.compile(r"\s*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(.*)", re.DOTALL)
_FACTOR = r"(?:[^\W\d]+|%)(?:(?:\^|\*\*)-?[0-9])?"
_UNIT = re.compile(rf"{_FACTOR}(?:\s*[*/]\s*{_FACTOR}|\s+{_FACTOR})*")  # no towers of powers: pint would compute them


def split_quantity(text: str) -> tuple[float, str]:
    """The number and the unit of ``"20 MHz"``: ``(20.0, "MHz")``; the unit of a bare number is ``""``.

    Raises:
        ValueError: there is no number in front, or the text is too long.
    """
    found = _NUMBER.fullmatch(text.replace("\N{MINUS SIGN}", "-")) if len(text) <= LONGEST else None
    if found is None:
        raise ValueError(f"{text[:LONGEST]!r} does not start with a number")
    return float(found[1]), found[2].strip()


def to_si(text: str, si_unit: str) -> float:
    """The value of ``text`` in ``si_unit``: ``to_si("20 MHz", "Hz") == 2e7``; a bare number is taken as SI.

    Raises:
        ValueError: no number, an unknown unit, or a unit of another dimension.
    """
    number, unit = split_quantity(text)
    return float(to_si_column(np.array([number]), unit, si_unit)[0])


def to_si_column(numbers: Floats, unit: str, si_unit: str) -> Floats:
    """Convert numbers that share one unit; too large a result becomes infinity.

    Raises:
        ValueError: an unknown unit, or a unit of another dimension.
    """
    if not unit:
        return numbers
    with np.errstate(all="ignore"):
        if (known := _known(numbers, unit, si_unit)) is not None:
            return known
    convert = _converter(unit, si_unit)
    if convert is None:
        raise ValueError(f"{unit!r} is not a unit of {si_unit or 'a pure number'}")
    with np.errstate(all="ignore"):
        return convert(numbers)


def _known(numbers: Floats, unit: str, si_unit: str) -> Floats | None:
    """What needs no tables, or None."""
    if (unit, si_unit) in _LEVELS:
        return _LEVELS[unit, si_unit] * 10.0 ** (numbers / 10.0)
    prefix = unit.removesuffix(si_unit)
    if si_unit in _PREFIXED and unit.endswith(si_unit) and prefix in _PREFIXES:
        return numbers * _PREFIXES[prefix]
    return None


@lru_cache(maxsize=1)
def _registry() -> UnitRegistry[Any]:
    import pint

    registry: UnitRegistry[Any] = pint.UnitRegistry(autoconvert_offset_to_baseunit=True, on_redefinition="ignore")
    registry.define("flop = [] = FLOP = FLOPs")  # pint counts bits and bytes, but not operations
    return registry


@lru_cache(maxsize=1024)
def _converter(unit: str, si_unit: str) -> Callable[[Floats], Floats] | None:
    """A function from numbers in `unit` to `si_unit`, or None where there is none.

    Two units fit when they have the same root units, not merely the same dimension: pint holds bits,
    radians and FLOPs for pure numbers, and we do not take the one for the other.
    """
    if _UNIT.fullmatch(unit) is None:
        return None
    registry = _registry()
    target = registry.parse_units(si_unit)
    # A level over a unit, "dBm/Hz", is no unit to pint; a level is, and its watts may be divided.
    for head, *below in ([unit], unit.split("/")):
        try:
            level = registry.parse_units(head)
            divisor = registry.parse_units("")
            for part in below:
                divisor = divisor * registry.parse_units(part)
            one = registry.Quantity(1.0, level).to_root_units() / registry.Quantity(1.0, divisor)
            fits = one.to_root_units().units == registry.Quantity(1.0, target).to_root_units().units
        except _PINT_REFUSALS:
            continue
        if not fits:
            return None
        if not below:
            return lambda numbers: _floats(registry.Quantity(numbers, level).to(target))
        per = registry.parse_units(si_unit) * divisor
        return lambda numbers: _floats(
            registry.Quantity(numbers, level).to(per) / registry.Quantity(1.0, divisor), target
        )
    return None


# What pint raises over a text that is no unit: its own errors derive from these, its parser adds the rest.
_PINT_REFUSALS = (AttributeError, ValueError, TypeError, KeyError, ArithmeticError, AssertionError, SyntaxError)


def _floats(quantity: Any, unit: Any = None) -> Floats:
    return np.asarray((quantity if unit is None else quantity.to(unit)).magnitude, dtype=np.float64)
