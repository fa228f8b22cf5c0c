"""How long this machine takes for the model's training step, over batch sizes and with one thread or all.

What is timed is what a device does in a round of a run: the mean gradient of a batch (`gradient.looped_gradient`), by
PyTorch's own timer (torch.utils.benchmark), which warms up, sets the threads and waits for a GPU.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.benchmark import Timer

from pretune.errors import InputError
from pretune.profiling.clock import ClockReader, watched
from pretune.runtime.gradient import looped_gradient
from pretune.runtime.task import Samples, Task

BATCHES = (1, 4, 16, 64, 256, 1024)
LEAST = 6
"""Repetitions below which a median has no 95% interval without assumptions: 2 * 0.5^6 is below 0.05, 2 * 0.5^5 not."""
SLOWEST = 4.0
"""A batch whose step is expected to take so many times its share of the seconds is left out."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One setting: the median of the repetitions with a 95% interval that assumes no distribution, in seconds a step.

    `clock_hz` is the clock while it computed, None where the machine tells none. `processor_share` is the processor
    time that this process got, as a share of `threads` processors: well below one, others were computing as well.
    """

    threads: int
    batch: int
    step_s: float
    low_s: float
    high_s: float
    repetitions: int
    clock_hz: float | None
    processor_share: float

    def flops_per_s(self, flops_per_sample: float) -> float:
        """Sustained operations a second."""
        return flops_per_sample * self.batch / self.step_s


@dataclass(frozen=True, kw_only=True, eq=False)
class Stepper:
    """The model's step on a batch of any size, on ``cpu`` or ``cuda``."""

    task: Task
    model: torch.nn.Module
    device: str

    @staticmethod
    def of(task: Task, seed: int, device: str) -> Stepper:
        """The untrained model on a device.

        Raises:
            InputError: there is no such device here.
        """
        if device not in ("cpu", "cuda"):
            raise InputError.field("--device", device, "cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError.field("--device", device, "cpu: PyTorch finds no CUDA device here")
        return Stepper(task=task, model=task.build(seed).train().to(device), device=device)

    def samples(self, batch: int) -> Samples:
        """A batch; the samples are taken again from the first where there are fewer."""
        some = self.task.train.take(torch.arange(batch) % len(self.task.train))
        return Samples(x=some.x.to(self.device), y=some.y.to(self.device))

    def timer(self, batch: int, threads: int) -> Timer:
        """PyTorch's timer of a step."""
        known: dict[str, Any] = {
            "step": looped_gradient,
            "model": self.model,
            "loss": self.task.loss,
            "batches": [self.samples(batch)],
        }
        return Timer("step(model, loss, batches, [1.0])", globals=known, num_threads=threads)


def all_threads() -> int:
    """The processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def sweep(
    stepper: Stepper,
    clock: ClockReader,
    *,
    threads: tuple[int, ...],
    batches: tuple[int, ...],
    seconds: float,
    seen: Callable[[str], None] = lambda what: None,
) -> list[Timing]:
    """Time every batch with every number of threads, in about so many seconds.

    `seen` is called before each setting. Larger batches than the seconds or the memory allow are left out, and so are
    those that the model does not take (batch norm refuses a single sample).

    Raises:
        InputError: the model takes none of them.
    """
    share = seconds / (len(threads) * len(batches))
    found: list[Timing] = []
    before = torch.get_num_threads()
    try:
        for count in threads:
            last: Timing | None = None
            why = ""
            for batch in batches:
                if last is not None and last.step_s * batch / last.batch > SLOWEST * share:
                    break
                seen(f"batch {batch}, {count} thread{'s' * (count != 1)}")
                try:
                    last = time_step(stepper, clock, batch=batch, threads=count, seconds=share)
                except (MemoryError, torch.OutOfMemoryError):
                    why = "no room in this machine's memory"
                    break
                except (RuntimeError, ValueError) as error:
                    why = (str(error).splitlines() or [type(error).__name__])[0][:120]
                    continue
                found.append(last)
            if last is None:
                raise InputError(f"task.model: fails on a training step of every batch size ({why})")
    finally:
        torch.set_num_threads(before)
    return found


def time_step(stepper: Stepper, clock: ClockReader, *, batch: int, threads: int, seconds: float) -> Timing:
    """One setting, for about so many seconds and at least LEAST repetitions."""
    timer = stepper.timer(batch, threads)
    with watched(clock, threads) as log:
        began, used = time.monotonic(), time.process_time()
        times = list(timer.blocked_autorange(min_run_time=seconds).times)
        while len(times) < LEAST:
            times += timer.timeit(1).times
        share = (time.process_time() - used) / (threads * max(time.monotonic() - began, 1e-9))
    low, middle, high = median_interval(times)
    return Timing(
        threads=threads,
        batch=batch,
        step_s=middle,
        low_s=low,
        high_s=high,
        repetitions=len(times),
        clock_hz=log.median_hz,
        processor_share=min(1.0, share),
    )


def median_interval(values: list[float]) -> tuple[float, float, float]:
    """The median with a 95% interval from order statistics: (low, median, high).

    The number of values below the true median is binomial with probability one half, whatever their distribution; the
    interval leaves out the outermost values on both sides as long as that keeps 95%. With fewer than LEAST values it is
    all of them, and less than 95%.
    """
    ordered, n = sorted(values), len(values)
    middle = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])
    cut, beyond = 0, 0.0
    while cut < (n - 1) // 2:
        # one more value left out at either end: P(at most `cut` of n below the median) twice
        beyond += math.exp(math.lgamma(n + 1) - math.lgamma(cut + 1) - math.lgamma(n - cut + 1) - n * math.log(2.0))
        if 2.0 * beyond > 0.05:
            break
        cut += 1
    # `cut` tail probabilities fit into 5%: the interval runs from the cut-th smallest to the cut-th largest value
    edge = max(cut - 1, 0)
    return ordered[edge], middle, ordered[n - 1 - edge]
