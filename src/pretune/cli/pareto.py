"""`pretune pareto`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def pareto_command(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML, TOML or JSON).")],
    *,
    points: Annotated[int, typer.Option("--points", metavar="N", min=2, help="Plans on each front.")] = 50,
    energy: Annotated[
        str | None, typer.Option("--energy", metavar="LO:HI", help="Sweep the energy budget, at the given delay.")
    ] = None,
    delay: Annotated[
        str | None, typer.Option("--delay", metavar="LO:HI", help="Sweep the delay budget, at the given energy.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Plan every pair of budgets; --points then counts each side.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    plot: Annotated[Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw the fronts here.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the fronts as a page.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="SHARE", help="Stop each plan when its gap is at most this share.")
    ] = 1e-3,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", help="Stop each plan after this long.")
    ] = None,
) -> int:
    """Trace what more energy or more time would buy.

    Without --energy and --delay both budgets are swept, each from a fifth to five times what the scenario gives.
    Quantities take units: --energy "1 kJ:5 kJ".
    """
    from pretune.cli.show_pareto import Wanted, run_pareto

    return run_pareto(
        Wanted(
            scenario=scenario,
            points=points,
            energy=energy,
            delay=delay,
            grid=grid,
            as_json=as_json,
            plot=plot,
            html=html,
            force=force,
            tolerance=tolerance,
            time_limit=time_limit,
        )
    )
