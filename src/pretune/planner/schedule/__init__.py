"""Plans in segments: batch, clock and power piecewise constant over the rounds of each stage (math.md section 3).

search   boxes of rounds, as for a constant plan          whole   whole batches at fixed rounds
plan     from a scenario with a `schedule` to a written plan
"""

from __future__ import annotations

import numpy as np

from pretune.errors import InputError
from pretune.scenario import Scenario

__all__ = ["refuse_batteries"]


def refuse_batteries(scenario: Scenario) -> None:
    """A battery ties the segments of its device together, a shared band those of all; the solver can do neither yet.

    Raises:
        InputError: a device has a battery, or the plan shares out a band.
    """
    if scenario.radio.shares_decided:
        raise InputError.field(
            "schedule", scenario.schedule, "1 where radio.bandwidth_shares is optimal (or equal ones)"
        )
    limited = np.flatnonzero(np.isfinite(scenario.devices.battery_j))
    if limited.size:
        should = f"1 where a device has a battery ({scenario.devices.names[int(limited[0])]} has battery_j)"
        raise InputError.field("schedule", scenario.schedule, should)
