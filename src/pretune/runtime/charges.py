"""What a round costs: the plan's figure beside the same physics applied to what was really computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pretune.physics import cost
from pretune.physics.types import Bools, Floats, Ints
from pretune.plans import FinetuneStage, PretrainStage
from pretune.scenario import Access, Scenario


@dataclass(frozen=True, kw_only=True)
class Cause:
    """Seconds and joules of one round that one cause accounts for."""

    time_s: float
    energy_j: float


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One round of a stage.

    `causes` splits the realised figures into compute, upload and broadcast. Energy is summed over everybody; time
    is that of whoever the round waits for (FDMA: the slowest device; TDMA: the slowest to compute, then all uploads).
    """

    planned_s: float
    planned_j: float
    realised_s: float
    realised_j: float
    causes: Mapping[str, Cause]


CAUSES = ("compute", "upload", "broadcast")
_NOTHING = Cause(time_s=0.0, energy_j=0.0)


def charge_pretrain(scenario: Scenario, stage: PretrainStage, batch: int) -> Charge:
    """A round at the server that computed `batch` samples at the plan's clock."""
    planned = cost.pretrain_round(scenario, stage.batch, stage.clock_hz)
    realised = cost.pretrain_round(scenario, batch, stage.clock_hz)
    return Charge(
        planned_s=stage.round_s,
        planned_j=planned.energy_j,
        realised_s=realised.time_s,
        realised_j=realised.energy_j,
        causes={
            "compute": Cause(time_s=realised.time_s, energy_j=realised.energy_j),
            "upload": _NOTHING,
            "broadcast": _NOTHING,
        },
    )


def charge_finetune(scenario: Scenario, stage: FinetuneStage, batch: Ints, present: Bools | None = None) -> Charge:
    """A federated round in which device k computed `batch[k]` samples at the plan's clocks and powers.

    `present`, shape (K,), says who took part (at least one); what the others may have spent is not known, and left out.
    """
    scenario = scenario.settled(stage.local_steps)
    planned = cost.finetune_round(scenario, _floats(stage.batch), stage.clock_hz, stage.power_w, stage.bandwidth_hz)
    realised = cost.finetune_round(scenario, _floats(batch), stage.clock_hz, stage.power_w, stage.bandwidth_hz)
    here = slice(None) if present is None else present
    each_s, sent_s = realised.compute_s[here], realised.upload_s[here]
    compute_j, upload_j = float(realised.compute_j[here].sum()), float(realised.upload_j[here].sum())
    if scenario.radio.access is Access.FDMA:
        slowest = int((each_s + sent_s).argmax())
        compute_s, upload_s = float(each_s[slowest]), float(sent_s[slowest])
    else:
        compute_s, upload_s = float(each_s.max()), float(sent_s.sum())
    down = realised.broadcast
    return Charge(
        planned_s=stage.round_s,
        planned_j=planned.energy_j,
        realised_s=realised.time_s if present is None else down.time_s + compute_s + upload_s,
        realised_j=realised.energy_j if present is None else down.energy_j + compute_j + upload_j,
        causes={
            "compute": Cause(time_s=compute_s, energy_j=compute_j),
            "upload": Cause(time_s=upload_s, energy_j=upload_j),
            "broadcast": Cause(time_s=down.time_s, energy_j=down.energy_j),
        },
    )


def _floats(batch: Ints) -> Floats:
    return batch.astype(float)
