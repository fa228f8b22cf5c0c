"""`pretune calibrate`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate_command(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML, TOML or JSON).")],
    *,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write the scenario here instead of into SCENARIO itself."),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=2, help="Samples looked at on either side, at most.")
    ] = 2000,
    seconds: Annotated[
        float,
        typer.Option("--seconds", metavar="S", help="Stop measuring after this long; the intervals say the rest."),
    ] = 300.0,
    repetitions: Annotated[
        int, typer.Option("--repetitions", metavar="N", min=3, help="Models and paths measured, if time allows.")
    ] = 5,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all that is random.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace values that were set by hand, too.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted calibration.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace FILE if it exists, and drop an unfinished calibration.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")] = False,
) -> int:
    """Measure the convergence constants on the scenario's own model and data, with intervals, and write them into it.

    Values that were set by hand stay unless --overwrite is given; where each figure comes from is kept beside them.
    Needs the optional part `train`.
    """
    from pretune.cli.calibrating import Wanted, run_calibrate

    return run_calibrate(
        Wanted(
            scenario=scenario,
            out=out,
            samples=samples,
            seconds=seconds,
            repetitions=repetitions,
            seed=seed,
            overwrite=overwrite,
            resume=resume,
            force=force,
            as_json=as_json,
            quiet=quiet,
        )
    )
