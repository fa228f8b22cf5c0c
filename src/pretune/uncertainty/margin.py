"""What a run may take beyond its mean energy: Bernstein's inequality over devices and rounds.

Under `ergodic` a round costs device k ``A_k y + B_k c`` joules and constants: A the upload's energy at its mean gain,
``y = 1/x`` (0 below the floor), B the computing energy, c its factor, cut at the slowest. Devices are independent.
Where a device's rounds are too, its sum has the variance ``N (A^2 var y + B^2 var c)`` and terms of at most
``A/q + B c_q``; where they are not, convexity bounds the moment generating function of the sum by that of N times one
term (Jensen), of variance ``N^2 (...)`` and at most ``N (A/q + B c_q)``; of segments the largest term counts. With V
and G the sum and the largest of these,

    P(energy > mean + h) <= exp(-h^2 / (2 (V + G h / 3)))

(Boucheron, Lugosi and Massart, "Concentration inequalities", corollary 2.11): with a probability of at most ``e^-l``
it takes more than ``h = l G/3 + sqrt((l G/3)^2 + 2 l V)`` joules beyond the mean.

Under `participation` device k costs its ``e_k`` joules in a round with the probability ``p_k`` and nothing otherwise,
independently of all else: ``V = N sum_k e_k^2 p_k (1 - p_k)``, ``G = max_k e_k (1 - p_k)``.
"""

from __future__ import annotations

import math

import numpy as np

from pretune.physics import compute, cost
from pretune.planning import Under
from pretune.scenario import Scenario
from pretune.stages import FinetuneStage
from pretune.uncertainty.equivalent import Equivalent


def margin_j(counted: Equivalent, finetune: FinetuneStage, confidence: float) -> float:
    """Joules beyond the plan's energy that its run exceeds with a probability of at most ``1 - confidence``."""
    if counted.under is Under.PARTICIPATION:
        return _asked_margin_j(counted.scenario, finetune, confidence)
    odds = counted.odds
    if odds is None or finetune.rounds == 0:
        return 0.0
    scenario = counted.scenario.settled(finetune.local_steps)
    fleet = scenario.devices
    jitters = odds.compute_chance > 0.0
    variance, largest, most = np.zeros(len(fleet)), np.zeros(len(fleet)), np.zeros(len(fleet))
    for part in finetune.parts:
        upload_j = part.power_w * part.upload_s / odds.inverse_mean
        mean_j = compute.compute_energy(
            part.batch.astype(np.float64),
            part.clock_hz,
            scenario.finetune_flops,
            fleet.flops_per_cycle,
            fleet.capacitance,
            fleet.static_power_w,
        )
        compute_j = np.where(jitters, mean_j / odds.compute_mean, 0.0)
        round_variance = upload_j**2 * odds.inverse_variance + compute_j**2 * odds.compute_variance
        round_most = np.where(odds.inverse_variance > 0.0, upload_j / odds.floor, 0.0) + compute_j * odds.slowest
        variance += part.rounds * round_variance
        largest, most = np.maximum(largest, round_variance), np.maximum(most, round_most)
    rounds = float(finetune.rounds)
    total = float(np.where(odds.lasting, rounds**2 * largest, variance).sum())
    most = np.where(odds.lasting, rounds * most, most)
    return _bernstein(total, float(most.max()), confidence)


def _asked_margin_j(scenario: Scenario, finetune: FinetuneStage, confidence: float) -> float:
    """The same where it is random who is asked; `scenario` knows the probabilities."""
    asked = scenario.devices.asked
    if asked is None or finetune.rounds == 0:
        return 0.0
    batch = finetune.batch.astype(np.float64)
    joules = cost.finetune_round(scenario, batch, finetune.clock_hz, finetune.power_w).device_j / asked
    variance = finetune.rounds * float((joules**2 * asked * (1.0 - asked)).sum())
    return _bernstein(variance, float((joules * (1.0 - asked)).max()), confidence)


def _bernstein(variance: float, most: float, confidence: float) -> float:
    """What a sum of this variance, of terms that exceed their means by `most`, takes beyond its mean."""
    level = -math.log1p(-confidence)
    third = level * most / 3.0
    return third + math.sqrt(third**2 + 2.0 * level * variance)
