"""One profile: everything that can be measured of a model on this machine, and the reason for what can't."""

from __future__ import annotations

import datetime
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pretune.errors import InputError
from pretune.profiling.clock import ClockReader, find_clock
from pretune.profiling.energy import Absent, Counter, find_counter
from pretune.profiling.machine import machine_of, versions_of
from pretune.profiling.model import ModelCost, model_cost
from pretune.profiling.power import Powers, Switching, measure_powers, switching
from pretune.profiling.speed import BATCHES, Stepper, Timing, all_threads, sweep
from pretune.runtime.federated.actuators import Cpufreq
from pretune.runtime.load import load_task
from pretune.runtime.task import Task

RADIO = "a property of the radio link, which computing does not show"
UNMEASURABLE = {
    "max_power_w": RADIO,
    "gain": RADIO,
    "bandwidth_hz": f"{RADIO} (not needed where the radio has uplink_bandwidth_hz)",
    "samples": "how many samples this device will hold is not known here",
}
"""What no profile can measure."""
BUSY = 0.9
"""With a smaller share of the processor than this a timing says less than the machine can do."""
SWEEP_SHARE = 0.7
"""Of the seconds, where there is a counter; the rest is for the powers."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What is to be measured: about `seconds` of it, the entry's figures at `threads` and, if given, at `batch`.

    Without a `batch` they are those of the fastest of at most `most` samples, which is what the device will hold.
    """

    seconds: float = 20.0
    threads: int = 1
    batch: int | None = None
    most: int | None = None
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds > 0):
            raise InputError.field("--seconds", self.seconds, "a number of seconds above 0")
        if not 1 <= self.threads <= all_threads():
            raise InputError.field("--threads", self.threads, f"a whole number from 1 to {all_threads()}")
        if self.batch is not None and self.batch < 1:
            raise InputError.field("--batch", self.batch, "a whole number above 0")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What came out. `chosen` is the timing that the entry's figures are from; all of them are in `sweep`."""

    task: str
    date: str
    seconds: float
    wish: Wish
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    cost: ModelCost
    sweep: tuple[Timing, ...]
    chosen: Timing
    clock: ClockReader
    powers: Powers | None
    switching: Switching

    @property
    def flops_per_s(self) -> float | None:
        """Sustained operations a second of the model's step, on `wish.threads` threads together."""
        flops = self.cost.flops_per_sample
        return None if flops is None else self.chosen.flops_per_s(flops)

    @property
    def flops_per_cycle(self) -> float | None:
        """Of all the threads together: sustained operations over the clock that was read meanwhile."""
        if self.flops_per_s is None or self.chosen.clock_hz is None:
            return None
        return self.flops_per_s / self.chosen.clock_hz

    @property
    def notes(self) -> tuple[str, ...]:
        """What is doubtful about the figures."""
        found = []
        share = self.chosen.processor_share
        if self.wish.device == "cpu" and share < BUSY:
            found.append(
                f"the machine was busy with something else (this process got {share:.0%} of its "
                f"{self.chosen.threads} processor{'s' * (self.chosen.threads != 1)}), so the speed is too low; "
                "measure again when it is idle"
            )
        if self.clock.note and self.chosen.clock_hz is not None:
            found.append(f"the clock is that of {self.clock.note}")
        return tuple(found)

    @property
    def unmeasured(self) -> dict[str, str]:
        """The device's keys that are not known, with the reason."""
        found = {}
        if self.switching.capacitance is None:
            found["capacitance"] = self.switching.how
        if self.flops_per_cycle is None:
            counted = self.cost.flops_per_sample is not None
            found["flops_per_cycle"] = self.clock.source if counted else "PyTorch counts no operations in this model"
        if self.chosen.clock_hz is None:
            found["max_clock_hz"] = self.clock.source
        if self.switching.static_power_w is None:
            found["static_power_w"] = self.switching.how
        return found | UNMEASURABLE


def profile(
    section: Mapping[str, Any] | None,
    *,
    wish: Wish | None = None,
    base: Path | None = None,
    task: Task | None = None,
    clock: ClockReader | None = None,
    counter: Counter | Absent | None = None,
    limits: Cpufreq | None = None,
    seen: Callable[[str], None] = lambda what: None,
) -> Profile:
    """Measure the model of a scenario's `task` section on this machine.

    Args:
        section: the scenario's `task` section; nothing else of the scenario is looked at.
        wish: what is to be measured, and for how long.
        base: what relative files in the section are relative to.
        task: what is learnt, when it is not to be read from the section.
        clock, counter, limits: where to read and set, when not this machine's own.
        seen: called with a few words before each measurement.

    Raises:
        InputError: the task or something wished for can't be used.
    """
    wish = wish or Wish()
    stepper = Stepper.of(load_task(section, base) if task is None else task, wish.seed, wish.device)
    clock = (find_clock() if wish.device == "cpu" else _gpu_clock()) if clock is None else clock
    counter = find_counter(wish.device) if counter is None else counter
    machine, began = machine_of(wish.device), time.monotonic()
    seen("operations and payload")
    cost = model_cost(stepper.task, wish.seed)
    counts = isinstance(counter, Counter)
    timings = sweep(
        stepper,
        clock,
        threads=tuple(sorted({1, wish.threads, all_threads()})) if wish.device == "cpu" else (1,),
        batches=_batches(wish, len(stepper.task.train)),
        seconds=wish.seconds * (SWEEP_SHARE if counts else 1.0),
        seen=seen,
    )
    chosen = _chosen(timings, wish)
    powers = None
    if isinstance(counter, Counter):
        powers = measure_powers(
            counter,
            clock,
            stepper,
            batch=chosen.batch,
            threads=chosen.threads,
            seconds=wish.seconds * (1.0 - SWEEP_SHARE),
            limits=Cpufreq() if limits is None else limits,
            seen=seen,
        )
        constants = switching(powers)
    else:
        constants = Switching(capacitance=None, static_power_w=None, how=counter.why)
    return Profile(
        task=stepper.task.name,
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        seconds=time.monotonic() - began,
        wish=wish,
        machine=machine,
        versions=versions_of(),
        cost=cost,
        sweep=tuple(timings),
        chosen=chosen,
        clock=clock,
        powers=powers,
        switching=constants,
    )


def _batches(wish: Wish, samples: int) -> tuple[int, ...]:
    """The usual ones, as far as there are samples, and those that are of interest."""
    most = wish.most or samples
    usual = {batch for batch in BATCHES if batch <= most} | ({most} if most < BATCHES[-1] else set())
    return tuple(sorted(usual | ({wish.batch} if wish.batch is not None else set())))


def _chosen(timings: list[Timing], wish: Wish) -> Timing:
    """At the batch that was asked for, else at that with the most samples a second."""
    threads = wish.threads if wish.device == "cpu" else 1
    own = [timing for timing in timings if timing.threads == threads]
    if wish.batch is not None:
        own = [timing for timing in own if timing.batch == wish.batch]
        if not own:
            should = "a batch that the seconds and the memory allow; give more --seconds or a smaller batch"
            raise InputError.field("--batch", wish.batch, should)
    else:
        own = [timing for timing in own if wish.most is None or timing.batch <= wish.most]
    return max(own, key=lambda timing: timing.batch / timing.step_s)


def _gpu_clock() -> ClockReader:
    """The GPU's clock by NVML, through PyTorch."""
    try:
        torch.cuda.clock_rate()
    except Exception as error:  # noqa: BLE001  no NVML library, or a driver that does not tell
        first = (str(error).splitlines() or [type(error).__name__])[0][:120]
        return ClockReader(source=f"the GPU's clock can't be read ({first})")
    return ClockReader(source="NVML (SM clock)", read=lambda: [1e6 * torch.cuda.clock_rate()])
