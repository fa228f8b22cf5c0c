"""The fronts as an SVG file that reads on light and on dark pages: no background, and inks of middle lightness."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pretune.errors import InputError
from pretune.planner.pareto import FrontPoint
from pretune.report.words import printable
from pretune.scenario import Scenario

_INK = "#7d8590"
_LINES = ("#2f81f7", "#d9822b")


def draw(scenario: Scenario, found: Sequence[FrontPoint], target: Path) -> None:
    """Write the figure; texts are paths, so that it needs no font, and the same fronts give the same bytes.

    Raises:
        InputError: the file can't be written.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    style: Any = {
        "svg.fonttype": "path",
        "svg.hashsalt": "pretune",
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _INK,
        "axes.titlecolor": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "text.parse_math": False,
    }
    planned = [point for point in found if point.plan is not None]
    axes_wanted = list(dict.fromkeys(point.axis for point in found))
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.6 * len(axes_wanted) + 0.4, 3.6), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0.0)
        figure.suptitle(printable(scenario.name), fontsize=10)
        for axes, axis in zip(figure.subplots(1, len(axes_wanted), squeeze=False)[0], axes_wanted, strict=True):
            axes.patch.set_alpha(0.0)
            axes.set_yscale("log")
            axes.set_xscale("log")
            axes.set_ylabel("objective")
            for side in (axes.xaxis, axes.yaxis):
                side.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                side.set_minor_locator(NullLocator())
                side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
            axes.grid(visible=True, color=_INK, alpha=0.25, linewidth=0.6)
            here = [point for point in planned if point.axis == axis]
            if axis == "grid":
                delays = sorted({point.delay_s for point in here})
                for index, delay in enumerate(delays):
                    line = [point for point in here if point.delay_s == delay]
                    share = (index + 1) / len(delays)
                    axes.plot(
                        [point.energy_j for point in line],
                        [point.plan.objective for point in line if point.plan is not None],
                        color=_LINES[0],
                        alpha=0.25 + 0.75 * share,
                        label=f"{delay:.3g} s" if index in (0, len(delays) - 1) else None,
                    )
                axes.set_xlabel("energy budget (J)")
                if delays:
                    axes.legend(frameon=False, fontsize=8)
                continue
            is_energy = axis == "energy"
            fixed = (
                f"delay {scenario.budget.delay_s:.4g} s" if is_energy else f"energy {scenario.budget.energy_j:.4g} J"
            )
            axes.plot(
                [point.energy_j if is_energy else point.delay_s for point in here],
                [point.plan.objective for point in here if point.plan is not None],
                color=_LINES[0 if is_energy else 1],
                marker="o",
                markersize=2.5,
            )
            axes.set_xlabel(f"energy budget (J), {fixed}" if is_energy else f"delay budget (s), {fixed}")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": "pretune"})
    try:
        target.write_text(text.getvalue(), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target}: can't be written ({error.strerror})") from None
