"""Who carries out the devices' part of a run: the loop in `run.py` is the same for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from pretune.runtime.job import Job


class Backend(Protocol):
    """Puts crews of its own (`local.Crew`) in the place of those that simulate the devices, and `hands.Hands`."""

    @property
    def simulates(self) -> bool:
        """Whether there are no real channels, so that what a scenario's `variation` says is drawn unasked."""
        ...

    def crews(self, job: Job, folder: Path) -> AbstractContextManager[Job]:
        """The job as it is to be run, with everything it needs up until the context is left.

        `folder` is the run's; what a backend writes there has names of its own.
        """
        ...


class Simulated:
    """The crews as they are: this process computes what all devices would."""

    simulates = True

    @contextmanager
    def crews(self, job: Job, folder: Path) -> Iterator[Job]:
        """The job itself."""
        yield job


SIMULATED = Simulated()
