"""Child processes that outlive the studio: started in a session of their own, known again by pid and start time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_MAIN = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from pretune.cli import main; sys.exit(main())"
)
"""The command line, also where the studio itself was started with interrupts ignored."""


_CHILDREN: list[subprocess.Popen[bytes]] = []
"""Started by this process and not known to have ended: they are asked now and then, so that none stays a zombie."""


def reap() -> None:
    """Let the children that have ended go."""
    _CHILDREN[:] = [child for child in _CHILDREN if child.poll() is None]


def start(words: Sequence[str], *, out: Path, log: Path) -> int:
    """Start ``pretune WORDS``, with what it prints in files; returns its pid.

    The studio may end, or be interrupted in its terminal: the process goes on.
    """
    with out.open("wb") as stdout, log.open("ab") as stderr:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", _MAIN, *words],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    _CHILDREN.append(child)
    return child.pid


def birth(pid: int) -> str | None:
    """When the process began, in the system's own words: with the pid it says which process it is; None if dead."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    except (OSError, IndexError):
        if Path("/proc/self/stat").exists():
            return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, check=False, timeout=5)
        return found.stdout.decode(errors="replace").strip() or None
    return None


def interrupt(pid: int) -> None:
    """What Ctrl-C does."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGINT)
