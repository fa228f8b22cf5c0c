"""Where this machine counts joules: RAPL as the federated devices read it, else what the library Zeus finds.

RAPL is a file and read without any library (runtime/federated/meter.py). Jetson's and Apple's rails and NVIDIA's GPUs
(NVML) are read through Zeus (the optional part `energy`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune.errors import MissingExtra
from pretune.runtime.federated.meter import POWERCAP, find_meter

RAILS = ("cpu_energy_mj", "cpu_total_mj", "total_energy_mj")
"""Zeus' names for the rail of the processor (Jetson, Apple), or for all of the board where there is no such rail."""
NO_LIBRARY = "the library Zeus is not installed (pip install 'pretune[energy]'), and RAPL can't be read here"


@dataclass(frozen=True, kw_only=True)
class Counter:
    """A counter that only grows: `read` it before and after, `joules` says what was spent between (None: unknown)."""

    source: str
    read: Callable[[], Any]
    joules: Callable[[Any, Any], float | None]


@dataclass(frozen=True, kw_only=True)
class Absent:
    """No counter, and why."""

    why: str


def find_counter(device: str, powercap: Path = POWERCAP, zeus: Callable[[], Any] | None = None) -> Counter | Absent:
    """The counter of what computes: the GPU's for ``cuda``, else the processor's.

    `zeus` imports the library; it is another one in tests.
    """
    if device == "cpu":
        meter = find_meter("auto", powercap)
        if meter.counters:
            return Counter(source=meter.source, read=meter.read, joules=meter.joules)
    try:
        devices = (zeus or _zeus)()
    except MissingExtra:
        return Absent(why=NO_LIBRARY)
    return _gpu(devices) if device == "cuda" else _board(devices)


def _zeus() -> Any:
    try:
        import zeus.device
    except ModuleNotFoundError as error:
        raise MissingExtra("energy", error.name or "zeus") from None
    return zeus.device


def _gpu(devices: Any) -> Counter | Absent:
    """The first GPU that PyTorch sees."""
    try:
        gpus = devices.get_gpus()
        if not gpus.supports_get_total_energy_consumption(0):
            return Absent(why="this GPU has no energy counter (NVML)")
    except Exception as error:  # noqa: BLE001  whatever a driver's library raises: there is no counter then
        return Absent(why=f"no GPU counter can be read ({_first(error)})")

    def read() -> float | None:
        try:
            return float(gpus.get_total_energy_consumption(0))
        except Exception:  # noqa: BLE001
            return None

    return Counter(source="NVML through Zeus, the whole GPU", read=read, joules=_difference)


def _board(devices: Any) -> Counter | Absent:
    """A Jetson's or Apple's rail."""
    try:
        board = devices.get_soc()
        there = board.get_available_metrics()
    except Exception as error:  # noqa: BLE001
        return Absent(why=f"no RAPL that may be read, and Zeus finds no other counter ({_first(error)})")
    rail = next((rail for rail in RAILS if rail in there), None)
    if rail is None:
        return Absent(why="no RAPL that may be read, and the board has no rail of its processor")

    def read() -> float | None:
        try:
            value = getattr(board.get_total_energy_consumption(), rail)
            return None if value is None else float(value)
        except Exception:  # noqa: BLE001
            return None

    what = "the whole board" if rail.startswith("total") else "the processor's rail"
    return Counter(source=f"{type(board).__name__} through Zeus, {what}", read=read, joules=_difference)


def _difference(before: float | None, after: float | None) -> float | None:
    """Millijoules to joules; None where a reading failed or the counter began anew."""
    if before is None or after is None or after < before:
        return None
    return 1e-3 * (after - before)


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
