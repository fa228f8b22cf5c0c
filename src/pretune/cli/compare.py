"""`pretune compare`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Start(StrEnum):
    """Where the successive approximation starts."""

    LEAST = "least"
    MOST = "most"
    MIDDLE = "middle"


class Rounds(StrEnum):
    """How the successive approximation goes over the rounds."""

    COARSE = "coarse"
    EXHAUSTIVE = "exhaustive"


def compare_command(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML, TOML or JSON).")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the comparison as a page.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Only this baseline; may be given again.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="SHARE", help="Stop each search when its gap is at most this share.")
    ] = 1e-4,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", help="Stop each way of planning after this long.")
    ] = None,
    batch: Annotated[
        int, typer.Option("--batch", metavar="N", min=1, help="The fixed batch, where the data set holds as many.")
    ] = 32,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the random baseline.")] = 0,
    start: Annotated[
        Start, typer.Option("--sca-start", help="Where the approximation's batches, clocks and powers start.")
    ] = Start.MOST,
    sca_tolerance: Annotated[
        float, typer.Option("--sca-tolerance", metavar="SHARE", help="Relative change at which it ends.")
    ] = 1e-4,
    search: Annotated[
        Rounds, typer.Option("--sca-search", help="Its search over rounds: coarse to fine, or every pair.")
    ] = Rounds.COARSE,
    points: Annotated[
        int, typer.Option("--sca-points", metavar="N", min=3, help="Points on each axis of the coarse search.")
    ] = 7,
    step: Annotated[int, typer.Option("--sca-step", metavar="N", min=1, help="Step of the exhaustive search.")] = 1,
) -> int:
    """Put the joint plan beside every baseline.

    The baselines: pretrain-only, finetune-only, fixed-batch, fixed-clock, fixed-power, equal-bandwidth (where the
    plan shares out a band), equal-split, random, and successive, the literature's way, which needs the optional part
    `reference` and takes its time.
    """
    from pretune.cli.show_compare import run_compare
    from pretune.errors import InputError
    from pretune.planner.baselines import Options, SuccessiveOptions

    if not 0.0 < sca_tolerance < 1.0:
        raise InputError.field("--sca-tolerance", sca_tolerance, "a share between 0 and 1")
    options = Options(
        batch=batch,
        seed=seed,
        successive=SuccessiveOptions(
            start=start.value, tolerance=sca_tolerance, search=search.value, points=points, step=step
        ),
    )
    return run_compare(
        scenario,
        only=tuple(only or ()),
        options=options,
        tolerance=tolerance,
        time_limit=time_limit,
        as_json=as_json,
        html=html,
        force=force,
    )
