"""What a device does in a round so that the promise holds, and what the round then costs.

Under `outage` (and the others that fix powers): it computes at the planned clock and uploads at the planned power, and
stops at the planned times; what has not arrived by then is lost. Under `ergodic`: below its floor it says nothing;
above, it takes the planned time to upload and just the power that the round's channel asks for. A device that is away
does nothing. Nothing ever costs more than planned, but the upload's energy under `ergodic`, which does in the mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pretune.physics import cost, link
from pretune.physics.types import Bools, Floats
from pretune.planning import Under
from pretune.reality import Conditions
from pretune.scenario import Access, Scenario
from pretune.stages import FinetuneStage
from pretune.uncertainty.equivalent import Equivalent

_ROUNDING = 1e-9
"""Relative slack within which a time counts as kept: the same seconds, worked out in another order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A round as it went: whose upload arrived (K,), the power each sent with (0 for none), joules and seconds.

    `compute_s`, `upload_s` and `device_j` (K,) are what each device spent; `energy_j` adds the broadcast.
    """

    arrived: Bools
    power_w: Floats
    compute_s: Floats
    upload_s: Floats
    device_j: Floats
    energy_j: float
    time_s: float


def round_under(scenario: Scenario, counted: Equivalent, stage: FinetuneStage, met: Conditions) -> Outcome:
    """One fine-tuning round of a plan in the conditions that it meets; `stage` is the plan's (one segment of it).

    The round takes its planned time if anything is lost in it, and no more than that otherwise.
    """
    settled = scenario.settled(stage.local_steps)
    model = counted.scenario.settled(stage.local_steps)
    fleet, radio, bits = settled.devices, settled.radio, settled.workload.upload_bits
    batch = stage.batch.astype(np.float64)
    planned = cost.finetune_round(model, batch, stage.clock_hz, stage.power_w, stage.bandwidth_hz)
    clock_hz = np.minimum(stage.clock_hz, met.clock_limit_hz)
    cycles = settled.finetune_flops * batch / fleet.flops_per_cycle
    needed_s = met.compute_factor * cycles / clock_hz
    compute_s = np.minimum(needed_s, planned.compute_s)
    draw_w = fleet.capacitance * clock_hz**3 + fleet.static_power_w
    here = met.available & (met.gain > 0.0)
    computed = here & (needed_s <= planned.compute_s * (1.0 + _ROUNDING))
    band_hz = fleet.bandwidth_hz if stage.bandwidth_hz is None else stage.bandwidth_hz
    gain = np.where(here, met.gain, 1.0)
    if counted.under is Under.ERGODIC:
        sends = computed & (met.gain >= counted.floor_gain)
        power_w = np.asarray(
            link.power_for_airtime(bits, stage.upload_s, gain, band_hz, radio.noise_psd_w_per_hz), dtype=np.float64
        )
        upload_s, arrived = stage.upload_s, sends
    else:
        sends, power_w = computed, stage.power_w
        upload_s = link.airtime(bits, power_w, gain, band_hz, radio.noise_psd_w_per_hz)
        arrived = sends & (upload_s <= stage.upload_s * (1.0 + _ROUNDING))
        upload_s = np.minimum(upload_s, stage.upload_s)
    power_w = np.where(sends, power_w, 0.0)
    device_j = np.where(met.available, draw_w * compute_s, 0.0)
    device_j += np.where(sends, (power_w + fleet.circuit_power_w) * upload_s, 0.0)
    time_s = planned.time_s
    if arrived.all():
        fdma = radio.access is Access.FDMA
        spans = (compute_s + upload_s).max() if fdma else compute_s.max() + upload_s.sum()
        time_s = min(time_s, planned.broadcast.time_s + float(spans))
    return Outcome(
        arrived=arrived,
        power_w=power_w,
        compute_s=np.where(met.available, compute_s, 0.0),
        upload_s=np.where(sends, upload_s, 0.0),
        device_j=device_j,
        energy_j=planned.broadcast.energy_j + float(device_j.sum()),
        time_s=time_s,
    )
