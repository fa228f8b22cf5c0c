"""Static plans carried out to the letter: what their promise is worth.

`reality.py`'s static policies have a guard, and patience: an upload in a bad channel just takes longer, and rounds are
left out at the end where a budget would break. Here devices do what docs/uncertainty.md says of them: they stop at the
planned times, and what has not arrived by then is lost. All planned rounds are done, and none takes more than planned
(of the ergodic plan's energy, in the mean).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from reality_policies import PLANNING, Setting

from pretune.control.outlook import likely_rounds
from pretune.physics.types import Floats
from pretune.reality import Reality
from pretune.uncertainty import equivalent
from pretune.uncertainty.policy import round_under


def to_the_letter(setting: Setting, seeds: int) -> list[dict[str, Any]]:
    """A row for every plan and seed of a scene: the criterion, and the share of uploads that arrived."""
    mean, rows = setting.scenarios["mean"], []
    draws = likely_rounds(Reality.of(mean), mean.budget.delay_s)
    for kind in PLANNING:
        plan, counted = setting.plans[kind], equivalent(setting.scenarios[kind])
        before, stage = plan.pretrain, plan.finetune
        if before is None or stage is None:
            raise ValueError("a plan without decisions can't be carried out")
        arrived = np.array([round_under(mean, counted, stage, met).arrived for met in draws])
        chance: Floats = np.maximum(arrived.mean(axis=0), 1.0 / len(draws))
        for seed in range(seeds):
            truth = setting.scene.truth(seed)
            state, shares, here, energy = truth.start(), [], 0, 0.0
            for _ in range(stage.rounds):
                state, met = truth.next(state, 0.0)
                found = round_under(mean, counted, stage, met)
                shares.append(np.where(found.arrived, mean.devices.weight / chance, 0.0))
                here += int(met.available.sum())
                energy += found.energy_j
            rows.append(
                {
                    "scene": setting.scene.name,
                    "plan": kind,
                    "seed": seed,
                    "criterion": setting.measure.value(
                        [before.batch] * before.rounds, shares, [stage.batch] * stage.rounds
                    ),
                    "arrived": sum(int((one > 0.0).sum()) for one in shares) / max(here, 1),
                    "finetune_energy_j": energy,
                }
            )
    return rows
