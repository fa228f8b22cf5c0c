"""Numbers as people read them: engineering prefixes, minutes and hours, and text that is safe to show.

The command line and the report share these, so that the same figure reads the same in both.
"""

from __future__ import annotations

import math
import unicodedata

_PREFIXES = {-12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


def quantity(value: float, unit: str, digits: int = 4) -> str:
    """A value with an engineering prefix: ``quantity(9.1e8, "Hz")`` is ``910 MHz``."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else "no limit"
    if value == 0:
        return f"0 {unit}"
    exponent = min(max(3 * math.floor(math.log10(abs(value)) / 3), -12), 12)
    shown = significant(value / 10.0**exponent, digits)
    if abs(float(shown)) >= 1000 and exponent < 12:
        exponent += 3
        shown = significant(value / 10.0**exponent, digits)
    return f"{shown} {_PREFIXES[exponent]}{unit}"


def joules(value: float, digits: int = 4) -> str:
    """An energy: ``2 kJ``."""
    return quantity(value, "J", digits)


def seconds(value: float, digits: int = 4) -> str:
    """A duration: prefixes below two minutes, then minutes and hours, which is how people plan."""
    if not math.isfinite(value) or abs(value) < 119.95:
        return quantity(value, "s", digits)
    if value < 3600:
        minutes, rest = divmod(round(value, 1), 60)
        return f"{minutes:.0f} min" if rest < 0.05 else f"{minutes:.0f} min {rest:.1f} s"
    hours, minutes = divmod(round(value / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours / 24:.1f} days"


def significant(value: float, digits: int = 4) -> str:
    """`digits` significant digits, no trailing zeros, no exponent for everyday sizes."""
    if not math.isfinite(value):
        return "-" if math.isnan(value) else ("-∞" if value < 0 else "∞")
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        size = int(exponent)
        if 0 <= size < 12:
            return f"{float(text):.0f}"
        return f"{mantissa}e{size}"
    return text


def count(value: int) -> str:
    """A whole number with thousands apart."""
    return f"{value:,}"


def percent(share: float, digits: int = 1) -> str:
    """A share of one as a percentage; tiny shares keep two significant digits."""
    if not math.isfinite(share):
        return "-"
    if share != 0 and abs(share) * 100 < 0.5 * 10**-digits:
        return f"{significant(share * 100, 2)} %"
    return f"{share * 100:.{digits}f} %"


def gap(share: float) -> str:
    """A share of one that may be tiny, as a percentage with three significant digits."""
    return f"{significant(share * 100, 3)} %"


def printable(text: object) -> str:
    """Text from a file, safe for a terminal: control and format characters are shown, not obeyed."""
    return "".join(
        character if character == " " or not _hidden(character) else character.encode("unicode_escape").decode("ascii")
        for character in str(text)
    )


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
