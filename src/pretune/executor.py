"""One function over many items: here one after the other, on this machine's cores, or on a Ray cluster.

The one place that knows how work is spread; sweeps and experiments give it a function and a list. Results come as they
are ready. An item that fails, or takes its process with it, gives an outcome that says so, and the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeVar

from pretune.errors import InputError, MissingExtra

Item = TypeVar("Item")
Value = TypeVar("Value")


class Engine(StrEnum):
    """Where the work is done."""

    SERIAL = "serial"
    PROCESSES = "processes"
    RAY = "ray"


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Value]):
    """What became of the item at `index`: a value or, in one line, why there is none."""

    index: int
    value: Value | None = None
    error: str | None = None


def outcomes(
    function: Callable[[Item], Value],
    items: Sequence[Item],
    *,
    engine: Engine = Engine.PROCESSES,
    workers: int | None = None,
    address: str | None = None,
) -> Iterator[Outcome[Value]]:
    """``function(item)`` for every item, in the order they are done.

    Args:
        function: what is done; it and the items are pickled (by value, where they can't be imported).
        items: what it is done to.
        engine: `serial` (this process), `processes` (joblib's on this machine) or `ray`.
        workers: how many at once, one core each (default: this machine's cores, or all that the cluster has).
        address: of a running Ray cluster, such as ``auto``; default is a Ray of this machine's own, for the while.

    Raises:
        InputError: `workers` is below one, or an address without Ray is given.
        MissingExtra: the engine is not installed.
    """
    if workers is not None and workers < 1:
        raise InputError.field("workers", workers, "a whole number >= 1")
    if address is not None and engine is not Engine.RAY:
        raise InputError.field("address", address, "nothing: only the engine ray has one")
    if engine is Engine.RAY:
        return _by_ray(function, items, workers, address)
    if engine is Engine.PROCESSES:
        return _by_joblib(function, items, workers)
    return (_guarded(function, index, item) for index, item in enumerate(items))


def _guarded(function: Callable[[Item], Value], index: int, item: Item) -> Outcome[Value]:
    try:
        return Outcome(index=index, value=function(item))
    except Exception as error:  # noqa: BLE001 - whatever an item does, the others go on
        return Outcome(index=index, error=_told(error))


def _told(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _by_joblib(
    function: Callable[[Item], Value], items: Sequence[Item], workers: int | None
) -> Iterator[Outcome[Value]]:
    try:
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky import ProcessPoolExecutor
        from joblib.externals.loky.process_executor import TerminatedWorkerError
    except ImportError:
        raise MissingExtra("train", "joblib") from None
    left = dict(enumerate(items))

    def found(some: dict[int, Item], count: int) -> Iterator[Outcome[Value]]:
        with parallel_config(backend="loky", inner_max_num_threads=1):
            work = Parallel(n_jobs=count, return_as="generator_unordered", batch_size=1, pre_dispatch=2 * count)
            yield from work(delayed(_guarded)(function, index, item) for index, item in some.items())

    def every() -> Iterator[Outcome[Value]]:
        try:
            for outcome in found(dict(left), workers or os.cpu_count() or 1):
                del left[outcome.index]
                yield outcome
        except TerminatedWorkerError:
            # a dead process takes the pool with it and nobody knows whose it was: the rest get a process each
            for index, item in dict(left).items():
                try:
                    with ProcessPoolExecutor(max_workers=1) as pool:
                        yield pool.submit(_guarded, function, index, item).result()
                except TerminatedWorkerError as error:
                    yield Outcome(index=index, error=_died(error))

    return every()


def _died(error: BaseException) -> str:
    return f"its process died ({type(error).__name__})"


def _by_ray(
    function: Callable[[Item], Value], items: Sequence[Item], workers: int | None, address: str | None
) -> Iterator[Outcome[Value]]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray") from None

    def every() -> Iterator[Outcome[Value]]:
        started = not ray.is_initialized()
        if started:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
            own: dict[str, Any] = (
                {"num_cpus": workers or os.cpu_count(), "include_dashboard": False} if address is None else {}
            )
            ray.init(address=address, **quiet, **own)
        try:
            task: Any = ray.remote(num_cpus=1, max_retries=0)(_guarded)
            waiting: dict[Any, int] = {}
            resources: Callable[[], dict[str, float]] = ray.cluster_resources
            left = iter(enumerate(items))
            most = workers or max(2 * int(resources().get("CPU", 1)), 2)
            while True:
                while len(waiting) < most and (one := next(left, None)) is not None:
                    waiting[task.remote(function, *one)] = one[0]
                if not waiting:
                    break
                (ready,), _ = ray.wait(list(waiting), num_returns=1)
                index = waiting.pop(ready)
                try:
                    yield ray.get(ready)
                except ray.exceptions.RayTaskError as error:  # before the function began: it can't be loaded there
                    yield Outcome(index=index, error=_told(error.cause))
                except ray.exceptions.RayError as error:
                    yield Outcome(index=index, error=_died(error))
        finally:
            if started:
                ray.shutdown()

    return every()
