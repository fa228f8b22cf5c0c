"""`pretune profile`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def profile_command(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="Scenario file; only its `task` section is looked at.")
    ],
    *,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the device entry here (YAML).")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The device's name; by default this machine's.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="Measure for about this long.")] = 20.0,
    threads: Annotated[
        int,
        typer.Option(
            "--threads", metavar="N", min=1, help="Threads that the entry's figures are for; all are measured."
        ),
    ] = 1,
    batch: Annotated[
        int | None,
        typer.Option(
            "--batch", metavar="N", min=1, help="Batch that the entry's figures are for; by default the fastest."
        ),
    ] = None,
    device: Annotated[str, typer.Option("--device", metavar="DEVICE", help="What computes: cpu or cuda.")] = "cpu",
    given: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="What you know of the device (gain='-105 dB'); may be repeated."
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of the untrained model.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the entry as JSON, and nothing else, on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")] = False,
) -> int:
    """Measure what this machine is for a scenario's model: operations, payload, speed, clock, and energy if counted.

    What can't be measured is null in the device entry, with the reason, until you give it. Needs the optional part
    `train`; `energy` for counters other than RAPL.
    """
    from pretune.cli.profiling import Wanted, run_profile

    return run_profile(
        Wanted(
            scenario=scenario,
            out=out,
            name=name,
            seconds=seconds,
            threads=threads,
            batch=batch,
            device=device,
            given=tuple(given or ()),
            seed=seed,
            force=force,
            as_json=as_json,
            quiet=quiet,
        )
    )
