"""The random baseline: batches, clocks and powers by chance, and as many rounds of them as the budgets hold."""

from __future__ import annotations

import math
import time

import numpy as np

from pretune.physics import cost
from pretune.physics.types import Floats
from pretune.planner.baselines.outcome import UNUSED, Outcome, Task, fits, written
from pretune.plans import FinetuneStage, PretrainStage
from pretune.scenario import Scenario

TRIES = 1000
_LEAST = 0.1
"""Share of the highest clock or power that is drawn at the least."""


def random_feasible(task: Task, name: str, seed: int = 0) -> Outcome:
    """The first drawn decision that fits, of at most `TRIES`.

    Batches are log-uniform over the data sets, clocks and powers uniform between a tenth of their limit and all of
    it, and a uniform share of both budgets goes to pre-training; each stage runs as many rounds as its share holds.
    """
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    for _ in range(TRIES):
        pretrain, finetune = _draw(task.scenario, rng)
        if pretrain.rounds + finetune.rounds > 0 and fits(task.scenario, pretrain, finetune):
            spent = time.perf_counter() - began
            return Outcome(name=name, plan=written(task, pretrain, finetune), planning_s=spent)
    spent = time.perf_counter() - began
    return Outcome(name=name, plan=None, planning_s=spent, note=f"none found: none of {TRIES} draws fits")


def _draw(scenario: Scenario, rng: np.random.Generator) -> tuple[PretrainStage, FinetuneStage]:
    fleet, server, budget = scenario.devices, scenario.server, scenario.budget
    share = float(rng.uniform())
    server_batch = int(_log_uniform(rng, np.array([server.samples]))[0])
    server_clock = float(rng.uniform(_LEAST, 1.0)) * server.max_clock_hz
    batch = _log_uniform(rng, fleet.samples)
    clock_hz = rng.uniform(_LEAST, 1.0, len(fleet)) * fleet.max_clock_hz
    power_w = rng.uniform(_LEAST, 1.0, len(fleet)) * fleet.max_power_w
    one = cost.pretrain_round(scenario, server_batch, server_clock)
    m = math.floor(share * min(budget.delay_s / one.time_s, budget.energy_j / one.energy_j) * (1.0 - 1e-12))
    bandwidth_hz = _band_shares(scenario, rng)
    each = cost.finetune_round(scenario, batch, clock_hz, power_w, bandwidth_hz)
    n = math.floor((1.0 - share) * min(budget.delay_s / each.time_s, budget.energy_j / each.energy_j) * (1.0 - 1e-12))
    n = min(n, math.floor(min(float((fleet.battery_j / each.device_j).min()), 2.0**62)))
    pretrain = UNUSED
    if m > 0:
        pretrain = PretrainStage(rounds=m, batch=server_batch, clock_hz=server_clock, round_s=one.time_s)
    finetune = FinetuneStage.unused()
    if n > 0:
        finetune = stage_of(scenario, n, batch, clock_hz, power_w, bandwidth_hz)
    return pretrain, finetune


def _band_shares(scenario: Scenario, rng: np.random.Generator) -> Floats | None:
    """Bandwidths in proportion to numbers drawn like clocks and powers, where the plan shares out a band."""
    band_hz = scenario.radio.uplink_bandwidth_hz
    if band_hz is None or not scenario.radio.shares_decided:
        return None
    parts = rng.uniform(_LEAST, 1.0, len(scenario.devices))
    shares: Floats = parts / parts.sum() * band_hz * (1.0 - 1e-12)
    return shares


def _log_uniform(rng: np.random.Generator, most: object) -> Floats:
    """Whole numbers from 1 to `most`, their logarithms uniform."""
    top = np.asarray(most, dtype=np.float64)
    drawn: Floats = np.clip(np.floor(np.exp(rng.uniform(0.0, np.log(top + 1.0)))), 1.0, top)
    return drawn


def stage_of(
    scenario: Scenario,
    rounds: int,
    batch: Floats,
    clock_hz: Floats,
    power_w: Floats,
    bandwidth_hz: Floats | None = None,
) -> FinetuneStage:
    """A fine-tuning stage from its decisions, the bandwidths among them where the plan shares out a band."""
    each = cost.finetune_round(scenario, batch, clock_hz, power_w, bandwidth_hz)
    return FinetuneStage(
        rounds=rounds,
        round_s=each.time_s,
        names=tuple(scenario.devices.names),
        batch=batch.astype(np.int64),
        clock_hz=clock_hz,
        power_w=power_w,
        upload_s=each.upload_s,
        bandwidth_hz=bandwidth_hz,
    )
