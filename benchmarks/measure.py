"""How often to repeat, and what a solver inside of a modelling layer took."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any, ClassVar


def repeats(run: Callable[[], object], *, most: int, seconds: float = 5.0) -> int:
    """How often to repeat something that is warm, to spend about this long on it: three times at least."""
    began = time.process_time()
    run()
    return max(3, min(most, int(seconds / (time.process_time() - began + 1e-9))))


def children_s() -> float:
    """Processor time of all processes that were started from here and have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


class Timed:
    """Clarabel's solver, with the processor time of every solve."""

    spent: ClassVar[list[float]] = []

    def __init__(self, make: Any, *parts: Any) -> None:
        self.began = time.process_time()
        self.solver = make(*parts)

    def solve(self) -> Any:
        answer = self.solver.solve()
        self.spent.append(time.process_time() - self.began)
        return answer
