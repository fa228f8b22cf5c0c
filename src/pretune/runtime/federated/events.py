"""What happened to the federation besides its rounds: who came and went, what was refused, and why."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from pathlib import Path

NAME = "events.jsonl"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened at wall-clock time `at_s` (Unix). `device` is "" where it concerns none by name."""

    at_s: float
    what: str
    device: str
    round: int
    why: str


class Events:
    """Keeps events, and appends them to a file; may be told from any thread."""

    def __init__(self, path: Path | None = None) -> None:
        self.all: list[Event] = []
        self._file = None if path is None else open(path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        self._lock = threading.Lock()

    def tell(self, what: str, *, device: str = "", round_: int = 0, why: str = "") -> None:
        """Something has happened."""
        event = Event(at_s=time.time(), what=what, device=device, round=round_, why=why[:300])
        with self._lock:
            self.all.append(event)
            if self._file is not None and not self._file.closed:
                self._file.write(json.dumps(vars(event)) + "\n")
                self._file.flush()

    def of(self, what: str) -> list[Event]:
        """The events of a kind, in order."""
        with self._lock:
            return [event for event in self.all if event.what == what]

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
