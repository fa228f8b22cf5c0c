"""Where a plan's energy and delay go: by stage and cause, and device by device.

Recomputed from the scenario and the decisions with the one cost model (`pretune.physics.cost`), so it adds up
to the plan's own totals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pretune.physics import cost
from pretune.physics.types import Floats, Ints
from pretune.plans import FinetuneStage, Plan
from pretune.scenario import Access, Scenario
from pretune.uncertainty import counted

PRETRAIN, FINETUNE = "Pre-training", "Fine-tuning"


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one cause costs over the whole run; `colour` is the report's class for it."""

    stage: str
    cause: str
    colour: str
    energy_j: float
    delay_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceColumns:
    """What each device does in one fine-tuning round, as columns of shape (K,), in the scenario's order.

    `total_j` is over all rounds.
    """

    names: tuple[str, ...]
    batch: Ints
    clock_hz: Floats
    power_w: Floats
    bandwidth_hz: Floats | None
    """Only where the bandwidths are decisions."""
    compute_s: Floats
    upload_s: Floats
    round_j: Floats
    total_j: Floats
    asked: Floats | None = None
    """How likely each is asked in a round, where that is decided; joules are then in the mean over who is."""

    def __len__(self) -> int:
        return len(self.names)


def shares(plan: Plan, scenario: Scenario) -> tuple[Share, ...]:
    """Energy and delay by stage and cause; causes that cost nothing in a used stage are kept.

    Under FDMA the fine-tuning delay is the slowest device's: its compute and upload times stand for the round.
    Under TDMA it is the longest compute time and the sum of the uploads.
    """
    found, scenario = [], counted(scenario, plan.under)
    if plan.pretrain is not None and plan.pretrain.rounds > 0:
        once = [(part.rounds, cost.pretrain_round(scenario, part.batch, part.clock_hz)) for part in plan.pretrain.parts]
        found.append(
            Share(
                stage=PRETRAIN,
                cause="server compute",
                colour="pre",
                energy_j=sum(rounds * one.energy_j for rounds, one in once),
                delay_s=plan.pretrain.rounds * plan.pretrain.round_s,
            )
        )
    if plan.finetune is None or plan.finetune.rounds == 0:
        return tuple(found)
    pieces = [_finetune_shares(part, scenario) for part in plan.finetune.parts]
    for same in zip(*pieces, strict=True):
        energy_j, delay_s = (sum(getattr(share, key) for share in same) for key in ("energy_j", "delay_s"))
        found.append(replace(same[0], energy_j=energy_j, delay_s=delay_s))
    if found[-1].cause == "waiting" and found[-1].delay_s <= 1e-6 * plan.finetune.rounds * plan.finetune.round_s:
        found.pop()
    return tuple(found)


def _finetune_shares(stage: FinetuneStage, scenario: Scenario) -> list[Share]:
    """The causes of one segment's rounds."""
    rounds = stage.rounds
    each = _round(stage, scenario)
    if scenario.radio.access is Access.FDMA:
        slowest = int(np.argmax(each.compute_s + each.upload_s))
        compute_s, upload_s = float(each.compute_s[slowest]), float(each.upload_s[slowest])
    else:
        compute_s, upload_s = float(each.compute_s.max()), float(each.upload_s.sum())
    return [
        Share(
            stage=FINETUNE,
            cause="broadcast",
            colour="down",
            energy_j=rounds * each.broadcast.energy_j,
            delay_s=rounds * each.broadcast.time_s,
        ),
        Share(
            stage=FINETUNE,
            cause="device compute",
            colour="fine",
            energy_j=rounds * float(each.compute_j.sum()),
            delay_s=rounds * compute_s,
        ),
        Share(
            stage=FINETUNE,
            cause="upload",
            colour="up",
            energy_j=rounds * float(each.upload_j.sum()),
            delay_s=rounds * upload_s,
        ),
        Share(
            stage=FINETUNE,
            cause="waiting",
            colour="idle",
            energy_j=0.0,
            delay_s=rounds * (stage.round_s - each.time_s),
        ),
    ]


def device_columns(plan: Plan, scenario: Scenario) -> DeviceColumns | None:
    """What each device does, in the last segment where there are some; None for a plan that does not fine-tune."""
    if plan.finetune is None or plan.finetune.rounds == 0:
        return None
    scenario = counted(scenario, plan.under)
    each = _round(plan.finetune, scenario)
    return DeviceColumns(
        names=plan.finetune.names,
        batch=plan.finetune.batch,
        clock_hz=plan.finetune.clock_hz,
        power_w=plan.finetune.power_w,
        bandwidth_hz=plan.finetune.bandwidth_hz,
        compute_s=each.compute_s,
        upload_s=each.upload_s,
        round_j=each.device_j,
        total_j=np.sum([part.rounds * _round(part, scenario).device_j for part in plan.finetune.parts], axis=0),
        asked=scenario.devices.asked,
    )


def _round(stage: FinetuneStage, scenario: Scenario) -> cost.FinetuneCost:
    batch = stage.batch.astype(np.float64)
    scenario = scenario.settled(stage.local_steps)
    return cost.finetune_round(scenario, batch, stage.clock_hz, stage.power_w, stage.bandwidth_hz)
