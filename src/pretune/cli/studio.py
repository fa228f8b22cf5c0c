"""`pretune studio`: its options. What it needs is imported only when it runs, so that help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def studio_command(
    *,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on; others than loopback need a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8765,
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="Where runs are kept and looked for.")] = Path(
        "runs"
    ),
    scenario: Annotated[
        Path | None, typer.Option("--scenario", metavar="FILE", help="The scenario to begin with.")
    ] = None,
    task_file: Annotated[
        list[Path] | None,
        typer.Option("--task-file", metavar="FILE", help="Python file whose code a task may run; may be given again."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="FILE", help="File that holds the token; asks for it always.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    max_devices: Annotated[
        int, typer.Option("--max-devices", metavar="N", min=1, help="Devices of the largest fleet.")
    ] = 20_000,
    solve_seconds: Annotated[
        float, typer.Option("--solve-seconds", metavar="S", min=1.0, help="Longest that one request may compute.")
    ] = 20.0,
    max_jobs: Annotated[int, typer.Option("--max-jobs", metavar="N", min=1, help="Runs at a time.")] = 2,
    log: Annotated[bool, typer.Option("--log", help="Log every request on standard error.")] = False,
) -> int:
    """Serve a local web page to edit a scenario, watch its plan change, and start and follow runs.

    Needs the optional part `studio`; runs need `train` as well.
    """
    from pretune.errors import MissingExtra

    try:
        from pretune.studio.serve import Wanted, run_studio
        from pretune.studio.settings import Limits
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("studio", error.name) from None
    return run_studio(
        Wanted(
            host=host,
            port=port,
            folder=folder,
            scenario=scenario,
            task_files=tuple(task_file or ()),
            token_file=token_file,
            open_page=open_page,
            log=log,
            limits=Limits(devices=max_devices, solve_s=solve_seconds, jobs=max_jobs),
        )
    )
