"""A fleet to choose from: the planning problem of any of its subsets, and the scenario of the one chosen."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pretune.admitting.roster import subscenario
from pretune.errors import InputError
from pretune.physics.cost import broadcast_to_each
from pretune.physics.types import Floats
from pretune.planner.problem import Devices, Limits, Problem, build
from pretune.scenario import Scenario

Mask = NDArray[np.bool_]
"""Which devices take part, shape (K,)."""
_CLOSE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The devices to choose from; arrays have shape (K,)."""

    scenario: Scenario
    problem: Problem
    """The whole fleet's."""
    alpha: Floats
    """Original weights."""
    down_s: Floats
    """Seconds of a broadcast that has to reach this device."""
    min_weight: float
    """Least share of the original weight that must remain."""

    @staticmethod
    def of(scenario: Scenario, min_weight: float = 0.0) -> Choice:
        """The choice that a scenario's fleet offers.

        Raises:
            InputError: `min_weight` is no share.
        """
        if not (math.isfinite(min_weight) and 0.0 <= min_weight <= 1.0):
            raise InputError.field("min_weight", min_weight, "a share from 0 to 1")
        problem, _ = build(scenario)
        fleet = scenario.devices
        down_s = broadcast_to_each(scenario)
        alpha = np.array(fleet.weight) / fleet.weight.sum()
        return Choice(scenario=scenario, problem=problem, alpha=alpha, down_s=down_s, min_weight=min_weight)

    def __len__(self) -> int:
        return len(self.alpha)

    @cached_property
    def least_weight(self) -> float:
        """The least weight that a subset may have."""
        return max(self.min_weight, float(self.alpha.min())) * (1.0 - _CLOSE)

    def allows(self, mask: Mask) -> bool:
        """Whether enough of the weight remains."""
        return bool(mask.any()) and float(self.alpha[mask].sum()) >= self.least_weight

    @cached_property
    def uploads(self) -> Floats:
        """Seconds of the fastest upload of each device where uploads take turns (TDMA); else zeros."""
        d = self.problem.devices
        return d.span / d.exponent_max if self.problem.limits.tdma else np.zeros(len(self))

    def limits(self, down_s: float) -> Limits:
        """The budgets with a broadcast of so many seconds."""
        power = float(self.scenario.server.transmit_power_w)
        return self.problem.limits._replace(down_s=float(down_s), down_j=power * float(down_s))

    def subset(self, mask: Mask) -> Problem:
        """The planning problem of the devices in `mask`, their weights grown in proportion."""
        share = float(self.alpha[mask].sum())
        devices = Devices(*(column[mask] for column in self.problem.devices))
        batches = self.problem.batches
        return self.problem._replace(
            devices=devices._replace(variance=devices.variance / share**2),
            limits=self.limits(float(self.down_s[mask].max())),
            batches=batches._replace(low=batches.low[mask], high=batches.high[mask]),
        )

    def subscenario(self, mask: Mask) -> Scenario:
        """The scenario of the devices in `mask` alone; the scenario itself where that is all of them."""
        return subscenario(self.scenario, mask)
