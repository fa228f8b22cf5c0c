"""What the operator chose when the studio was started, and what it grants to whoever uses it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, and all of them together, may take."""

    body_bytes: int = 8 * 2**20
    """The longest body of a request; more is answered with 413."""
    devices: int = 20_000
    """The largest fleet."""
    solve_s: float = 20.0
    """The longest that one plan, front, comparison or text may take; more is answered with 422."""
    body_s: float = 20.0
    """The longest that the body of a request may be on its way; more is answered with 408."""
    waiting: int = 64
    """Requests that may wait for a solver; more are answered with 429."""
    jobs: int = 2
    """Runs and calibrations at a time; more are answered with 429."""
    streams: int = 32
    """Runs that may be followed at a time; more are answered with 429."""
    points: int = 60
    """The most plans of a front."""
    scenarios: int = 200
    """Scenarios that are kept; the oldest go first."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the application needs to know."""

    folder: Path
    """Where runs are, and `.studio` with what the studio keeps."""
    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    """Whoever knows it may use the studio; None: whoever reaches it."""
    task_files: tuple[Path, ...] = ()
    """Files whose code a scenario's task may run."""
    solvers: int = max(1, min(2, os.cpu_count() or 1))
    """Processes for plans; one more is for what is slow."""
    limits: Limits = field(default_factory=Limits)
    first: str | None = None
    """The scenario to begin with, by its id in the store."""

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the studio."""
        return self.host in LOOPBACK

    @property
    def own(self) -> Path:
        """The studio's own folder."""
        return self.folder / ".studio"
