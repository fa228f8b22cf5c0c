"""`pretune profile`: measure, write the device entry, say what could not be measured."""

from __future__ import annotations

import json
import platform
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from pretune.cli.planning import refuse_existing
from pretune.errors import InputError, MissingExtra
from pretune.loader import read_tree


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    scenario: Path
    out: Path | None
    name: str | None
    seconds: float
    threads: int
    batch: int | None
    device: str
    given: tuple[str, ...]
    seed: int
    force: bool
    as_json: bool
    quiet: bool


def run_profile(wanted: Wanted) -> int:
    """Profile the scenario's model on this machine."""
    if wanted.out is not None:
        if wanted.out.suffix.lower() not in (".yaml", ".yml"):
            raise InputError(f"{wanted.out}: has the suffix {wanted.out.suffix!r}, should have .yaml or .yml")
        refuse_existing(wanted.out, force=wanted.force)
    section = read_tree(wanted.scenario).get("task")
    try:
        from pretune.profiling.entry import entry_of, missing_from, read_given, yaml_of
        from pretune.profiling.profile import Wish, profile
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("train", error.name) from None
    from pretune.cli.show_profile import Progress, show_profile

    given = read_given(list(wanted.given))
    name = (platform.node() or "this-machine") if wanted.name is None else wanted.name
    wish = Wish(
        seconds=wanted.seconds,
        threads=wanted.threads,
        batch=wanted.batch,
        most=given.get("samples"),
        device=wanted.device,
        seed=wanted.seed,
    )
    bar = None if wanted.quiet or wanted.as_json else Progress(wanted.seconds)
    with bar if bar is not None else nullcontext():
        found = profile(
            section, wish=wish, base=wanted.scenario.parent, seen=bar if bar is not None else lambda what: None
        )
    entry = entry_of(found, name, given)
    if wanted.out is not None:
        from pretune.runtime.checkpoint import write_whole

        try:
            write_whole(wanted.out, yaml_of(entry).encode())
        except OSError as error:
            raise InputError(f"{wanted.out}: can't be written ({error.strerror})") from None
    if wanted.as_json:
        print(json.dumps({**entry, "missing": missing_from(entry)}, allow_nan=False))
    elif not wanted.quiet:
        show_profile(found, entry, missing_from(entry), wanted.out)
    return 0
