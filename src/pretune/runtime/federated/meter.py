"""The energy counter of a device: RAPL through Linux' powercap, where there is one that may be read.

RAPL counts a whole processor package: whatever else runs beside the device's work is in the figure, and the ledger's
source says so. Source: Documentation/power/powercap/powercap.rst of Linux (`energy_uj`, `max_energy_range_uj`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pretune.errors import InputError

POWERCAP = Path("/sys/class/powercap")
MODELLED = "modelled"
CHOICES = ("auto", "rapl", "modelled")


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Counters to be added up; without any, energy is left to the model. `source` names it for the ledger."""

    source: str = MODELLED
    counters: tuple[Path, ...] = ()

    def read(self) -> list[int] | None:
        """The counters in microjoules; None where there are none, or one can't be read any more."""
        if not self.counters:
            return None
        try:
            return [int((counter / "energy_uj").read_text()) for counter in self.counters]
        except (OSError, ValueError):
            return None

    def joules(self, before: Sequence[int] | None, after: Sequence[int] | None) -> float | None:
        """What was spent between two readings; a counter that has begun anew since then is understood."""
        if before is None or after is None:
            return None
        total = 0
        for counter, first, last in zip(self.counters, before, after, strict=True):
            spent = last - first
            if spent < 0:
                try:
                    spent += int((counter / "max_energy_range_uj").read_text())
                except (OSError, ValueError):
                    return None
            total += spent
        return total * 1e-6


def find_meter(choice: str, root: Path = POWERCAP) -> Meter:
    """The counter a configuration asks for: `auto` takes RAPL where it can be read.

    Raises:
        InputError: `rapl` is asked for and can't be read.
    """
    if choice == "modelled":
        return Meter()
    packages = tuple(sorted(path for path in root.glob("intel-rapl:*") if path.name.count(":") == 1))
    meter = Meter(source="rapl, the whole processor package", counters=packages)
    if meter.read() is not None:
        return meter
    if choice == "rapl":
        raise InputError.field("device.energy", choice, f"modelled: {root} has no counter that may be read here")
    return Meter()
