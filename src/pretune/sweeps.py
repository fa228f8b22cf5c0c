"""Many runs at once: scenarios times seeds, each in a folder of its own, finished ones left alone.

A sweep's folder holds, for every scenario, ``NAME/plan.json`` (planned once, here) and ``NAME/seed-N/``, a run's folder
as `pretune run` makes it, and ``sweep.json`` with a row for each run. The same command again goes on with what is not
finished: runs are resumed from their checkpoints. On a cluster the folder and the scenario files must be on a disk that
all machines share.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pretune.errors import InputError, PretuneError
from pretune.executor import Engine, outcomes
from pretune.plans import Plan, load_plan
from pretune.scenario import Scenario, load_scenario

FINISHED, FAILED = "finished", "failed"


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """One run to be made: everything a worker needs, as plain data."""

    scenario: str
    plan: str
    seed: int
    out: str


@dataclass(frozen=True, kw_only=True)
class SweepRow:
    """What became of one run; figures are None where it has none. `found`: it had been finished before."""

    scenario: str
    seed: int
    status: str
    found: bool = False
    test_loss: float | None = None
    test_accuracy: float | None = None
    energy_j: float | None = None
    time_s: float | None = None
    folder: str = ""
    error: str | None = None


def sweep(
    scenarios: Sequence[Path],
    seeds: Sequence[int],
    out: Path,
    *,
    engine: Engine = Engine.PROCESSES,
    workers: int | None = None,
    address: str | None = None,
    tolerance: float = 1e-4,
    time_limit: float | None = None,
    progress: Callable[[SweepRow], None] | None = None,
) -> list[SweepRow]:
    """Make all runs that are not finished yet; one row for each run, by scenario and seed.

    A scenario that can't be read or planned fails with all of its runs, a run with itself alone. Arguments as of
    `executor.outcomes` and `plan`; `progress` is told of every row as it comes.

    Raises:
        InputError: there is nothing to do, two scenarios have the same file name, or an option can't be used.
        MissingExtra: the engine is not installed.
    """
    names = [path.stem for path in scenarios]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError.field("SCENARIO", twice[0], "files of different names: the runs' folders are named after them")
    if not scenarios or not seeds or len(set(seeds)) < len(seeds):
        raise InputError.field("--seeds", list(seeds), "different seeds, at least one, and at least one scenario")
    out.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, int], SweepRow] = {}

    def tell(row: SweepRow) -> None:
        rows[row.scenario, row.seed] = row
        ordered = [rows[key] for key in sorted(rows, key=lambda key: (names.index(key[0]), key[1]))]
        _write(out / "sweep.json", ordered)
        if progress is not None:
            progress(row)

    tasks: list[SweepRun] = []
    for name, path in zip(names, scenarios, strict=True):
        try:
            plan_path = _plan(path, out / name, tolerance, time_limit)
        except PretuneError as error:
            for seed in seeds:
                tell(SweepRow(scenario=name, seed=seed, status=FAILED, error=str(error).splitlines()[0]))
            continue
        for seed in seeds:
            folder = out / name / f"seed-{seed}"
            before = _finished(folder)
            if before is not None:
                tell(_row(name, seed, folder, before, found=True))
            else:
                paths = {"scenario": path, "plan": plan_path, "out": folder}
                tasks.append(SweepRun(seed=seed, **{key: str(where.resolve()) for key, where in paths.items()}))
    for outcome in outcomes(one_run, tasks, engine=engine, workers=workers, address=address):
        task = tasks[outcome.index]
        name, folder = Path(task.scenario).stem, Path(task.out)
        if outcome.value is None:
            why = outcome.error
            tell(SweepRow(scenario=name, seed=task.seed, status=FAILED, folder=str(folder), error=why))
        else:
            tell(_row(name, task.seed, folder, outcome.value, found=False))
    return [rows[name, seed] for name in names for seed in seeds]


def one_run(task: SweepRun) -> dict[str, Any]:
    """Make or resume one run, with one thread; its summary. This is what workers do."""
    from pretune.api import run

    scenario = load_scenario(task.scenario)
    result = run(
        load_plan(task.plan), scenario, out=task.out, seed=task.seed, base=Path(task.scenario).parent, threads=1
    )
    return dict(result.summary)


def _plan(path: Path, folder: Path, tolerance: float, time_limit: float | None) -> Path:
    """The scenario's plan in the sweep's folder: that of an earlier start, or a new one."""
    from pretune.api import plan

    scenario, target = load_scenario(path), folder / "plan.json"
    if not (target.is_file() and _fits(target, scenario)):
        if any(folder.glob("seed-*")):
            raise InputError(f"{folder}: holds runs of another scenario; give the sweep another folder")
        found: Plan = plan(scenario, tolerance=tolerance, time_limit=time_limit)
        folder.mkdir(parents=True, exist_ok=True)
        found.save(target)
    return target


def _fits(target: Path, scenario: Scenario) -> bool:
    try:
        return load_plan(target).scenario_sha256 == scenario.sha256
    except InputError:
        return False


def _finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that has finished well, else None."""
    try:
        tree = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) and tree.get("status") == "finished" else None


def _row(name: str, seed: int, folder: Path, summary: dict[str, Any], *, found: bool) -> SweepRow:
    final, spent = summary["scores"]["final"], summary["realised"]
    return SweepRow(
        scenario=name,
        seed=seed,
        status=FINISHED,
        found=found,
        test_loss=final["test_loss"],
        test_accuracy=final["test_accuracy"],
        energy_j=spent["energy_j"],
        time_s=spent["time_s"],
        folder=str(folder),
    )


def _write(target: Path, rows: Sequence[SweepRow]) -> None:
    """The rows so far, whole or not at all; `found` tells of this start only and is left out."""
    plain = [{key: value for key, value in asdict(row).items() if key != "found"} for row in rows]
    part = target.with_name(target.name + ".part")
    part.write_text(json.dumps({"runs": plain}, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(target)
