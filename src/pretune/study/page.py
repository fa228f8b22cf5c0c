"""The study's page: what was measured, drawn and told, from files alone.

`collect` takes a study's folder into the results, which are small enough to commit: a CSV for each experiment and
``study.json`` with how they came about. `write_page` makes ``study.md`` and its figures from those files and from
nothing else, so that a test can make it again.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune.errors import InputError
from pretune.study.points import Scale
from pretune.study.registry import Experiment, Figure, Target, load, names_in, points_of
from pretune.study.show import lasting
from pretune.study.store import MANIFEST, Store, good, tidy, write_whole
from pretune.study.tables import Table, csv_text, read_csv
from pretune.study.verdict import TUNE, comparisons, savings, table_of, targets
from pretune.study.verdict_words import verdict_words
from pretune.study.words import table_text

FINDINGS = "findings.md"
"""A text beside the results that the page takes in as it is: what people make of the figures."""
VERDICTS = "verdicts.csv"
FIGURES = "study"
"""The figures' folder, beside the page."""


def collect(study: Path, folder: Path, results: Path, *, version: str | None = None) -> list[str]:
    """Take a study's tables into `results`, of all versions of the code or one; the experiments that were taken.

    An experiment that the study does not have stays as it was.

    Raises:
        InputError: `study` is no study's folder.
    """
    store = Store(study)
    if not (study / MANIFEST).is_file():
        raise InputError.field("DIR", str(study), "a folder that pretune-experiments run has written")
    manifest, kept = store.manifest, _results(results)
    scale = Scale(manifest["scale"])
    results.mkdir(parents=True, exist_ok=True)
    taken = [name for name in names_in(folder) if name in store.names()]
    for name in taken:
        points = points_of(load(folder, name), scale)
        lines = store.measured(name)
        done = {point: one for point, one in good(lines, version).items() if point in set(points)}
        failed = {one.point: one.error for one in lines if one.error and one.point not in done}
        write_whole(results / f"{name}.csv", csv_text(tidy(points, done)))
        kept["experiments"][name] = {
            "scale": scale.value,
            "points": len(points),
            "done": len(done),
            "failed": [f"{point.key}: {failed[point]}" for point in points if point in failed],
            "cpu_s": round(sum(one.cpu_s for one in done.values()), 1),
            "versions": sorted({one.version for one in done.values()}),
            "commits": sorted({one.commit for one in done.values() if one.commit}),
        }
    known = {json.dumps(session, sort_keys=True) for session in kept["sessions"]}
    kept["sessions"] += [one for one in manifest["sessions"] if json.dumps(one, sort_keys=True) not in known]
    kept["matplotlib"] = importlib.metadata.version("matplotlib")
    write_whole(results / MANIFEST, json.dumps(kept, indent=1, sort_keys=True, allow_nan=False) + "\n")
    return taken


def _results(results: Path) -> dict[str, Any]:
    path = results / MANIFEST
    if not path.is_file():
        return {"experiments": {}, "sessions": []}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(tree["experiments"], dict) and isinstance(tree["sessions"], list):
            return dict(tree)
    except (ValueError, KeyError, TypeError):
        pass
    raise InputError.field(str(path), "something else", "what pretune-experiments page writes there")


def write_page(folder: Path, results: Path, docs: Path) -> Path:
    """Draw the figures and write ``docs/study.md``; the page.

    Raises:
        InputError: there are no results, or they can't be read.
    """
    text, verdicts = page(folder, results, docs / FIGURES)
    if len(verdicts):
        write_whole(results / VERDICTS, csv_text(verdicts))
    write_whole(docs / "study.md", text)
    return docs / "study.md"


def page(folder: Path, results: Path, figures: Path) -> tuple[str, Table]:
    """The page's text and the verdict table; its figures are drawn into a folder that is named `FIGURES` in the text.

    Raises:
        InputError: there are no results, or they can't be read.
    """
    manifest = _results(results)
    entries: Mapping[str, Any] = manifest["experiments"]
    names = [name for name in names_in(folder) if name in entries]
    if not names:
        raise InputError.field("--results", str(results), "results that pretune-experiments page DIR has collected")
    parts: list[str] = []
    verdict_rows: list[Any] = []
    aims: list[Target] = []
    loaded = sorted((load(folder, name) for name in names), key=lambda one: one.title)
    for experiment in loaded:
        rows = read_csv(results / f"{experiment.name}.csv")
        parts.append(_section(experiment, entries[experiment.name], rows, figures))
        if experiment.verdict is not None and len(rows):
            verdict_rows += experiment.verdict(rows).rows
        if experiment.targets is not None and len(rows):
            aims += experiment.targets(rows)
    found = comparisons(Table(verdict_rows))
    aims = [*targets(found), *aims]
    whole = [_head(entries, loaded)]
    findings = results / FINDINGS
    if aims:
        lines = [[aim.text, "met" if aim.met else "**missed**", aim.why] for aim in aims]
        whole += ["## In short", table_text(("aim", "", "what was found"), lines, left=3)]
    if findings.is_file():
        whole.append(findings.read_text(encoding="utf-8").strip())
    if found:
        apart = any(row.get("split") == TUNE for row in verdict_rows)
        whole += ["## Verdicts", verdict_words(found, savings(Table(verdict_rows)), chosen_apart=apart)]
    whole += [*parts, _how(entries, manifest["sessions"], loaded)]
    return "\n\n".join(whole) + "\n", table_of(found)


def _head(entries: Mapping[str, Any], loaded: Sequence[Experiment]) -> str:
    """The page's title, what it is, and how to make it again."""
    smoke = [one.name for one in loaded if entries[one.name]["scale"] == Scale.SMOKE.value]
    cpu = lasting(sum(entries[one.name]["cpu_s"] for one in loaded))
    points = sum(entries[one.name]["done"] for one in loaded)
    lines = [
        "# The numerical study",
        "<!-- Written by `pretune-experiments page` from experiments/study/results. -->",
        "When does planning pre-training and fine-tuning together pay, by how much, and when does it not? Every figure "
        "and number here was measured by the experiments in `experiments/study/`, one file each, and this page was "
        f"written from their tables: {points} points, {cpu} of processor time. [How to run, resume, spread over "
        "machines and extend it](experiments.md).",
        "```sh\npretune-experiments run all          # goes on where it stopped; --engine ray on a cluster\n"
        "pretune-experiments page runs/study  # this page\n```",
    ]
    if smoke:
        lines.append(f"**Not the study: these were only tried out, at the scale `smoke`: {', '.join(smoke)}.**")
    return "\n\n".join(lines)


def _section(experiment: Experiment, entry: Mapping[str, Any], rows: Table, figures: Path) -> str:
    """An experiment: its question, figures, words, and where its rows are."""
    parts = [f"## {experiment.title}", f"*{experiment.question}*"]
    if len(rows):
        for number, drawn in enumerate(experiment.figures(rows, figures), start=1):
            parts.append(_figure(drawn, f"{experiment.title}, figure {number}"))
        parts.append(experiment.words(rows).strip())
    where = f"`experiments/study/{experiment.name}.py`, rows in `experiments/study/results/{experiment.name}.csv`"
    missing = entry["points"] - entry["done"]
    state = f"{entry['done']} points, {lasting(entry['cpu_s'])} of processor time"
    if missing:
        state = f"**{missing} of {entry['points']} points are missing** ({len(entry['failed'])} failed); {state}"
    parts.append(f"{state}; {where}.")
    parts += [f"- failed: `{line}`" for line in entry["failed"][:10]]
    return "\n\n".join(parts)


def _figure(drawn: Figure, name: str) -> str:
    caption = " ".join(drawn.caption.split())
    return f"![{name}]({FIGURES}/{drawn.file})\n\n{caption}"


def _how(entries: Mapping[str, Any], sessions: Sequence[Mapping[str, Any]], loaded: Sequence[Experiment]) -> str:
    """Versions, commands, wall times and machines."""
    versions = [
        [
            f"`{one.name}`",
            ", ".join(f"`{version}`" for version in entries[one.name]["versions"]),
            ", ".join(f"`{commit}`" for commit in entries[one.name]["commits"]) or None,
            str(entries[one.name]["done"]),
            lasting(entries[one.name]["cpu_s"]),
        ]
        for one in loaded
    ]
    runs = [
        [
            f"`{one['command']}`",
            one["began"],
            lasting(one["wall_s"]),
            one["engine"] if one["engine"] == "serial" else f"{one['engine']}, {one['workers'] or 'all'} at once",
            one["measured"],
            one["failed"],
        ]
        for one in sessions
    ]
    machines = dict.fromkeys(
        "{processor}, {cores} cores; {system}, Python {python}".format(**one["machine"]) for one in sessions
    )
    total = lasting(sum(one["wall_s"] for one in sessions))
    return "\n\n".join(
        [
            "## How this was made",
            table_text(("experiment", "version of the code", "commit", "points", "processor time"), versions, left=3),
            "A version is the package's and a digest of the sources that a measurement can depend on; a commit with a "
            "+ had changes that were not committed.",
            table_text(("command", "began", "wall time", "engine", "points", "failed"), runs, left=2),
            f"{total} in all. Machine: {'; '.join(machines)}.",
        ]
    )
