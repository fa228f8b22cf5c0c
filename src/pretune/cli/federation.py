"""`pretune enroll`, `pretune server` and `pretune device`: a federation on several hosts."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pretune.cli.guard import Interrupted
from pretune.errors import InputError, MissingExtra
from pretune.scenario import load_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from pretune.runtime.federated.serve import Errand

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")]


def enroll_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the keys; what is there is kept.")],
    *,
    scenario: Annotated[
        Path | None, typer.Option("--scenario", metavar="SCENARIO", help="Enrol all devices of a scenario.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", metavar="NAME", help="Enrol a device; may be repeated.")
    ] = None,
    host: Annotated[
        list[str] | None,
        typer.Option("--host", metavar="HOST", help="Name or address by which devices reach the server; repeatable."),
    ] = None,
    quiet: Quiet = False,
) -> int:
    """Make the keys of a federation: an authority, the server's certificate, a key for each device."""
    enroll = _part("pretune.runtime.federated.keys").enroll
    names = list(device or [])
    if scenario is not None:
        names += [name for name in load_scenario(scenario).devices.names if name not in names]
    if not names:
        raise InputError("--device: is missing: name the devices, or give their --scenario")
    made = enroll(folder, host or ["localhost", "127.0.0.1"], names)
    if not quiet:
        for line in made or ["nothing: all keys are there"]:
            typer.echo(f"Made: {line}")
        typer.echo(f"Server: {folder / 'server'}   A device: {folder / 'devices'}/NAME, to be carried there")
    return 0


def server_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The server's configuration file.")],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")
    ] = False,
    quiet: Quiet = False,
) -> int:
    """Carry out a plan with devices elsewhere; go on with it where it was interrupted."""
    load = _part("pretune.runtime.federated.config").load_server_config
    errand = _part("pretune.runtime.federated.serve").read_errand(load(config))
    silent = quiet or as_json
    try:
        _serve(errand, silent)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with: pretune server {config}") from None
    from pretune.report import write_report

    report = write_report(errand.config.out, force=True)
    if as_json:
        tree = json.loads((errand.config.out / "summary.json").read_text(encoding="utf-8"))
        typer.echo(json.dumps({**tree, "folder": str(errand.config.out), "report": str(report)}, allow_nan=False))
    elif not quiet:
        from pretune.cli.show_field import show_field
        from pretune.cli.show_run import show_result

        show_result(errand.config.out, report)
        show_field(errand.config.out)
    return 0


def device_command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The device's configuration file.")],
    *,
    quiet: Quiet = False,
) -> int:
    """Be a device of a federation, until its run has ended (mode direct) or for good (with Flower)."""
    parts = _part("pretune.runtime.federated.config")
    found = parts.load_device_config(config)
    say = _silent if quiet else typer.echo
    try:
        if found.mode is parts.Mode.DIRECT:
            say(f"{found.name}: {_part('pretune.runtime.federated.device').run_device(found, say)}")
        else:
            _part("pretune.runtime.federated.device").make_engine(found).close()  # say what is wrong now, not later
            _part("pretune.runtime.flower.deploy").attend(found, say)
    except KeyboardInterrupt:
        raise Interrupted(f"{found.name}: stopped") from None
    return 0


def _serve(errand: Errand, silent: bool) -> None:
    from pretune.cli.show_field import Live

    say: Callable[[str], None] = _silent if silent else typer.echo
    with Live(errand.plan, errand.config.out, silent) as live:
        if errand.config.mode.value == "direct":
            serve = _part("pretune.runtime.federated.serve")
            streams = serve.streams_of(errand)
            over = threading.Event()
            watcher = threading.Thread(target=_watch, args=(live.look, over), daemon=True)
            watcher.start()
            try:
                serve.carry_out(errand, streams)
            finally:
                over.set()
                watcher.join()
        else:
            if errand.config.mode.value == "messages":
                say("rounds go through Flower's messages: expect several seconds for each (mode flower is quick)")
            _part("pretune.runtime.flower.deploy").serve(errand, say, live.look)


def _watch(look: Callable[[], None], over: threading.Event) -> None:
    while not over.wait(0.2):
        look()


def _part(name: str) -> Any:
    """A part of the runtime that needs the extra `flower`."""
    from importlib import import_module

    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("flower", error.name) from None


def _silent(line: str) -> None:
    """Say nothing."""
