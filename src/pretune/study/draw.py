"""Figures for the page: SVG, the same bytes every time, a method the same colour everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.study.registry import Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_LOOK: Any = {
    "svg.hashsalt": "pretune",
    "svg.fonttype": "path",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "white",
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
}
_COLOURS = {
    "joint": "#0b5fa5",
    "pretrain-only": "#d1495b",
    "finetune-only": "#e08e0b",
    "fixed-batch": "#6a4c93",
    "fixed-clock": "#1b998b",
    "fixed-power": "#8d6a4f",
    "equal-bandwidth": "#c95d9f",
    "equal-split": "#5c6770",
    "random": "#a3a9ae",
    "successive": "#3c3c3c",
}
_SPARE = ("#2e86ab", "#f26419", "#33658a", "#86bbd8", "#758e4f", "#f6ae2d")


def colour_of(method: str, at: int = 0) -> str:
    """A method's colour; for other names, the spare one at `at`."""
    return _COLOURS.get(method, _SPARE[at % len(_SPARE)])


@contextlib.contextmanager
def drawing(
    folder: Path, name: str, caption: str, *, rows: int = 1, columns: int = 1, size: tuple[float, float] = (4.0, 3.0)
) -> Iterator[tuple[list[list[Axes]], list[Figure]]]:
    """Axes in a grid of (rows, columns), each of `size` in inches, drawn into ``folder/name.svg`` at the end.

    ``with drawing(folder, "a", "What it shows.") as (axes, made): axes[0][0].plot(...)``; `made` then holds the figure.
    """
    import matplotlib

    with matplotlib.rc_context(_LOOK):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure as Canvas

        canvas = Canvas(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.subplots(rows, columns, squeeze=False)
        made: list[Figure] = []
        yield axes.tolist(), made
        folder.mkdir(parents=True, exist_ok=True)
        canvas.savefig(folder / f"{name}.svg", format="svg", metadata={"Date": None, "Creator": "pretune"})
        made.append(Figure(file=f"{name}.svg", caption=caption))


def band(
    axes: Axes,
    x: Sequence[float],
    mean: Sequence[float],
    half: Sequence[float],
    *,
    label: str,
    colour: str,
    style: str = "-",
    marker: str | None = None,
) -> None:
    """A line with its interval as a shade; shapes (points,), `half` is half of the interval's width."""
    low = [m - h for m, h in zip(mean, half, strict=True)]
    high = [m + h for m, h in zip(mean, half, strict=True)]
    axes.plot(x, mean, style, label=label, color=colour, marker=marker)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0.0)


def plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis: 0.3 and 20 instead of powers of ten."""
    from matplotlib.ticker import LogFormatter

    class Plain(LogFormatter):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    axis.set_major_formatter(Plain())
    axis.set_minor_formatter(Plain(minor_thresholds=(2, 0.6)))
