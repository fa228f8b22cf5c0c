"""`pretune sweep`: many runs at once. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pretune.executor import Engine


def sweep_command(
    scenarios: Annotated[list[Path], typer.Argument(metavar="SCENARIO...", help="Scenario files with a task.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the sweep, new or to go on with.")],
    seeds: Annotated[str, typer.Option("--seeds", metavar="LIST", help="Seeds, such as 0:10 or 1,2,5.")] = "0:3",
    engine: Annotated[
        Engine, typer.Option("--engine", help="This machine's processes, a Ray cluster, or one after the other.")
    ] = Engine.PROCESSES,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", min=1, help="Runs at once; by default one for each core.")
    ] = None,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Of a running Ray cluster, such as auto.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="SHARE", help="Stop when the proven gap is at most this share.")
    ] = 1e-4,
    time_limit: Annotated[
        float | None, typer.Option("--time-limit", metavar="SECONDS", help="Stop planning after this long.")
    ] = None,
) -> int:
    """Plan each scenario and run it with each seed, many at once.

    Finished runs are left alone and interrupted ones resumed when the command is given again; a run that fails does not
    stop the others. Exit code 1 says that some failed.
    """
    from pretune.cli.planning import check_options
    from pretune.cli.show_sweep import Board
    from pretune.sweeps import FINISHED, sweep

    check_options(tolerance, time_limit)
    numbers = read_seeds(seeds)
    with Board(len(scenarios) * len(numbers), shown=not (quiet or as_json)) as board:
        rows = sweep(
            scenarios,
            numbers,
            out,
            engine=engine,
            workers=workers,
            address=address,
            tolerance=tolerance,
            time_limit=time_limit,
            progress=board.tell,
        )
    failed = sum(row.status != FINISHED for row in rows)
    if as_json:
        print(json.dumps({"runs": [vars(row) for row in rows], "failed": failed}, allow_nan=False))
    elif not quiet or failed:
        board.show(rows, out)
    return 1 if failed else 0


def read_seeds(text: str) -> list[int]:
    """The seeds of ``0:10`` (0 to 9) or ``1,2,5``.

    Raises:
        InputError: it is neither.
    """
    from pretune.errors import InputError

    should = "different whole numbers >= 0, at most 10000 of them, such as 0:10 (0 to 9) or 1,2,5"
    try:
        first, colon, last = text.partition(":")
        if colon:
            begin, end = int(first or "0"), int(last)
            found = list(range(begin, min(end, begin + 10_001)))
        else:
            found = [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError.field("--seeds", text, should) from None
    if not 0 < len(found) <= 10_000 or min(found) < 0 or len(set(found)) < len(found):
        raise InputError.field("--seeds", text, should)
    return found
