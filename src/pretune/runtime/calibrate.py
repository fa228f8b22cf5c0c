"""`pretune calibrate`: the constants of a scenario on its own task, in repetitions, within a budget of time.

Repetition r begins at the model that a run with seed + r begins with, walks the scenario's two stages with its steps
and looks at sub-samples of its own. What has been seen is written down after every look, so an interrupted
calibration goes on where it was: the path is walked again (its batches follow from the seed), the looks are not.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pretune.convergence.constants import EstimateSettings
from pretune.convergence.estimate.distance import sides_apart, transport_library
from pretune.convergence.estimate.path import Look, looks_on_path, path_rng, walk
from pretune.convergence.estimate.repeat import LEAST, Figures, Repetition, conclude
from pretune.convergence.estimate.subject import Data, subject_of, takes_all
from pretune.convergence.estimate.workload import flops_per_sample, payload_bits
from pretune.errors import InputError
from pretune.runtime.calibrate_state import State
from pretune.runtime.gradient import probe
from pretune.runtime.load import load_task
from pretune.runtime.partition import hold
from pretune.runtime.task import Samples, Task, cross_entropy
from pretune.scenario import Scenario

_HOPELESS = 3.0
"""If the first look says that an interval takes so many times the seconds there are, it is told at once."""

Seen = Callable[[Look, int, int], None]
"""Called with a new look (also each one read back), how many there are and how many there may be."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a calibration may use: `samples` of either side for a look, `seconds` of wall clock, `repetitions`."""

    samples: int = 2000
    seconds: float = 300.0
    repetitions: int = 5

    @property
    def settings(self) -> EstimateSettings:
        """What a path measures with so many samples."""
        single, curved = min(1000, self.samples), min(500, self.samples)
        return EstimateSettings(samples=self.samples, single_samples=single, curvature_samples=curved)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What came out, after how many repetitions and seconds."""

    figures: Figures
    repetitions: int
    seconds: float


def calibrate(
    scenario: Scenario,
    *,
    state: Path,
    base: Path | None = None,
    budget: Budget | None = None,
    seed: int = 0,
    resume: bool = False,
    seen: Seen = lambda look, count, most: None,
    task: Task | None = None,
) -> Calibration:
    """Measure the constants; of `convergence` only the two steps are read.

    Args:
        scenario: its task, fleet and steps are used.
        state: the file that what has been seen is written to; it is left there, for the caller to remove.
        base: what relative files in the task section are relative to.
        budget: what may be used. At least two repetitions are needed; no look begins after the time is up.
        seed: of the first repetition; the next one has the next.
        resume: whether `state` may be that of an earlier start.
        seen: called after every look.
        task: what is learnt, when it is not to be read from the scenario.

    Raises:
        InputError: the task can't be used or measured, the budget is too small, or `state` is of something else.
    """
    budget = budget or Budget()
    transport_library()  # known to be there before any work
    if task is None:
        task = load_task(scenario.task, base)
    held = hold(task, scenario)
    general = (held.general.x, held.general.y)
    devices: list[Data] = [(part.x, part.y) for part in map(held.of, range(len(held.sizes)))]
    weights = scenario.devices.weight
    _check(task, held.general, held.task, seed)
    _check_budget(budget, len(general[0]), len(devices), takes_all(general, devices, weights, budget.samples))
    steps = (scenario.convergence.pretrain_step, scenario.convergence.finetune_step)
    settings = budget.settings
    kept = State.open(
        state,
        {
            "seed": seed,
            "settings": dataclasses.asdict(settings),
            "steps": list(steps),
            "weights": weights.tolist(),
            "sizes": held.sizes.tolist(),
            "server_samples": len(general[0]),
            "partition": (scenario.task or {}).get("partition"),
            "model": (scenario.task or {}).get("model"),
            "task_sha256": task.fingerprint(),
        },
        resume=resume,
    )
    each = looks_on_path((settings.pretrain_rounds, settings.finetune_rounds), settings.points)
    clock = _Clock(kept.seconds, budget.seconds)

    def told(look: Look) -> None:
        seen(look, min(len(kept.done), budget.repetitions) * each + len(kept.looks), budget.repetitions * each)

    def looked(look: Look) -> None:
        kept.looks.append(look)
        kept.seconds = clock.spent
        kept.save()
        told(look)
        alone = not kept.done and len(kept.looks) == 1
        if clock.spent > budget.seconds or (alone and clock.spent * LEAST * each > _HOPELESS * budget.seconds):
            raise _Late

    for look in [*(look for one in kept.done for look in one.looks), *kept.looks][-1:]:
        told(look)
    while len(kept.done) < budget.repetitions and not _enough(kept, clock, budget):
        try:
            kept.done.append(
                _repetition(task, general, devices, weights, steps, settings, seed + len(kept.done), kept.looks, looked)
            )
        except _Late:
            break
        kept.looks = []
        kept.seconds = clock.spent
        kept.save()
    done = kept.done[: budget.repetitions]
    if len(done) < LEAST:
        looks, spent = len(done) * each + len(kept.looks), clock.spent
        raise InputError(
            f"seconds: {budget.seconds:g} were enough for {looks} of the {LEAST * each} looks that an interval needs; "
            f"give about {1.2 * spent / max(1, looks) * LEAST * each:.0f} (with --resume it goes on), or fewer samples"
        )
    data = (
        "all samples"
        if takes_all(general, devices, weights, budget.samples)
        else f"up to {budget.samples} samples a side, corrected for the noise of choosing them"
    )
    figures = conclude(done, weights, settings, data)
    return Calibration(figures=figures, repetitions=len(done), seconds=clock.spent)


class _Late(Exception):
    """The time is up in the middle of a repetition."""


class _Clock:
    """Seconds spent, those of earlier starts among them."""

    def __init__(self, before: float, most: float) -> None:
        self.begun = time.monotonic() - before

    @property
    def spent(self) -> float:
        return time.monotonic() - self.begun


def _enough(kept: State, clock: _Clock, budget: Budget) -> bool:
    """Whether one more repetition would not fit, judging by those that are done, and can be spared."""
    count = len(kept.done)
    return count >= LEAST and not kept.looks and clock.spent * (count + 1) / count > budget.seconds


def _repetition(
    task: Task,
    general: Data,
    devices: Sequence[Data],
    weights: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    steps: tuple[float, float],
    settings: EstimateSettings,
    seed: int,
    known: Sequence[Look],
    looked: Callable[[Look], None],
) -> Repetition:
    rng = path_rng(seed)
    subject = subject_of(task.build(seed), task.loss, general, devices, weights, settings, seed, rng)
    flops = flops_per_sample(subject)
    looks = walk(subject, general, devices, steps, rng, known=list(known), seen=looked)
    theirs = torch.cat([x for x, _ in devices]), torch.cat([y for _, y in devices])
    return Repetition(
        looks=tuple(looks),
        distances=sides_apart(general, theirs, settings.curvature_samples, np.random.default_rng([seed, 3])),
        flops=flops,
        upload_bits=payload_bits(subject, trainable_only=True),
        download_bits=payload_bits(subject, trainable_only=False),
    )


def _check(task: Task, general: Samples, theirs: Samples, seed: int) -> None:
    """Refuse a model that can't be measured and data that it does not expect, before any work."""
    model = task.build(seed)
    for whose, samples in (("general", general), ("task", theirs)):
        if samples.x.shape[1:] != general.x.shape[1:]:
            raise InputError(
                f"task: general samples have the shape {tuple(general.x.shape[1:])} and task samples "
                f"{tuple(samples.x.shape[1:])}, should have the same"
            )
        if task.loss is cross_entropy:
            _check_classes(model, samples, whose)
        if probe(model, task.loss, samples):
            raise InputError(
                "task.model: samples of a batch influence each other (batch norm?), so single samples have no "
                "gradient; use group or layer norm"
            )
        if samples.x.dtype.is_floating_point and not bool(torch.isfinite(samples.x).all()):
            raise InputError(f"task: the {whose} samples' inputs hold numbers that are not finite")


def _check_classes(model: nn.Module, samples: Samples, whose: str) -> None:
    """Cross-entropy would take a label of -100 for one to be left out, and fails late on one that is too large."""
    labels, classes = samples.y, 0
    with contextlib.suppress(Exception), torch.no_grad():  # a model that fails is told by `probe`
        output = copy.deepcopy(model)(samples.x[:2])
        classes = int(output.shape[1]) if output.ndim == 2 else 0
    if classes and labels.ndim == 1 and not labels.dtype.is_floating_point:
        low, high = int(labels.min()), int(labels.max())
        if low < 0 or high >= classes:
            raise InputError(
                f"task: the {whose} labels run from {low} to {high}, should run from 0 to {classes - 1}, "
                "the model's outputs"
            )


def _check_budget(budget: Budget, general: int, devices: int, everything: bool) -> None:
    if not everything and budget.samples < 2 * devices:
        raise InputError.field(
            "samples", budget.samples, f"at least two for each of the {devices} devices, {2 * devices}"
        )
    if min(general, budget.samples) < 2:
        raise InputError(
            f"samples: {min(general, budget.samples)} at the server is too few for a variance, should be 2 or more"
        )
    if budget.repetitions < LEAST:
        raise InputError.field("repetitions", budget.repetitions, f"at least {LEAST}: one alone gives no interval")
