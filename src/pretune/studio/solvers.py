"""Processes that compute, so that the page stays quick, both cores work, and what hangs can be ended.

Every solver is a process with a pipe, owned by one thread that feeds it. A request has an end in time: what is not
done by then is told so and its process is replaced. Who no longer waits for an answer can say so: work that goes step
by step stops, and a process that does not stop soon is replaced, too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from pretune.errors import PretuneError
from pretune.studio.answers import Refused, refusal_of, too_long
from pretune.studio.settings import Settings

_log = logging.getLogger("pretune.studio")

GRACE_S = 2.0
"""For a search that keeps its own time, and for work that was told to stop."""
START_S = 600.0
"""For a process to be ready: the kernels may have to be compiled, once."""
_LOOK_S = 0.05


class Broken(Exception):
    """A solver process ended by itself."""


class TooLong(Exception):
    """Work was not done in its time."""


@dataclass(kw_only=True)
class Work:
    """One piece of work, and whether anybody still waits for it."""

    kind: str
    request: Any
    seconds: float
    dropped: threading.Event = field(default_factory=threading.Event)


class Solvers:
    """`quick` processes for plans, and one for what is slow; started when first needed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ready = threading.Event()
        self._local = threading.local()
        self._alive: set[_Solver] = set()
        self._guard = threading.Lock()
        self._waiting = 0
        self._closed = False
        self._quick = ThreadPoolExecutor(settings.solvers, thread_name_prefix="solver")
        self._slow = ThreadPoolExecutor(1, thread_name_prefix="slow-solver")

    def warm(self) -> None:
        """Start the quick solvers, without waiting for them."""
        for _ in range(self.settings.solvers):
            self._quick.submit(self._mine)

    async def ask(self, kind: str, request: Any, *, slow: bool = False, seconds: float | None = None) -> bytes:
        """What the work gives, as JSON.

        Raises:
            Refused: the work was refused, took too long, or there is too much of it.
        """
        work = Work(kind=kind, request=request, seconds=seconds or self.settings.limits.solve_s)
        with self._guard:
            if self._waiting >= self.settings.limits.waiting:
                raise Refused(429, "the studio is busy: too many requests are waiting; try again in a moment")
            self._waiting += 1
        future: Future[bytes] = (self._slow if slow else self._quick).submit(self._do, work)
        future.add_done_callback(self._done)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            work.dropped.set()
            raise

    def _done(self, _: Future[bytes]) -> None:
        with self._guard:
            self._waiting -= 1

    def close(self) -> None:
        """End all processes."""
        self._closed = True
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)
        with self._guard:
            alive = list(self._alive)
        for solver in alive:
            solver.end()

    def _mine(self) -> _Solver:
        """This thread's process, ready."""
        solver: _Solver | None = getattr(self._local, "solver", None)
        if solver is None:
            if self._closed:
                raise Refused(503, "the studio is being closed")
            solver = _Solver(self.settings)
            with self._guard:
                self._alive.add(solver)
            self._local.solver = solver
        if not solver.ready:
            try:
                solver.wait()
            except Broken:
                self._drop(solver)
                raise Refused(503, "the studio's solver could not be started") from None
            self.ready.set()
        return solver

    def _drop(self, solver: _Solver) -> None:
        solver.end()
        with self._guard:
            self._alive.discard(solver)
        self._local.solver = None

    def _do(self, work: Work) -> bytes:
        if work.dropped.is_set():
            raise _unwanted()
        try:
            try:
                return self._once(work)
            except Broken:  # perhaps long ago, while nothing was asked of it
                return self._once(work)
        except Broken as broken:
            raise Refused(503, f"the studio's solver {broken}; try again") from None

    def _once(self, work: Work) -> bytes:
        solver = self._mine()
        try:
            return solver.do(work)
        except Broken:
            self._drop(solver)
            raise
        except TooLong:
            self._drop(solver)
            raise (_unwanted() if work.dropped.is_set() else too_long(work.seconds)) from None


def _unwanted() -> Refused:
    return Refused(499, "stopped: nobody waits for the answer any more")


class _Solver:
    """One process and its pipe."""

    def __init__(self, settings: Settings) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, settings), name="pretune-solver", daemon=True)
        self._process.start()
        theirs.close()
        self.ready = False

    def wait(self) -> None:
        """Until the process is ready."""
        try:
            if not self._pipe.poll(START_S):
                raise Broken("did not start")
            self._pipe.recv()
        except (EOFError, OSError):
            raise Broken("did not start") from None
        self.ready = True

    def do(self, work: Work) -> bytes:
        """The work's answer.

        Raises:
            Refused: as the work was. TooLong: it has to be ended. Broken: the process ended.
        """
        end, told = time.monotonic() + work.seconds + GRACE_S, False
        try:
            self._pipe.send((work.kind, work.request))
            while not self._pipe.poll(_LOOK_S):
                if time.monotonic() > end:
                    raise TooLong
                if work.dropped.is_set() and not told:
                    self._pipe.send(None)
                    told, end = True, min(end, time.monotonic() + GRACE_S)
            answer = self._pipe.recv()
            if told:
                if not self._pipe.poll(GRACE_S):
                    raise Broken("did not stop")
                self._pipe.recv()  # it has read the word, whether it came in time or not
                raise _unwanted()
        except (EOFError, OSError, ValueError):
            raise Broken("ended by itself") from None
        if isinstance(answer, Refused):
            raise answer
        return bytes(answer)

    def end(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe.close()
        self._process.kill()


def _serve(pipe: Connection, settings: Settings) -> None:
    """The process: one request after the other, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the studio, which ends its solvers
    from pretune.studio.work import Desk, warm_up

    desk = Desk(settings=settings, stopped=pipe.poll)
    warm_up(desk)
    answer: bytes | Refused | str | None = "ready"
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send(answer)
            request = pipe.recv()
            if request is None:  # "stop", which was heeded or came too late
                answer = None
                continue
            answer = _answered(desk, *request)


def _answered(desk: Any, kind: str, request: Any) -> bytes | Refused:
    from pretune.studio.work import WORK, text_of

    desk.begin()
    try:
        return text_of(WORK[kind](desk, request))
    except Refused as refused:
        return refused
    except PretuneError as error:
        return refusal_of(error)
    except MemoryError:
        return Refused(422, "takes more memory than there is; ask for less of it")
    except Exception as error:  # noqa: BLE001  whatever it is, the process serves the next
        _log.exception("internal error in %s", kind)
        return Refused(500, f"internal error: {type(error).__name__}")
