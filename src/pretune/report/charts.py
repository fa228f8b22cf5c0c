"""Line charts as inline SVG: no script, no outside resource, colours from the page's style sheet.

Every colour is a CSS class, so one drawing serves light and dark pages; the text grows on narrow screens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from pretune.physics.types import Floats
from pretune.report.words import percent, significant

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 66, 18, 26, 48
MOST_POINTS, FEW_POINTS = 240, 60


@dataclass(frozen=True, kw_only=True)
class Line:
    """One drawn series; `colour` is a class of the style sheet, `style` line, dashed, dots or noisy.

    A noisy line of many points is drawn as its running mean inside its running range.
    """

    label: str
    colour: str
    x: Floats
    y: Floats
    style: str = "line"


@dataclass(frozen=True, kw_only=True)
class Band:
    """A stretch of the x axis that belongs to one stage."""

    label: str
    colour: str
    start: float
    end: float


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A limit, drawn as a thin line across the chart; `axis` is x or y."""

    label: str
    axis: str
    at: float


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its caption, what the values are divided by for display, and how ticks are written.

    A logarithmic axis ends at powers of ten, or close to the values where it is `tight`.
    """

    label: str
    divide: float = 1.0
    log: bool = False
    tight: bool = False
    percent: bool = False
    from_zero: bool = False


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """From data to pixels on one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool

    def __call__(self, value: float) -> float:
        share = (self.position(value) - self.position(self.low)) / (self.position(self.high) - self.position(self.low))
        return round(self.start + share * (self.end - self.start), 1)

    def position(self, value: float) -> float:
        return math.log10(value) if self.log else value


def chart(
    title: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    *,
    bands: Sequence[Band] = (),
    rules: Sequence[Rule] = (),
) -> Markup | None:
    """The chart as one ``<figure>``, or None when there is nothing to draw."""
    shown = [line for line in (_clean(line, x, y) for line in lines) if line.x.size]
    if not shown:
        return None
    ends = [at / x.divide for band in bands for at in (band.start, band.end)]
    ends += [rule.at / x.divide for rule in rules if rule.axis == "x"]
    xs = _scale(x, [line.x for line in shown], ends, LEFT, WIDTH - RIGHT)
    ys = _scale(y, [line.y for line in shown], [r.at / y.divide for r in rules if r.axis == "y"], HEIGHT - BOTTOM, TOP)
    parts = [
        *(_band(band, xs, x) for band in bands if band.end > band.start),
        *_grid(xs, ys, x, y),
        *(_rule(rule, xs, ys, x if rule.axis == "x" else y) for rule in rules),
        *(part for line in shown for part in _line(line, xs, ys, y)),
    ]
    legend = Markup("").join(
        Markup('<li><span class="key {} {}"></span>{}</li>').format(line.colour, line.style, line.label)
        for line in shown
        if len(shown) > 1
    )
    return Markup(
        '<figure class="chart"><figcaption>{title}</figcaption>'
        '<svg viewBox="0 0 {w} {h}" role="img" aria-label="{title}">{body}</svg>'
        '<ul class="legend">{legend}</ul></figure>'
    ).format(title=title, w=WIDTH, h=HEIGHT, body=Markup("").join(parts), legend=legend)


def _clean(line: Line, x: Axis, y: Axis) -> Line:
    keep = np.isfinite(line.x) & np.isfinite(line.y)
    if x.log:
        keep &= line.x > 0
    if y.log:
        keep &= line.y > 0
    return Line(
        label=line.label,
        colour=line.colour,
        x=line.x[keep] / x.divide,
        y=line.y[keep] / y.divide,
        style=line.style,
    )


def _scale(axis: Axis, columns: Sequence[Floats], extra: Sequence[float], start: float, end: float) -> _Scale:
    values = np.concatenate([*columns, np.array([value for value in extra if math.isfinite(value)])])
    low, high = float(values.min()), float(values.max())
    if axis.log and axis.tight:
        margin = max((high / low) ** 0.04, 1.02)
        low, high = low / margin, high * margin
    elif axis.log:
        low, high = 10.0 ** math.floor(math.log10(low)), 10.0 ** math.ceil(math.log10(high))
        if low == high:
            low, high = low / 10, high * 10
    else:
        low = 0.0 if axis.from_zero and low >= 0 else low
        if high - low <= 1e-9 * max(abs(high), abs(low), 1e-300):
            low, high = low - (abs(low) * 0.1 or float(not axis.from_zero)), high + (abs(high) * 0.1 or 1.0)
        margin = 0.04 * (high - low)
        low = low if axis.from_zero and low == 0 else low - margin
        high += margin
        if axis.percent:
            low, high = max(low, 0.0), min(high, 1.0)
    return _Scale(low=low, high=high, start=start, end=end, log=axis.log)


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round values between two bounds, at steps of 1, 2, 2.5 or 5 times a power of ten."""
    span = high - low
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough), 10 * power)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def fine_ticks(low: float, high: float) -> list[float]:
    """Round values on a tight logarithmic axis: 1, 2 and 5 times the powers of ten, fewer over many decades."""
    decades = math.log10(high / low)
    if decades < 0.35:
        return ticks(low, high, 4)
    factors = (1,) if decades > 3 else (1, 3) if decades > 1.4 else (1, 2, 5)
    stride = max(1, math.ceil(decades / 6))
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, stride)
    found = [float(f"{factor}e{power}") for power in powers for factor in factors]
    found = [value for value in found if low <= value <= high]
    return found if len(found) > 1 else ticks(low, high, 4)


def _ticks(scale: _Scale, axis: Axis) -> list[float]:
    if not axis.log:
        return ticks(scale.low, scale.high)
    return (fine_ticks if axis.tight else _log_ticks)(scale.low, scale.high)


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    stride = max(1, math.ceil((last - first) / 5))
    return [10.0**power for power in range(first, last + 1, stride) if low <= 10.0**power <= high]


def _grid(xs: _Scale, ys: _Scale, x: Axis, y: Axis) -> list[Markup]:
    parts = []
    for value in _ticks(ys, y):
        at = ys(value)
        parts.append(Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, at, at))
        parts.append(Markup('<text class="tick end" x="{}" y="{}">{}</text>').format(LEFT - 8, at + 5, _tick(value, y)))
    floor = HEIGHT - BOTTOM
    for value in _ticks(xs, x):
        at = xs(value)
        parts.append(Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(at, at, floor, floor + 4))
        parts.append(Markup('<text class="tick mid" x="{}" y="{}">{}</text>').format(at, floor + 19, _tick(value, x)))
    parts.append(
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(LEFT, WIDTH - RIGHT, floor, floor)
    )
    parts.append(
        Markup('<text class="label mid" x="{}" y="{}">{}</text>').format(
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 7, x.label
        )
    )
    parts.append(Markup('<text class="label" x="{}" y="{}">{}</text>').format(4, 14, y.label))
    return parts


def _tick(value: float, axis: Axis) -> str:
    if axis.percent:
        return f"{value * 100:g} %"
    if axis.log and not axis.tight:
        power = round(math.log10(value))
        return f"{value:g}" if -3 <= power <= 4 else f"1e{power}"
    return significant(value)


def _band(band: Band, xs: _Scale, x: Axis) -> Markup:
    start, end = (xs(min(max(at / x.divide, xs.low), xs.high)) for at in (band.start, band.end))
    label = Markup("")
    if end - start > 9 * len(band.label):
        label = Markup('<text class="stage {} mid" x="{}" y="{}">{}</text>').format(
            band.colour, round((start + end) / 2, 1), TOP - 9, band.label
        )
    return Markup('<rect class="band {}" x="{}" y="{}" width="{}" height="{}"/>{}').format(
        band.colour, start, TOP, max(round(end - start, 1), 0), HEIGHT - BOTTOM - TOP, label
    )


def _rule(rule: Rule, xs: _Scale, ys: _Scale, axis: Axis) -> Markup:
    across = rule.axis == "y"
    at = (ys if across else xs)(rule.at / axis.divide)
    start, end = ((LEFT, at), (WIDTH - RIGHT, at)) if across else ((at, TOP), (at, HEIGHT - BOTTOM))
    anchor, name_at = ("start", (LEFT + 6, at + 16)) if across else ("end", (at - 5, HEIGHT - BOTTOM - 8))
    return Markup(
        '<line class="rule" x1="{}" y1="{}" x2="{}" y2="{}"/><text class="rule-name {}" x="{}" y="{}">{}</text>'
    ).format(*start, *end, anchor, *name_at, rule.label)


def _line(line: Line, xs: _Scale, ys: _Scale, axis: Axis) -> list[Markup]:
    if line.style == "noisy" and line.x.size > FEW_POINTS:
        x, low, mean, high = _thinned(line.x, line.y)
        around = [*_points(x, high, xs, ys), *reversed(_points(x, low, xs, ys))]
        return [
            Markup('<path class="range {}" d="M{}Z"/>').format(line.colour, "L".join(around)),
            Markup('<path class="line {}" d="M{}"/>').format(line.colour, "L".join(_points(x, mean, xs, ys))),
        ]
    x, y = line.x, line.y
    if x.size > MOST_POINTS:
        pick = np.unique(np.linspace(0, x.size - 1, MOST_POINTS).round().astype(np.int64))
        x, y = x[pick], y[pick]
    points = _points(x, y, xs, ys)
    style = "line" if line.style == "noisy" else line.style
    parts = []
    if len(points) > 1:
        parts.append(Markup('<path class="line {} {}" d="M{}"/>').format(line.colour, style, "L".join(points)))
    if line.style == "dots" or len(points) == 1:
        parts += [
            Markup('<circle class="{}" cx="{}" cy="{}" r="3.2"><title>{}</title></circle>').format(
                line.colour,
                *point.split(","),
                f"{line.label}: {percent(value) if axis.percent else significant(value)}",
            )
            for point, value in zip(points, y.tolist(), strict=True)
        ]
    return parts


def _points(x: Floats, y: Floats, xs: _Scale, ys: _Scale) -> list[str]:
    return [f"{xs(a):g},{ys(b):g}" for a, b in zip(x.tolist(), y.tolist(), strict=True)]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Buckets of neighbouring points: their last x, and the least, mean and greatest y."""
    buckets = min(max(x.size // 4, FEW_POINTS // 2), MOST_POINTS // 2)
    starts = np.unique(np.linspace(0, x.size, buckets, endpoint=False).astype(np.int64))
    sizes = np.diff(np.append(starts, x.size))
    last = np.append(starts[1:], x.size) - 1
    return (
        x[last],
        np.minimum.reduceat(y, starts),
        np.add.reduceat(y, starts) / sizes,
        np.maximum.reduceat(y, starts),
    )
