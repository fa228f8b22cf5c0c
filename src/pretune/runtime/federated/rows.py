"""From an answer and two clocks to what is written down about a device's round."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pretune.fieldbook import DeviceRound, Standing
from pretune.physics.cost import FinetuneCost
from pretune.runtime.federated.messages import Update
from pretune.runtime.federated.meter import MODELLED
from pretune.scenario import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """An update, when it was there, how far its device's clock is ahead, and its size in bytes."""

    update: Update
    at_s: float
    ahead_s: float | None
    size: int


def device_round(
    scenario: Scenario,
    cost: FinetuneCost,
    k: int,
    name: str,
    *,
    power_w: float,
    standing: Standing,
    sent_at: float | None,
    answer: Answer | None,
    ended: float,
    bytes_down: int,
) -> DeviceRound:
    """What device `k` did in a round that ended at `ended`; the model was sent to it at `sent_at`."""
    planned = DeviceRound(
        name=name,
        standing=standing,
        planned_compute_s=float(cost.compute_s[k]),
        planned_upload_s=float(cost.upload_s[k]),
        planned_j=float(cost.device_j[k]),
    )
    if answer is None or sent_at is None:
        return planned
    effort = answer.update.effort
    upload_s = download_s = upload_j = None
    if answer.ahead_s is not None:
        # two clocks are compared to within half a round trip: a link quicker than that may come out below zero
        upload_s = max(0.0, answer.at_s - (effort.sent_at - answer.ahead_s))
        download_s = max(0.0, effort.received_at - answer.ahead_s - sent_at)
        upload_j = (power_w + float(scenario.devices.circuit_power_w[k])) * upload_s
    counted = effort.compute_j is not None
    return replace(
        planned,
        compute_s=effort.compute_s,
        upload_s=upload_s,
        download_s=download_s,
        waiting_s=max(0.0, ended - answer.at_s),
        bytes_up=answer.size,
        bytes_down=bytes_down,
        compute_j=effort.compute_j if counted else float(cost.compute_j[k]),
        compute_source=effort.source if counted else MODELLED,
        upload_j=upload_j,
        applied=dict(vars(effort.applied)),
    )
