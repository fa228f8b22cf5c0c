"""Markdown for the page: tables, and numbers with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from pretune.report.words import significant
from pretune.study.statistics import ALPHA, Interval

NONE = "–"


def table_text(heads: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> str:
    """A Markdown table whose first `left` columns are flush left and the others flush right; None is a dash."""
    marks = ["---" if i < left else "---:" for i in range(len(heads))]
    lines = [heads, marks, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(cell: object) -> str:
    if cell is None:
        return NONE
    text = number(cell) if isinstance(cell, float) else str(cell)
    return " ".join(text.replace("|", "\\|").split())


def number(value: float, digits: int = 3) -> str:
    """A number with so many significant digits; a dash where there is none."""
    return NONE if math.isnan(value) else significant(value, digits)


def interval_text(interval: Interval, digits: int = 2, *, scale: float = 1.0) -> str:
    """``12.3 ± 0.4``: the mean, in units of 1/`scale`, and half of the interval's width, with so many decimals."""
    if interval.count == 0:
        return NONE
    mean = f"{interval.mean * scale:.{digits}f}"
    return mean if math.isnan(interval.half) else f"{mean} ± {interval.half * scale:.{digits}f}"


def points_text(interval: Interval) -> str:
    """A difference of shares in percentage points with its ends: ``+2.1 [+0.8, +3.4]``."""
    if interval.count == 0:
        return NONE
    mean = f"{100.0 * interval.mean:+.1f}"
    return mean if math.isnan(interval.low) else f"{mean} [{100.0 * interval.low:+.1f}, {100.0 * interval.high:+.1f}]"


def p_text(p: float) -> str:
    """A p-value; those under the level stand in bold."""
    if math.isnan(p):
        return NONE
    text = "< 0.001" if p < 0.001 else f"{p:.3f}"
    return f"**{text}**" if p < ALPHA else text
