from __future__ import annotations

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.units import _LEVELS, _PREFIXED, _PREFIXES, _converter, _known, split_quantity, to_si, to_si_column

CASES = [
    ("20 MHz", "Hz", 2e7),
    ("20MHz", "Hz", 2e7),
    ("0.5 GHz", "Hz", 5e8),
    ("1.2e3 kHz", "Hz", 1.2e6),
    ("23 dBm", "W", 10**2.3 * 1e-3),
    ("-10 dBm", "W", 1e-4),
    ("\N{MINUS SIGN}10 dBm", "W", 1e-4),
    ("13 dBW", "W", 10**1.3),
    ("200 mW", "W", 0.2),
    ("-174 dBm/Hz", "W/Hz", 10**-17.4 * 1e-3),
    ("-174 dBm / Hz", "W/Hz", 10**-17.4 * 1e-3),
    ("-204 dBW/Hz", "W/Hz", 10**-20.4),
    ("-144 dBm/kHz", "W/Hz", 10**-14.4 * 1e-6),
    ("4e-18 W/kHz", "W/Hz", 4e-21),
    ("90 s", "s", 90.0),
    ("3 min", "s", 180.0),
    ("250 ms", "s", 0.25),
    ("1.2 kJ", "J", 1200.0),
    ("0.5 Wh", "J", 1800.0),
    ("2 W*s", "J", 2.0),
    ("-100 dB", "", 1e-10),
    ("50 %", "", 0.5),
    ("7.2e7", "flop", 7.2e7),
    ("  7.2e7 ", "flop", 7.2e7),
    ("+.5", "", 0.5),
    ("72 MFLOP", "flop", 7.2e7),
    ("1.5 GFLOPs", "flop", 1.5e9),
    ("8 FLOP/cycle", "flop/cycle", 8.0),
    ("19.2 Mbit", "bit", 1.92e7),
    ("2.4 MB", "bit", 1.92e7),
    ("1 KiB", "bit", 8192.0),
    ("1e-28 W/Hz^3", "W/Hz^3", 1e-28),
    ("1e-28 J/Hz**2", "W/Hz^3", 1e-28),
    ("1e-28 W s^3", "W/Hz^3", 1e-28),
    ("0.25 km", "m", 250.0),
]


@pytest.mark.parametrize(("text", "unit", "value"), CASES)
def test_texts_become_si(text: str, unit: str, value: float) -> None:
    assert to_si(text, unit) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("text", ["20 MHz", "0.5 GHz", "1.5 GHz", "90 s", "19.2 Mbit", "72 MFLOP", "1.2 kJ"])
def test_decimal_prefixes_are_exact(text: str) -> None:
    number, unit = split_quantity(text)
    prefix = {"M": 1e6, "G": 1e9, "k": 1e3, "s": 1.0}[unit[0]]
    assert to_si(text, {"H": "Hz", "b": "bit", "F": "flop", "J": "J"}.get(unit[1:2], "s")) == number * prefix


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("20 s", "Hz"),
        ("20 MHz", "s"),
        ("3 dBm", "Hz"),
        ("3 dB", "W"),
        ("3 W", ""),
        ("3 bit", ""),
        ("3 rad", ""),
        ("3 FLOP", "bit"),
        ("20 mhz", "Hz"),
        ("20 parsnips", "Hz"),
        ("20 delta_dBm", "W"),
        ("-174 dBm/Hz*s", "W/Hz"),
        ("20 degC", "Hz"),
        ("20 (", "Hz"),
        ("20 m^^2", "m"),
        ("20 1/s", "Hz"),
        ("20 Hz Hz", "Hz"),
        ("20 __import__", "Hz"),
        ("20 Hz;", "Hz"),
        ("20 km^9^9^9^9", "m"),
        ("20 m**9**9", "m"),
        ("twenty Hz", "Hz"),
        ("", "Hz"),
        ("Hz", "Hz"),
        ("1_000", "Hz"),
        ("nan", "Hz"),
        ("inf", "Hz"),
        ("0x10", "Hz"),
        ("١٢", "Hz"),
        ("1" * 65, "Hz"),
        ("1 " + "k" * 100_000, "Hz"),
    ],
)
def test_what_is_no_quantity_is_refused(text: str, unit: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        to_si(text, unit)


@pytest.mark.parametrize("text", ["1e9 dBm", "1e400 W", "9e307 GW"])
def test_too_large_a_value_is_infinite_and_silent(text: str) -> None:
    assert to_si(text, "W") == np.inf


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_bare_number_is_itself(number: float) -> None:
    assert to_si(repr(number), "Hz") == number


@given(st.floats(min_value=-200, max_value=60))
def test_decibels_are_logarithms(level: float) -> None:
    assert to_si(f"{level!r} dBm", "W") == pytest.approx(10 ** (level / 10) * 1e-3, rel=1e-12)


@given(st.text(max_size=20), st.sampled_from(["Hz", "W", "", "W/Hz", "bit"]))
def test_any_text_converts_or_is_a_value_error(unit: str, si_unit: str) -> None:
    with contextlib.suppress(ValueError):
        to_si("1 " + unit, si_unit)


@given(st.text(alphabet="dBmWHzskMG/*^ -0123456789%", max_size=16), st.sampled_from(["Hz", "W", "", "W/Hz"]))
def test_any_unit_like_text_converts_or_is_a_value_error(unit: str, si_unit: str) -> None:
    with contextlib.suppress(ValueError):
        to_si("1 " + unit, si_unit)


def test_a_column_converts_like_its_cells() -> None:
    levels = np.array([-30.0, 0.0, 23.0])
    assert to_si_column(levels, "dBm", "W").tolist() == [to_si(f"{level} dBm", "W") for level in levels]


def test_pint_is_loaded_only_when_it_is_needed() -> None:
    code = """
import sys
from pretune.units import to_si
from pretune.scenario import Workload
Workload(flops_per_sample=7.2e7, upload_bits="1e7")
to_si("20 MHz", "Hz"), to_si("23 dBm", "W"), to_si("-174 dBm/Hz", "W/Hz")
assert not {"pint", "pyarrow", "ruamel.yaml", "torch"} & set(sys.modules), sorted(sys.modules)
to_si("3 min", "s")
assert "pint" in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("unit", [*_PREFIXED, "", "W/Hz", "flop", "W/Hz^3"])
@pytest.mark.parametrize("prefix", _PREFIXES)
def test_what_is_read_without_pint_is_what_pint_reads(prefix: str, unit: str) -> None:
    numbers = np.array([-3.0, 0.0, 2.5, 1e3, 1e7])
    known = _known(numbers, prefix + unit, unit) if prefix + unit else None
    if known is not None:
        convert = _converter(prefix + unit, unit)
        assert convert is not None
        np.testing.assert_allclose(known, convert(numbers), rtol=1e-15)
    assert (known is not None) == (unit in _PREFIXED)


def test_levels_read_without_pint_are_what_pint_reads() -> None:
    numbers = np.array([-174.0, -30.0, 0.0, 23.0])
    for unit, si_unit in _LEVELS:
        known, convert = _known(numbers, unit, si_unit), _converter(unit, si_unit)
        assert known is not None
        assert convert is not None
        np.testing.assert_allclose(known, convert(numbers), rtol=1e-14)
