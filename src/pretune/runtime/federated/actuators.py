"""Making a device's processor and radio obey the plan, as far as they can; what was done is said in words.

Which actuator a device uses is written in its own configuration, never sent by the server. A user's own is a
callable (``module:callable``) that takes the options of the configuration and returns an `Actuator`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from pretune.errors import InputError
from pretune.runtime.federated.messages import Applied, Order
from pretune.runtime.options import Options

CPUFREQ = Path("/sys/devices/system/cpu")
APPLIED = "applied"


class Actuator(Protocol):
    """What a device does about the plan's clock and power."""

    def apply(self, order: Order) -> tuple[str, str]:
        """Set clock and power; returns what became of each: ``applied`` (and how), or why it was not."""
        ...

    def finish(self, order: Order, began_s: float) -> None:
        """The round's gradient has been computed since `began_s` (time.monotonic); called before it is sent."""
        ...

    def close(self) -> None:
        """Leave clock and power as they were found."""
        ...


class Nothing:
    """Changes nothing, and says so."""

    def apply(self, order: Order) -> tuple[str, str]:
        """Nothing."""
        return "not applied: the device has no actuator for it", "not applied: the device has no actuator for it"

    def finish(self, order: Order, began_s: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Emulated:
    """Takes as long to compute as the plan's clock would: what an emulation on a faster machine needs.

    The power is that of the link it is run over: an emulated link has the plan's rate. A gradient that takes longer
    here than the plan has it is not made faster, and the measured time says so.
    """

    def apply(self, order: Order) -> tuple[str, str]:
        """Nothing yet; `finish` waits."""
        return f"emulated: computes for {order.compute_s:.6g} s", "emulated: by the rate of the link"

    def finish(self, order: Order, began_s: float) -> None:
        """Wait until the planned time has passed."""
        left = began_s + order.compute_s - time.monotonic()
        if left > 0:
            time.sleep(left)

    def close(self) -> None:
        """Nothing."""


class Cpufreq:
    """Limits the clock by Linux' cpufreq (`scaling_max_freq` of every core); the radio's power it does not know.

    Source: Documentation/admin-guide/pm/cpufreq.rst of Linux. Values there are in kHz.
    """

    def __init__(self, root: Path = CPUFREQ) -> None:
        self._files = sorted(root.glob("cpu[0-9]*/cpufreq/scaling_max_freq"))
        self._before: dict[Path, str] = {}

    @property
    def range_hz(self) -> tuple[float, float] | None:
        """The lowest and highest clock that the hardware takes; None where there is no cpufreq that says it."""
        try:
            low, high = (int((self._files[0].parent / f"cpuinfo_{end}_freq").read_text()) for end in ("min", "max"))
        except (OSError, ValueError, IndexError):
            return None
        return 1e3 * low, 1e3 * high

    def limit(self, clock_hz: float) -> float:
        """Let no core run faster, within what the hardware takes; returns the limit that was taken.

        Raises:
            OSError, ValueError: it can't be set.
        """
        for file in self._files:
            self._before.setdefault(file, file.read_text().strip())
            low = int((file.parent / "cpuinfo_min_freq").read_text())
            high = int((file.parent / "cpuinfo_max_freq").read_text())
            file.write_text(str(min(max(round(clock_hz / 1e3), low), high)))
        return 1e3 * int(self._files[0].read_text())

    def apply(self, order: Order) -> tuple[str, str]:
        """Set the limit."""
        power = "not applied: cpufreq does not set the radio's power"
        if not self._files:
            return "not applied: this machine has no cpufreq", power
        try:
            set_hz = self.limit(order.clock_hz)
        except (OSError, ValueError) as error:
            return f"not applied: cpufreq refuses ({error.__class__.__name__})", power
        if abs(set_hz - order.clock_hz) <= 0.02 * order.clock_hz:
            return f"{APPLIED} by cpufreq: at most {set_hz:.4g} Hz", power
        return f"not applied: cpufreq took {set_hz:.4g} Hz for {order.clock_hz:.4g} Hz", power

    def finish(self, order: Order, began_s: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """The limits as they were."""
        for file, text in self._before.items():
            try:
                file.write_text(text)
            except OSError:
                continue


BUILTIN: Mapping[str, Callable[[], Actuator]] = {"none": Nothing, "cpufreq": Cpufreq, "emulated": Emulated}


def read_actuator(options: Options) -> Actuator:
    """The actuator that a device's configuration names under `use`; the other keys are for a user's own.

    Raises:
        InputError: there is none of that name, or a user's own can't be made.
    """
    name = options.text("use", "none")
    rest: dict[str, Any] = options.rest()
    path = f"{options.path}.use"
    if name in BUILTIN:
        if rest:
            raise InputError(f"{options.path}.{min(rest)}: is not a key of the actuator {name}")
        return BUILTIN[name]()
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise InputError.field(path, name, "one of " + ", ".join(BUILTIN) + ", or module:callable")
    try:
        made = getattr(importlib.import_module(module), function)(**rest)
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path}: {name} can't be made ({type(error).__name__}: {first})") from error
    lacking = [part for part in ("apply", "finish", "close") if not callable(getattr(made, part, None))]
    if lacking:
        raise InputError(f"{path}: {name} makes an object without {lacking[0]}(), which an actuator has")
    actuator: Actuator = made
    return actuator


def applied(actuator: Actuator, order: Order, batch: int) -> Applied:
    """Apply an order; a user's actuator that fails is told about, and ends no round."""
    done = APPLIED if batch == order.batch else f"not applied: {batch} of {order.batch} samples"
    try:
        clock, power = actuator.apply(order)
        return Applied(batch=done, clock=str(clock)[:200], power=str(power)[:200])
    except Exception as error:  # noqa: BLE001  the user's own code
        why = f"not applied: the actuator failed ({type(error).__name__})"
        return Applied(batch=done, clock=why, power=why)
