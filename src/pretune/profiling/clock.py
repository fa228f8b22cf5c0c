"""The processor's clock while it computes: Linux' cpufreq where there is one, else /proc/cpuinfo.

Sources: Documentation/admin-guide/pm/cpufreq.rst of Linux (`scaling_cur_freq`, in kHz) and arch/x86/kernel/cpu/proc.c
("cpu MHz"; most other architectures have no such line).
"""

from __future__ import annotations

import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CPUFREQ = Path("/sys/devices/system/cpu")
CPUINFO = Path("/proc/cpuinfo")
EVERY_S = 0.05
"""Between two readings: often enough for a second's median, too seldom to be in the way."""
_MHZ = re.compile(r"^cpu MHz\s*:\s*([0-9.]+)\s*$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ClockReader:
    """Reads the clocks of all cores in Hz; `source` says where from, `note` what is doubtful about it.

    `read` is None where the machine tells no clock, and `source` then says so.
    """

    source: str
    note: str = ""
    read: Callable[[], list[float]] | None = None


def find_clock(cpufreq: Path = CPUFREQ, cpuinfo: Path = CPUINFO) -> ClockReader:
    """Where this machine tells its clock."""
    files = sorted(cpufreq.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if files and _numbers(files):
        return ClockReader(source="cpufreq (scaling_cur_freq)", read=lambda: _numbers(files))
    text = _text(cpuinfo)
    if _MHZ.search(text):
        virtual = re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE) is not None
        note = "a virtual machine: the nominal one that its host names, not one that was measured"
        return ClockReader(
            source="/proc/cpuinfo (cpu MHz), no cpufreq",
            note=note if virtual else "",
            read=lambda: [1e6 * float(mhz) for mhz in _MHZ.findall(_text(cpuinfo))],
        )
    return ClockReader(source="this machine tells no clock: neither cpufreq nor a line 'cpu MHz' in /proc/cpuinfo")


@dataclass(kw_only=True)
class ClockLog:
    """Readings during a stretch of work on `threads` cores: of each reading the mean of the fastest so many."""

    threads: int
    readings: list[float] = field(default_factory=list)

    @property
    def median_hz(self) -> float | None:
        """The median reading; None where there was none."""
        return statistics.median(self.readings) if self.readings else None

    def add(self, clocks: list[float]) -> None:
        """One reading of all cores; the busy ones are the fastest."""
        busy = sorted((clock for clock in clocks if clock > 0), reverse=True)[: self.threads]
        if busy:
            self.readings.append(statistics.fmean(busy))


@contextmanager
def watched(reader: ClockReader, threads: int, *, every_s: float = EVERY_S) -> Iterator[ClockLog]:
    """Read the clock every now and then while the block computes, and once at its end."""
    log = ClockLog(threads=threads)
    over = threading.Event()
    read = reader.read

    def look() -> None:
        while read is not None and not over.wait(every_s):
            log.add(read())

    thread = threading.Thread(target=look, daemon=True, name="pretune-clock")
    thread.start()
    try:
        yield log
        if read is not None:
            log.add(read())
    finally:
        over.set()
        thread.join()


def settle(seconds: float = 0.2) -> None:
    """Let a new limit of the clock take effect."""
    time.sleep(seconds)


def _numbers(files: list[Path]) -> list[float]:
    """The files' numbers, kHz to Hz; a core that was taken away is left out."""
    found = []
    for file in files:
        try:
            found.append(1e3 * int(file.read_text()))
        except (OSError, ValueError):
            continue
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
