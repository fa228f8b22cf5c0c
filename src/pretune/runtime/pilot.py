"""Pilot runs: made, kept in a file so that an interrupted pilot goes on, and fitted with a law.

Every look at a model is a row of the file. The file is replaced as a whole after each branch, so it is always
complete; what is in it is not made again, but for the pre-training paths that lead to what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pretune.convergence.design import Arm, Design, PilotCost, batches_of, cost_of, design_for, noise_of
from pretune.convergence.fit import Fit, Points, fit
from pretune.errors import InputError
from pretune.law import FAMILIES, MEASURES, Law
from pretune.runtime.branches import Ground
from pretune.runtime.evaluate import Score
from pretune.runtime.load import load_task
from pretune.runtime.task import Task
from pretune.scenario import Criterion, Scenario

FORMAT = 1
COLUMNS = ("arm", "branch", "seed", "pretrain", "finetune", "server_batch", "batch", "noise", "loss", "error")
"""Of a row: the arm's and the branch's number, the seed, the rounds, b0, the devices' batch, S, test loss and error."""
Row = list[float]
Beat = Callable[[int], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Pilot:
    """Pilot runs that were made: their rows, the law fitted to them, and what they cost."""

    design: Design
    rows: tuple[Row, ...]
    fit: Fit
    cost: PilotCost

    @property
    def law(self) -> Law:
        """The fitted law."""
        return self.fit.law


def run_pilot(
    scenario: Scenario,
    *,
    file: str | os.PathLike[str] | None = None,
    design: Design | None = None,
    measure: str = "error",
    families: Sequence[str] = tuple(FAMILIES),
    base: Path | None = None,
    task: Task | None = None,
    beat: Beat | None = None,
) -> Pilot:
    """Make the pilot runs of `design` and fit a law to them.

    The models are scored on the task's test samples, as those of a run are: the law predicts what a run will report.

    Args:
        scenario: with a task, or `task` in its place; its criterion and law do not matter.
        file: where the rows are kept; rows of the same pilot that are there already are not made again.
        design: the runs (default: `design_for` the scenario).
        measure: what the law predicts, the test `loss` or the test `error`.
        families: the families of laws that are tried.
        base: what relative files in the task section are relative to.
        task: what is learnt, when it is not to be read from the scenario.
        beat: told how many rounds have been done (or found in the file) since it was last called.

    Raises:
        InputError: the task does not fit, `measure` is unknown, has no values (targets that are no classes), or the
            file holds something else.
        RunFailed: a run diverged.
    """
    if measure not in MEASURES:
        raise InputError.field("measure", measure, " or ".join(MEASURES))
    if scenario.convergence.choices != (1,):
        should = "1: a law is fitted to runs with one local step"
        raise InputError.field("convergence.local_steps", scenario.convergence.local_steps, should)
    task = load_task(scenario.task, base) if task is None else task
    design = design_for(scenario) if design is None else design
    ground = Ground.of(scenario, task)
    book = _Book.open(None if file is None else Path(file), _identity(ground, design))
    for number, arm in enumerate(design.arms):
        _make(ground, design, number, arm, book, beat)
    points = points_of(book.rows, measure, samples=len(task.test))
    found = fit(points, families=families, measure=measure)
    spent = replace(cost_of(scenario, design), wall_s=book.wall_s)
    book.finish({"law": found.law.to_dict(), "errors": dict(found.errors), "cost": asdict(spent)})
    return Pilot(design=design, rows=tuple(book.rows), fit=found, cost=spent)


def points_of(rows: Sequence[Row], measure: str, *, samples: int) -> Points:
    """Rows as points for the fit; an error of zero counts as half a sample of the `samples` it was taken over.

    Raises:
        InputError: the rows have no errors, because the task's targets are no classes.
    """
    table = np.array(rows, dtype=np.float64)
    named = {name: table[:, i] for i, name in enumerate(COLUMNS)}
    value = named[measure]
    if np.any(np.isnan(value)):
        raise InputError.field("measure", measure, "loss: the targets are no classes, so there is no error")
    if measure == "error":
        value = np.maximum(value, 0.5 / samples)
    return Points(
        pretrain=named["pretrain"],
        finetune=named["finetune"],
        server_batch=named["server_batch"],
        noise=named["noise"],
        value=value,
        path=(1000.0 * named["arm"] + named["branch"]).astype(np.int64),
    )


def with_law(scenario: Scenario, law: Law) -> Scenario:
    """The scenario that minimises `law`."""
    part = scenario.convergence
    same = {key: getattr(part, key) for key in part.model_fields_set}
    return scenario.replace(convergence={**same, "criterion": Criterion.CALIBRATED, "law": law})


def _make(ground: Ground, design: Design, number: int, arm: Arm, book: _Book, beat: Beat | None) -> None:
    """The branches of an arm that the book does not have yet."""
    missing = [i for i in range(len(arm.branches)) if not book.has(number, i)]
    last = arm.branches[-1].stop
    if beat is not None and len(missing) < len(arm.branches):
        beat(design.marks[-1] * (len(arm.branches) - len(missing)) + (0 if missing else last))
    if not missing:
        return
    began = time.perf_counter()
    stops = sorted({arm.branches[i].stop for i in missing} | {last})
    for stop, model in ground.pretrain(arm.seed, arm.server_batch, stops, beat):
        for i in [i for i in missing if arm.branches[i].stop == stop]:
            batch = arm.branches[i].batch
            head = [number, i, arm.seed, stop]
            tail = [arm.server_batch, batch, noise_of(ground.scenario, batch)]
            rows = [[*head, 0, *tail, *_figures(ground.score(model))]]
            for mark, tuned in ground.finetune(model, arm.seed, batches_of(ground.scenario, batch), design.marks, beat):
                rows.append([*head, mark, *tail, *_figures(ground.score(tuned))])
            now = time.perf_counter()
            book.add(rows, now - began)
            began = now


def _figures(score: Score) -> list[float]:
    return [score.loss, float("nan") if score.accuracy is None else 1.0 - score.accuracy]


def _identity(ground: Ground, design: Design) -> str:
    """Digest of all that the rows depend on."""
    scenario = ground.scenario
    tree = {
        "design": design.to_dict(),
        "task": ground.task.fingerprint(),
        "section": scenario.task,
        "steps": [scenario.convergence.pretrain_step, scenario.convergence.finetune_step],
        "variances": scenario.finetune_variances.tolist(),
        "server": int(scenario.server.samples),
        "samples": np.asarray(scenario.devices.samples).tolist(),
        "weights": np.asarray(scenario.devices.weight).tolist(),
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


class _Book:
    """The rows, in memory and (where there is a file) on disk."""

    def __init__(self, path: Path | None, identity: str, rows: list[Row], wall_s: float) -> None:
        self.path, self.identity, self.rows, self.wall_s = path, identity, rows, wall_s
        self._there = {(int(row[0]), int(row[1])) for row in rows}

    @staticmethod
    def open(path: Path | None, identity: str) -> _Book:
        """An empty book, or what the file holds of the same pilot."""
        if path is None or not path.exists():
            return _Book(path, identity, [], 0.0)
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            rows = [[float("nan") if cell is None else float(cell) for cell in row] for row in tree["rows"]]
            theirs, wall_s = tree["identity"], float(tree["wall_s"])
            if any(len(row) != len(COLUMNS) for row in rows):
                raise ValueError("rows of another length")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: can't be read as pilot runs ({type(error).__name__}); remove it") from None
        if theirs != identity:
            raise InputError(f"{path}: holds pilot runs of another task, fleet or design; remove it or name another")
        return _Book(path, identity, rows, wall_s)

    def has(self, arm: int, branch: int) -> bool:
        """Whether a branch has been made."""
        return (arm, branch) in self._there

    def add(self, rows: list[Row], seconds: float) -> None:
        """Enter a whole branch."""
        self.rows += [[float(cell) for cell in row] for row in rows]
        self.wall_s += seconds
        self._there.add((int(rows[0][0]), int(rows[0][1])))
        self._write({})

    def finish(self, results: Mapping[str, Any]) -> None:
        """Enter what was made of the rows."""
        self._write(results)

    def _write(self, results: Mapping[str, Any]) -> None:
        if self.path is None:
            return
        rows = [[None if np.isnan(cell) else cell for cell in row] for row in self.rows]
        tree = {
            "pretune_pilot": FORMAT,
            "identity": self.identity,
            "wall_s": self.wall_s,
            "columns": COLUMNS,
            "rows": rows,
            **results,
        }
        part = self.path.with_name(self.path.name + ".part")
        try:
            part.write_text(json.dumps(tree, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(part, self.path)
        except OSError as error:
            raise InputError(f"{self.path}: can't be written ({error.strerror})") from None
