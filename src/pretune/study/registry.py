"""Experiments, and how they are found: one file each in a folder, none to be entered anywhere."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from pretune.errors import InputError
from pretune.study.points import Point, Scale
from pretune.study.tables import Row, Table

FOLDER = Path("experiments") / "study"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A drawn figure: its SVG file's name, within the folder it was to be drawn into, and its caption."""

    file: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something the study set out to reach: in words, whether it is met, and why (or what was found)."""

    text: str
    met: bool
    why: str


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """One figure or table of the study.

    ``points(scale)`` lists what is measured. ``measure(point)`` gives tidy rows for one point; it runs in a process of
    its own, must depend on nothing but the point, and every row gets the point's fields too. ``figures(rows, folder)``
    draws SVG files into the folder and ``words(rows)`` gives Markdown; both see the rows of all points, in the order
    of `points`, and must bear that some failed. ``verdict(rows)``, if there is one, gives the rows that the verdict
    table is made from (see `pretune.study.verdict`), and ``targets(rows)`` what was aimed at and what came of it.
    """

    name: str
    title: str
    question: str
    points: Callable[[Scale], Sequence[Point]]
    measure: Callable[[Point], Sequence[Row]]
    figures: Callable[[Table, Path], Sequence[Figure]]
    words: Callable[[Table], str]
    verdict: Callable[[Table], Table] | None = None
    targets: Callable[[Table], Sequence[Target]] | None = None


def find_folder(given: Path | None) -> Path:
    """The experiments' folder: the one given, else `experiments/study` here, else that beside the sources.

    Raises:
        InputError: there is none.
    """
    tried = [given] if given is not None else [FOLDER, Path(__file__).resolve().parents[3] / FOLDER]
    for folder in tried:
        if folder.is_dir():
            return folder.resolve()
    raise InputError.field("--folder", str(tried[0]), "a folder of experiment files")


def names_in(folder: Path) -> list[str]:
    """The experiments' names; files that begin with an underscore are not experiments but help them."""
    return sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))


def load(folder: Path, name: str) -> Experiment:
    """The experiment ``folder/name.py``. Within the folder, files import each other as ``from ._other import ...``.

    Raises:
        InputError: there is no such file, or it holds no experiment of that name, or can't be imported.
    """
    known = names_in(folder)
    if name not in known:
        raise InputError.field("NAME", name, "one of " + ", ".join(known) if known else "an experiment's name")
    path = folder / f"{name}.py"
    try:
        module = importlib.import_module(f"{_package(folder)}.{name}")
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: can't be imported: {type(error).__name__}: {first}") from error
    found: Any = getattr(module, "EXPERIMENT", None)
    if not isinstance(found, Experiment):
        raise InputError.field(f"{path}: EXPERIMENT", found, "an Experiment (help files begin with an underscore)")
    if found.name != name:
        raise InputError.field(f"{path}: EXPERIMENT.name", found.name, f"the file's name, {name!r}")
    return found


def _package(folder: Path) -> str:
    """The folder as a package of its own, so that no name in it can stand in the way of another module's."""
    name = "pretune_study_" + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]
    if name not in sys.modules:
        package = ModuleType(name, "Experiments of one folder.")
        package.__path__ = [str(folder.resolve())]
        sys.modules[name] = package
    return name


def points_of(experiment: Experiment, scale: Scale) -> list[Point]:
    """The experiment's points.

    Raises:
        InputError: there are none, or two are the same.
    """
    found = list(experiment.points(scale))
    if not found or not all(isinstance(point, Point) for point in found) or len(set(found)) < len(found):
        raise InputError.field(f"{experiment.name}: points", f"{len(found)} points", "different points, at least one")
    return found
