"""`pretune admit`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def admit_command(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML, TOML or JSON).")],
    *,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the plan of the admitted devices here.")
    ] = None,
    scenario_out: Annotated[
        Path | None,
        typer.Option(
            "--scenario-out",
            metavar="FILE.json",
            help="Write their scenario here; by default, with -o plan.json, beside it as plan.scenario.json.",
        ),
    ] = None,
    proof_out: Annotated[
        Path | None,
        typer.Option(
            "--admission-out",
            metavar="FILE.json",
            help="Write the admission with its proof here; by default, with -o plan.json, as plan.admission.json.",
        ),
    ] = None,
    min_weight: Annotated[
        float, typer.Option("--min-weight", metavar="SHARE", help="Keep at least this share of the original weight.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")] = False,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", metavar="SHARE", help="Stop when the gap over all subsets is at most this share."),
    ] = 1e-3,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", help="Stop after about this long.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the files if they exist.")] = False,
) -> int:
    """Choose the devices that are worth taking part, and plan for them.

    Dropping devices changes what is learnt: the objective then speaks of the admitted devices alone, and does not price
    the data that is left out. --min-weight bounds that.
    """
    from pretune.cli.show_admit import Wanted, run_admit

    return run_admit(
        Wanted(
            scenario=scenario,
            out=out,
            scenario_out=scenario_out,
            proof_out=proof_out,
            min_weight=min_weight,
            as_json=as_json,
            quiet=quiet,
            tolerance=tolerance,
            time_limit=time_limit,
            force=force,
        )
    )
