"""A study's folder: points as they come, one line each, and what went on.

``study.json`` holds the scale and a line for each session (command, machine, wall time); ``NAME.points.jsonl`` a line
for each measured point, on the disk before the next is taken up, so that a killed run loses only what was being
measured. Lines are never taken away: of several for one point the last of the wanted version counts.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from pretune.errors import InputError
from pretune.study.points import Point, Scalar, Scale
from pretune.study.tables import Table, csv_text, write_parquet

ENDING = ".points.jsonl"
MANIFEST = "study.json"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What became of one point: `rows`, or in one line why there are none. `cpu_s` is processor time."""

    point: Point
    rows: tuple[dict[str, Scalar], ...] = ()
    error: str | None = None
    seconds: float = 0.0
    cpu_s: float = 0.0
    version: str = ""
    commit: str | None = None

    def line(self) -> str:
        """The line that is kept, without its end."""
        tree = {**asdict(self), "point": dict(self.point)}
        return json.dumps(tree, separators=(",", ":"), allow_nan=False)


class Store:
    """One study's folder, new or to go on with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The experiments that have points here."""
        return sorted(path.name.removesuffix(ENDING) for path in self.folder.glob(f"*{ENDING}"))

    def measured(self, name: str) -> list[Measured]:
        """All lines of an experiment, in the order they came; a torn last line is none.

        Raises:
            InputError: a line before the last can't be read.
        """
        try:
            text = (self.folder / f"{name}{ENDING}").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        lines = text.split("\n")
        found = []
        for number, line in enumerate(lines[:-1], start=1):
            try:
                tree = json.loads(line)
                tree["point"], tree["rows"] = Point(**tree["point"]), tuple(tree["rows"])
                found.append(Measured(**tree))
            except (ValueError, TypeError, KeyError):
                where = f"{self.folder / name}{ENDING}:{number}"
                raise InputError(
                    f"{where}: is no line of a study; delete the line to measure its point again"
                ) from None
        return found

    @contextlib.contextmanager
    def adding(self, name: str) -> Iterator[IO[str]]:
        """The experiment's file, open for `add`; what a kill left of a last line is cut off."""
        path = self.folder / f"{name}{ENDING}"
        path.touch()
        with path.open("rb+") as raw:
            content = raw.read()
            if content and not content.endswith(b"\n"):
                raw.truncate(content.rfind(b"\n") + 1)
        with path.open("a", encoding="utf-8", newline="\n") as file:
            yield file

    @property
    def manifest(self) -> dict[str, Any]:
        """What ``study.json`` holds; an empty one where there is none.

        Raises:
            InputError: it can't be read.
        """
        path = self.folder / MANIFEST
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(tree.get("sessions"), list) and tree.get("scale") in list(Scale):
                return dict(tree)
        except FileNotFoundError:
            return {"scale": None, "sessions": []}
        except (ValueError, AttributeError):
            pass
        raise InputError.field(str(path), "something else", "what pretune-experiments writes there")

    def note(self, scale: Scale, session: Mapping[str, Any] | None = None) -> None:
        """Enter the study's scale and, at its end, a session.

        Raises:
            InputError: the folder holds a study of the other scale.
        """
        tree = self.manifest
        if tree["scale"] not in (None, scale.value):
            raise InputError.field(
                "--out", str(self.folder), f"a {scale.value} study; that one is of scale {tree['scale']}"
            )
        tree["scale"] = scale.value
        if session is not None:
            tree["sessions"].append(dict(session))
        write_whole(self.folder / MANIFEST, json.dumps(tree, indent=1, allow_nan=False) + "\n")

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Make the folder if need be, and let no other run write into it for the while.

        Raises:
            InputError: another run is at work in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("a", encoding="utf-8") as file:
            try:
                import fcntl
            except ImportError:
                yield
                return
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                where = str(self.folder)
                raise InputError.field("--out", where, "a folder that no other run is at work in") from None
            yield

    def write_table(self, name: str, table: Table) -> None:
        """The tidy table as CSV and Parquet, each whole or not at all."""
        write_whole(self.folder / f"{name}.csv", csv_text(table))
        write_parquet(table, self.folder / f"{name}.parquet")


def add(file: IO[str], measured: Measured) -> None:
    """Add a line and wait until it is on the disk."""
    file.write(measured.line() + "\n")
    file.flush()
    os.fsync(file.fileno())


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there as a whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    part.replace(path)


def good(found: Iterable[Measured], version: str | None) -> dict[Point, Measured]:
    """The measurement that counts for each point: the last that went well, of this version if one is given."""
    return {one.point: one for one in found if one.error is None and version in (None, one.version)}


def tidy(points: Sequence[Point], done: Mapping[Point, Measured]) -> Table:
    """The rows of those points that are done, in the points' order: the point's fields, the row's, seed and version."""
    rows = []
    for point in points:
        one = done.get(point)
        for row in () if one is None else one.rows:
            cells = {**point, **row}
            rows.append({**cells, "seed": cells.get("seed"), "version": "" if one is None else one.version})
    return Table(rows)


def merge(folders: Sequence[Path], out: Path) -> int:
    """Join shards into one folder (which may be one of them); how many points it holds then.

    Raises:
        InputError: a folder holds no study, or they are of different scales.
    """
    target = Store(out)
    for folder in folders:
        if not (folder / MANIFEST).is_file():
            raise InputError.field("DIR", str(folder), "a folder that pretune-experiments run has written")
    with target.alone():
        for folder in folders:
            source = Store(folder)
            if folder.resolve() == out.resolve():
                continue
            target.note(Scale(source.manifest["scale"]))
            for name in source.names():
                there = {one.line() for one in target.measured(name)}
                with target.adding(name) as file:
                    for one in source.measured(name):
                        if one.line() not in there:
                            add(file, one)
            known = [json.dumps(session) for session in target.manifest["sessions"]]
            for session in source.manifest["sessions"]:
                if json.dumps(session) not in known:
                    target.note(Scale(source.manifest["scale"]), session)
        return sum(len(good(target.measured(name), None)) for name in target.names())
