"""`pretune pilot`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Measure(StrEnum):
    """What the law predicts of the delivered model."""

    LOSS = "loss"
    ERROR = "error"


def pilot_command(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file with a task.")],
    *,
    out: Annotated[
        Path,
        typer.Option("-o", "--out", metavar="FILE", help="The scenario with the law, .yaml or .json."),
    ],
    measure: Annotated[
        Measure, typer.Option("--measure", help="What the law predicts: the share of errors, or the test loss.")
    ] = Measure.ERROR,
    pretrain_rounds: Annotated[
        int | None,
        typer.Option("--pretrain-rounds", metavar="N", min=1, help="Longest pre-training; by default by the budgets."),
    ] = None,
    finetune_rounds: Annotated[
        int | None,
        typer.Option("--finetune-rounds", metavar="N", min=1, help="Longest fine-tuning; by default by the budgets."),
    ] = None,
    arms: Annotated[int, typer.Option("--arms", metavar="N", min=2, help="Pre-training paths.")] = 4,
    stops: Annotated[int, typer.Option("--stops", metavar="N", min=2, help="Fine-tuning branches of each.")] = 4,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the first path.")] = 0,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", metavar="FILE", help="Where the pilot runs are kept; by default FILE.pilot.json."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> int:
    """Fit a law for the delivered model's loss to short pilot runs of the scenario's own model and data.

    Writes a copy of the scenario that minimises it (criterion `calibrated`). Needs the optional part `train`. An
    interrupted pilot goes on where it was when the command is given again; another measure needs no new runs.
    """
    from pretune.cli.show_pilot import Wanted, run_pilot_command

    return run_pilot_command(
        Wanted(
            scenario=scenario,
            out=out,
            measure=measure.value,
            pretrain_rounds=pretrain_rounds,
            finetune_rounds=finetune_rounds,
            arms=arms,
            stops=stops,
            seed=seed,
            runs=runs,
            as_json=as_json,
            quiet=quiet,
            force=force,
        )
    )
