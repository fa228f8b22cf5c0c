"""All points of the chosen experiments, on any engine: resumed, sharded, and written down as they come."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from pretune.errors import InputError
from pretune.executor import Engine, Outcome, outcomes
from pretune.study.cache import caching_in
from pretune.study.code import code_version, commit_of, machine, shared_version
from pretune.study.points import Point, Scalar, Scale, shard_of
from pretune.study.registry import Experiment, load, points_of
from pretune.study.store import Measured, Store, add, good, tidy
from pretune.study.tables import plain


@dataclass(frozen=True, kw_only=True)
class Job:
    """One point to be measured: everything a worker needs, as plain data."""

    folder: str
    name: str
    point: dict[str, Scalar]
    cache: str
    version: str


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be run, and how. `again`: measure all anew; `keep`: what other versions measured counts."""

    folder: Path
    names: tuple[str, ...]
    out: Path
    scale: Scale = Scale.FULL
    engine: Engine = Engine.PROCESSES
    workers: int | None = None
    address: str | None = None
    shard: tuple[int, int] = (1, 1)
    again: bool = False
    keep: bool = False
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Work:
    """One experiment of an order: its points in this shard, those that are done, and those that are left."""

    experiment: Experiment
    version: str
    points: tuple[Point, ...]
    done: dict[Point, Measured]
    left: tuple[Point, ...]
    other_versions: int
    """Points that only another version of the code has measured."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a session did. `failures` holds a line for each point that failed in it."""

    measured: int
    found: int
    failures: tuple[str, ...]
    wall_s: float


def measure_job(job: Job) -> Measured:
    """Measure one point, with one thread. This is what workers do."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    folder = Path(job.folder)
    version = code_version(folder, job.name)
    if version != job.version:
        raise InputError(f"the code here is {version}, where the study was started {job.version}")
    experiment, point = load(folder, job.name), Point(**job.point)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    began, busy = time.perf_counter(), time.process_time()
    with caching_in(Path(job.cache)):
        rows = tuple({name: plain(cell) for name, cell in row.items()} for row in experiment.measure(point))
    return Measured(
        point=point,
        rows=rows,
        seconds=round(time.perf_counter() - began, 4),
        cpu_s=round(time.process_time() - busy, 4),
        version=version,
    )


def works(order: Order) -> list[Work]:
    """What there is to do, experiment by experiment.

    Raises:
        InputError: an experiment can't be found or loaded, or the shard is none.
    """
    part, parts = order.shard
    if not 1 <= part <= parts:
        raise InputError.field("--shard", f"{part}/{parts}", "I/N with 1 <= I <= N, such as 2/4")
    store = Store(order.out)
    found = []
    for name in dict.fromkeys(order.names):
        experiment, version = load(order.folder, name), code_version(order.folder, name)
        points = points_of(experiment, order.scale)
        points = [point for point in points if shard_of(name, point, parts) == part - 1]
        lines = store.measured(name)
        ours, all_ = good(lines, version), good(lines, None)
        done = {} if order.again else {**(all_ if order.keep else {}), **ours}
        done = {point: done[point] for point in points if point in done}
        found.append(
            Work(
                experiment=experiment,
                version=version,
                points=tuple(points),
                done=done,
                left=tuple(point for point in points if point not in done),
                other_versions=sum(point in all_ and point not in ours for point in points),
            )
        )
    return found


def run(order: Order, tell: Callable[[Work, Measured], None] | None = None) -> Result:
    """Measure what is left; `tell` hears of every point as it comes. Tables are written at the end, also on Ctrl-C.

    A point that fails does not stop the others; it is tried again the next time.

    Raises:
        InputError: something of the order can't be used, or another run is at work in its folder.
        MissingExtra: the engine is not installed.
    """
    store = Store(order.out)
    with store.alone():
        todo = works(order)
        store.note(order.scale)
        began, clock = datetime.now(UTC), time.perf_counter()
        failures: list[str] = []
        fresh = 0
        try:
            with contextlib.ExitStack() as stack:
                files = {work.experiment.name: stack.enter_context(store.adding(work.experiment.name)) for work in todo}
                for work, measured in _measure(order, todo):
                    add(files[work.experiment.name], measured)
                    fresh += 1
                    if measured.error is None:
                        work.done[measured.point] = measured
                    else:
                        failures.append(f"{work.experiment.name} {measured.point.key}: {measured.error}")
                    if tell is not None:
                        tell(work, measured)
        finally:
            wall = time.perf_counter() - clock
            for work in todo:
                if work.done:
                    store.write_table(work.experiment.name, tidy(work.points, work.done))
            if fresh:
                store.note(order.scale, _session(order, todo, began, wall, fresh, len(failures)))
    found = sum(len(work.points) - len(work.left) for work in todo)
    return Result(measured=fresh, found=found, failures=tuple(failures), wall_s=wall)


def _measure(order: Order, todo: Sequence[Work]) -> Iterator[tuple[Work, Measured]]:
    commit = commit_of(order.folder)
    shared = str((order.out / "cache" / shared_version(order.folder)).resolve())
    pairs = [(work, point) for work in todo for point in _mixed(work)]
    jobs = [
        Job(
            folder=str(order.folder.resolve()),
            name=work.experiment.name,
            point=dict(point),
            cache=shared,
            version=work.version,
        )
        for work, point in pairs
    ]
    outcome: Outcome[Measured]
    for outcome in outcomes(measure_job, jobs, engine=order.engine, workers=order.workers, address=order.address):
        work, point = pairs[outcome.index]
        if outcome.value is None:
            yield work, Measured(point=point, error=outcome.error, version=work.version, commit=commit)
        else:
            yield work, replace(outcome.value, commit=commit)


def _mixed(work: Work) -> list[Point]:
    """What is left, in an order without meaning: neighbours often share what `cached` makes and would wait for it."""
    name = work.experiment.name
    return sorted(work.left, key=lambda point: shard_of(name, point, 2**32))


def _session(
    order: Order, todo: Sequence[Work], began: datetime, wall_s: float, measured: int, failed: int
) -> dict[str, object]:
    return {
        "command": order.command,
        "began": began.strftime("%Y-%m-%d %H:%M UTC"),
        "wall_s": round(wall_s, 1),
        "engine": order.engine.value,
        "workers": order.workers,
        "shard": "/".join(map(str, order.shard)),
        "experiments": [work.experiment.name for work in todo if work.left],
        "measured": measured,
        "failed": failed,
        "commit": commit_of(order.folder),
        "machine": machine(),
    }
