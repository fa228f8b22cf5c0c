"""Which pilot runs are made, and what they cost.

Pilot runs come in arms. An arm is one pre-training path with its own seed and server batch; from a few models along it
fine-tuning branches off, each branch with batches of its own, and every branch is looked at after a few rounds. The
arms' stops interleave (geometrically in the rounds) and the batches form a Latin square over arms and stops, so that a
few dozen looks spread over all of (M, N, b0, b) without a full grid.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pretune.convergence.criteria import device_noise
from pretune.errors import InputError
from pretune.physics import cost
from pretune.physics.types import Ints
from pretune.scenario import Scenario

MOST_PRETRAIN, MOST_FINETUNE = 2000, 320
FEWEST_PRETRAIN, FEWEST_FINETUNE = 50, 20
"""Rounds of the longest pilot run, where nothing else is said: what the budgets can buy, but within these."""
_SERVER_BATCHES = (2, 64)
_DEVICE_BATCHES = (1, 16)
_FIRST_STOP = 1.0 / 64.0


@dataclass(frozen=True, kw_only=True)
class Branch:
    """Fine-tuning from the model after `stop` pre-training rounds: `batch` samples at each device (or all it has)."""

    stop: int
    batch: int


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One pre-training path and the branches from it, by rising stop."""

    seed: int
    server_batch: int
    branches: tuple[Branch, ...]


@dataclass(frozen=True, kw_only=True)
class Design:
    """All pilot runs: the arms, and the fine-tuning rounds after which every branch is looked at."""

    arms: tuple[Arm, ...]
    marks: tuple[int, ...]

    @property
    def rounds(self) -> int:
        """Rounds to be made, of both stages."""
        return sum(arm.branches[-1].stop + self.marks[-1] * len(arm.branches) for arm in self.arms)

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PilotCost:
    """What pilot runs cost: rounds and samples, and their time and energy by the scenario's cost model.

    Time and energy are those of the scenario's own server and devices at full clock and power, one run after the other:
    what the pilot runs would cost if they were made there. `wall_s` is what they took where they were made.
    """

    pretrain_rounds: int
    finetune_rounds: int
    server_samples: int
    device_samples: int
    time_s: float
    energy_j: float
    wall_s: float = 0.0


def design_for(
    scenario: Scenario,
    *,
    pretrain_rounds: int | None = None,
    finetune_rounds: int | None = None,
    arms: int = 4,
    stops: int = 4,
    marks: int = 7,
    seed: int = 0,
) -> Design:
    """Pilot runs of up to the given rounds (default: what the budgets can buy of either stage, within limits).

    Raises:
        InputError: fewer than 2 arms or stops or 3 marks, or too few rounds for them.
    """
    for name, number, least in (("arms", arms, 2), ("stops", stops, 2), ("marks", marks, 3)):
        if number < least:
            raise InputError.field(name, number, f"a whole number of at least {least}")
    longest, last = _affordable(scenario)
    longest, last = pretrain_rounds or longest, finetune_rounds or last
    if longest < FEWEST_PRETRAIN:
        raise InputError.field("pretrain_rounds", longest, f"a whole number of at least {FEWEST_PRETRAIN}")
    if last < FEWEST_FINETUNE:
        raise InputError.field("finetune_rounds", last, f"a whole number of at least {FEWEST_FINETUNE}")
    servers = _levels(_SERVER_BATCHES, int(scenario.server.samples), arms)
    devices = _levels(_DEVICE_BATCHES, int(scenario.devices.samples.max()), stops)
    made = []
    for j in range(arms):
        branches = [Branch(stop=0, batch=devices[(j + 1) % stops])] if j % 2 == 0 else []
        for i in range(stops):
            share = (i + (j + 1) / arms) / stops
            stop = max(1, round(longest * _FIRST_STOP ** (1.0 - share)))
            branches.append(Branch(stop=stop, batch=devices[(i + j) % stops]))
        made.append(Arm(seed=seed + j, server_batch=servers[j], branches=tuple(branches)))
    looks = np.unique(np.round(np.geomspace(2, last, marks)).astype(int))
    return Design(arms=tuple(made), marks=tuple(int(mark) for mark in looks))


def batches_of(scenario: Scenario, batch: int) -> Ints:
    """`batch` samples at every device, or all that it has; shape (K,)."""
    sizes = np.asarray(scenario.devices.samples, dtype=np.int64)
    found: Ints = np.minimum(batch, sizes)
    return found


def noise_of(scenario: Scenario, batch: int) -> float:
    """``sum_k alpha_k^2 sigma_k^2 / b_k`` of a branch."""
    return float((device_noise(scenario) / batches_of(scenario, batch)).sum())


def cost_of(scenario: Scenario, design: Design) -> PilotCost:
    """What the runs of a design cost by the scenario's cost model."""
    fleet = scenario.devices
    first = second = samples0 = samples1 = 0
    time_s = energy_j = 0.0
    for arm in design.arms:
        rounds = arm.branches[-1].stop
        first, samples0 = first + rounds, samples0 + rounds * arm.server_batch
        one = cost.pretrain_round(scenario, arm.server_batch, scenario.server.max_clock_hz)
        time_s, energy_j = time_s + rounds * one.time_s, energy_j + rounds * one.energy_j
        for branch in arm.branches:
            rounds, batch = design.marks[-1], batches_of(scenario, branch.batch)
            each = cost.finetune_round(scenario, batch.astype(float), fleet.max_clock_hz, fleet.max_power_w)
            second, samples1 = second + rounds, samples1 + rounds * int(batch.sum())
            time_s, energy_j = time_s + rounds * each.time_s, energy_j + rounds * each.energy_j
    return PilotCost(
        pretrain_rounds=first,
        finetune_rounds=second,
        server_samples=samples0,
        device_samples=samples1,
        time_s=time_s,
        energy_j=energy_j,
    )


def _levels(ends: tuple[int, int], most: int, count: int) -> list[int]:
    return [int(level) for level in np.round(np.geomspace(min(ends[0], most), min(ends[1], most), count))]


def _affordable(scenario: Scenario) -> tuple[int, int]:
    """Rounds of either stage that the whole budget buys at full clock and power with middling batches."""
    fleet, budget = scenario.devices, scenario.budget
    one = cost.pretrain_round(scenario, min(8, int(scenario.server.samples)), scenario.server.max_clock_hz)
    batch = batches_of(scenario, 4).astype(float)
    each = cost.finetune_round(scenario, batch, fleet.max_clock_hz, fleet.max_power_w)
    first = min(budget.energy_j / max(one.energy_j, 1e-300), budget.delay_s / one.time_s)
    # slower clocks and less power, as plans have them, buy several times as many
    second = 5.0 * min(budget.energy_j / max(each.energy_j, 1e-300), budget.delay_s / each.time_s)
    return (
        int(min(max(first, FEWEST_PRETRAIN), MOST_PRETRAIN)),
        int(min(max(second, FEWEST_FINETUNE), MOST_FINETUNE)),
    )
