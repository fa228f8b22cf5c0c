"""The convergence criteria, all of one shape (math.md section 2).

At `M` pre-training and `N` fine-tuning rounds with batches ``b0, b_k`` every criterion reads

    Gamma = [ phi + psi0 / b0 + psi * sum_k A_k / b_k ] / weight,      A_k = alpha_k^2 sigma_k^2

with coefficients ``weight > 0`` and ``phi, psi0, psi >= 0`` that depend on the rounds alone. That is all
the planner ever sees of a criterion.

Assumptions: the task objective ``F`` is ``L``-smooth and bounded below, stochastic gradients are unbiased and
independent with variance ``sigma0^2 / b0`` at the server and ``sigma_k^2 / b_k`` at device ``k``, the gradients of
the general and the task objective differ by at most ``zeta`` along the path, and both steps are at most ``1 / L``.

With E local steps in a fine-tuning round the constants of a round are those of `pretune.convergence.drift`, and a
device's ``A_k`` holds what its noise adds to the drift as well.

Where fine-tuning is private (`pretune.privacy`) every round's gradient has noise of variance ``N v`` beside ``S``: it
adds ``psi N v`` to ``phi``, quadratic in N for trajectory.

The system is that of Lyu et al. (arXiv:2404.00836); the bounds are pretune's own derivations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from pretune.convergence import drift
from pretune.convergence.criteria_types import Coefficients, ConvergenceCriterion, Rounds
from pretune.convergence.laws import Calibrated
from pretune.physics.types import Floats
from pretune.scenario import Convergence, Criterion, Scenario

__all__ = [
    "Calibrated",
    "Coefficients",
    "ConvergenceCriterion",
    "Final",
    "Rounds",
    "Trajectory",
    "calibrated",
    "criterion_of",
    "device_noise",
    "drift_share",
    "final",
    "objective",
    "trajectory",
]

LOG_ZERO = -1e300
"""Stands for log 0 where it is multiplied by rounds that may be zero."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """The average squared gradient norm over both stages, a round weighted by ``w0 = eta0``, ``w1 = eta(2 - L eta)``.

    ``Gamma_a = [2 Delta + M (eta0 zeta^2 + L eta0^2 sigma0^2/b0) + N L eta^2 S(b)] / (M w0 + N w1)``,
    from summing one descent step of each round. Tight for an isotropic Hessian, ``eta0 = 1/L`` and no final gap.
    With E > 1 local steps ``w1`` and the noise are those of a whole round, and ``N drift_cost`` is added above.
    """

    gap: float
    shift_cost: float
    server_noise: float
    device_noise: float
    pretrain_weight: float
    finetune_weight: float
    drift_cost: float = 0.0
    private_noise: float = 0.0
    name: str = "trajectory"

    def at(self, pretrain_rounds: Rounds, finetune_rounds: Rounds) -> Coefficients:
        """See `ConvergenceCriterion.at`."""
        return Coefficients(
            weight=pretrain_rounds * self.pretrain_weight + finetune_rounds * self.finetune_weight,
            phi=2.0 * self.gap
            + pretrain_rounds * self.shift_cost
            + finetune_rounds * self.drift_cost
            + self.private_noise * finetune_rounds**2,
            psi0=pretrain_rounds * self.server_noise,
            psi=finetune_rounds * self.device_noise,
        )

    def numbers(self) -> tuple[float, ...]:
        """See `ConvergenceCriterion.numbers`."""
        return (
            0.0,
            self.gap,
            self.shift_cost,
            self.server_noise,
            self.device_noise,
            self.pretrain_weight,
            self.finetune_weight,
            self.drift_cost,
            self.private_noise,
        )


@dataclass(frozen=True, kw_only=True)
class Final:
    """The optimality gap of the delivered model under the Polyak-Lojasiewicz inequality with constant ``mu``.

    ``D_M = r^M Delta + (1 - r^M)(zeta^2 + L eta0 sigma0^2/b0) / (2 mu)``, ``r = 1 - eta0 mu``;
    ``Gamma_b = q^N D_M + (1 - q^N) L eta S(b) / (2 mu (2 - L eta))``, ``q = 1 - mu eta (2 - L eta)``.
    With E > 1 local steps ``q`` and the noise are those of a whole round, and ``(1 - q^N) drift_floor`` is added.
    """

    gap: float
    shift_floor: float
    server_noise: float
    device_noise: float
    log_r: float
    log_q: float
    drift_floor: float = 0.0
    private_noise: float = 0.0
    name: str = "final"

    def at(self, pretrain_rounds: Rounds, finetune_rounds: Rounds) -> Coefficients:
        """See `ConvergenceCriterion.at`."""
        exponent0, exponent1 = self.log_r * pretrain_rounds, self.log_q * finetune_rounds
        keep0, keep1 = np.exp(exponent0), np.exp(exponent1)
        gone0, gone1 = -np.expm1(exponent0), -np.expm1(exponent1)
        return Coefficients(
            weight=1.0,
            phi=keep1 * (keep0 * self.gap + gone0 * self.shift_floor)
            + gone1 * self.drift_floor
            + self.private_noise * finetune_rounds * gone1,
            psi0=keep1 * gone0 * self.server_noise,
            psi=gone1 * self.device_noise,
        )

    def numbers(self) -> tuple[float, ...]:
        """See `ConvergenceCriterion.numbers`."""
        return (
            1.0,
            self.gap,
            self.shift_floor,
            self.server_noise,
            self.device_noise,
            self.log_r,
            self.log_q,
            self.drift_floor,
            self.private_noise,
        )


Bound = TypeVar("Bound", Trajectory, Final)


def criterion_of(scenario: Scenario) -> ConvergenceCriterion:
    """The criterion a scenario asks for, with its constants worked out."""
    constants = scenario.assumed
    if constants.criterion is Criterion.TRAJECTORY:
        return _answering(_private(trajectory(constants), scenario), scenario)
    if constants.criterion is Criterion.CALIBRATED:
        return calibrated(constants)
    return _answering(_private(final(constants), scenario), scenario)


def _answering(criterion: Trajectory | Final, scenario: Scenario) -> ConvergenceCriterion:
    """The criterion of a fleet whose devices are asked with probabilities, if they are."""
    asked = scenario.devices.asked
    if asked is None:
        return criterion
    from pretune.convergence.participation import spread_of, with_spread

    constants, weight = scenario.assumed, scenario.devices.weight
    h, mu = constants.heterogeneity or 0.0, constants.pl_constant
    found = with_spread(criterion, spread_of(weight, asked), heterogeneity=h, pl_constant=mu)
    # so few that a step need not improve the model: no bound at all
    return replace(criterion, gap=math.inf) if found is None else found


def _private(criterion: Bound, scenario: Scenario) -> Bound:
    """The criterion with the noise that the scenario's privacy takes, if it asks for any."""
    if scenario.privacy is None:
        return criterion
    noise = criterion.device_noise * scenario.privacy.variance_per_round(float(scenario.devices.weight.max()))
    return replace(criterion, private_noise=noise)


def calibrated(c: Convergence) -> Calibrated:
    """Criterion (c) of math.md section 2: the scenario's law."""
    if c.law is None:
        raise ValueError("criterion calibrated needs a law; the scenario's validation ensures it")
    return Calibrated(law=c.law)


def trajectory(c: Convergence) -> Trajectory:
    """Criterion (a) of math.md section 2 from the scenario's constants; with local steps see `drift`."""
    smooth, step0 = c.smoothness, c.pretrain_step
    one = drift.in_a_round(c, c.steps_decided)
    return Trajectory(
        gap=c.initial_gap,
        shift_cost=step0 * c.shift**2,
        server_noise=smooth * step0**2 * c.pretrain_variance,
        device_noise=one.noise,
        pretrain_weight=step0,
        finetune_weight=one.weight,
        drift_cost=one.drift * (c.heterogeneity or 0.0) ** 2,
    )


def final(c: Convergence) -> Final:
    """Criterion (b) of math.md section 2 from the scenario's constants; needs `pl_constant`. Local steps: `drift`."""
    if c.pl_constant is None:
        raise ValueError("criterion final needs pl_constant; the scenario's validation ensures it")
    mu, smooth, step0, step = c.pl_constant, c.smoothness, c.pretrain_step, c.finetune_step
    fast, count = mu * step * (2.0 - smooth * step), c.steps_decided
    noise, floor = smooth * step / (2.0 * mu * (2.0 - smooth * step)), 0.0
    if count > 1:
        whole = drift.at_its_end(c, mu, count)
        fast, noise = whole.weight, whole.noise / whole.weight
        floor = whole.drift * (c.heterogeneity or 0.0) ** 2 / whole.weight
    return Final(
        gap=c.initial_gap,
        shift_floor=c.shift**2 / (2.0 * mu),
        server_noise=smooth * step0 * c.pretrain_variance / (2.0 * mu),
        device_noise=noise,
        log_r=_log1m(step0 * mu),
        log_q=_log1m(fast),
        drift_floor=floor,
    )


def _log1m(x: float) -> float:
    """``log(1 - x)``; at (or, by rounding, above) one a number that stands for minus infinity."""
    return math.log1p(-x) if x < 1.0 else LOG_ZERO


def drift_share(c: Convergence) -> float:
    """What ``alpha_k (1 - alpha_k) sigma_k^2 / b_k`` weighs beside ``alpha_k^2 sigma_k^2 / b_k`` in the criterion."""
    count = c.steps_decided
    if count == 1:
        return 0.0
    if c.criterion is Criterion.FINAL and c.pl_constant is not None:
        whole = drift.at_its_end(c, c.pl_constant, count)
    else:
        whole = drift.in_a_round(c, count)
    return whole.spread / whole.noise


def device_noise(scenario: Scenario) -> Floats:
    """``A_k``, shape (K,): ``alpha_k^2 sigma_k^2``, and with local steps what the noise adds to the drift.

    Of devices that are asked with probabilities ``p_k`` it is ``A_k / p_k``.
    """
    weight = scenario.devices.weight
    noise: Floats = weight**2 * scenario.finetune_variances
    share = drift_share(scenario.assumed)
    if share > 0.0:
        noise = noise + share * weight * (1.0 - weight) * scenario.finetune_variances
    asked = scenario.devices.asked
    return noise if asked is None else noise / asked


def objective(
    criterion: ConvergenceCriterion,
    noise: Floats,
    pretrain_rounds: float,
    finetune_rounds: float,
    server_batch: float,
    batches: Floats,
) -> float:
    """The criterion's value for a decision; `batches` of shape (K,) is ignored when there is no fine-tuning.

    An unused stage contributes nothing, whatever batch it is given.
    """
    c = criterion.at(pretrain_rounds, finetune_rounds)
    value = float(c.phi)
    if pretrain_rounds > 0:
        value += float(c.psi0) / server_batch
    if finetune_rounds > 0:
        value += float(c.psi) * float((noise / batches).sum())
    return value / float(c.weight)
