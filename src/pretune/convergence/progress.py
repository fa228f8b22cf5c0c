"""A criterion from the middle of a run: what the rounds done have settled, and the shape of what is left.

At any moment the criterion, as a function of the rounds and batches still to come, has the shape of `criteria` again:

    trajectory   the terms of the rounds done are added above, their weights below (it is a mean over all rounds)
    final        the gap that the rounds done leave takes the place of the initial gap (the bound is a recursion)
    calibrated   the law at all rounds together, its noise the mean over all rounds (a law knows constant batches only)
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from pretune.convergence.criteria import Final, Trajectory
from pretune.convergence.participation import Known


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What has been done: rounds, and three sums whose meaning depends on the criterion.

    trajectory: `upper` and `lower` are the numerator and the weight so far. final: `upper` is the bound of the gap.
    calibrated: `upper` and `lower` are the sums of ``1/b0`` and of ``sum_k A_k/b_k`` over the rounds done.
    `server_part` and `devices_part`: how much of `upper` the gradients' noise on either side is; `server_seen` and
    `devices_seen`: the same with the noise that was seen instead of what was counted with (all zero in calibrated).
    """

    pretrain: int = 0
    finetune: int = 0
    upper: float = 0.0
    lower: float = 0.0
    server_part: float = 0.0
    devices_part: float = 0.0
    server_seen: float = 0.0
    devices_seen: float = 0.0

    @staticmethod
    def start(criterion: Known) -> Progress:
        """Before the first round."""
        gap = 2.0 * criterion.gap if isinstance(criterion, Trajectory) else 0.0
        return Progress(upper=criterion.gap if isinstance(criterion, Final) else gap)

    def pretrained(self, criterion: Known, batch: float, seen: float = 1.0) -> Progress:
        """After one more pre-training round; the noise seen was `seen` times what is counted with."""
        upper, lower, keep, noise = self.upper, self.lower, 1.0, 0.0
        if isinstance(criterion, Trajectory):
            noise = criterion.server_noise / batch
            upper += criterion.shift_cost + noise
            lower += criterion.pretrain_weight
        elif isinstance(criterion, Final):
            keep, gone = math.exp(criterion.log_r), -math.expm1(criterion.log_r)
            upper = keep * upper + gone * (criterion.shift_floor + criterion.server_noise / batch)
            noise = gone * criterion.server_noise / batch
        else:
            upper += 1.0 / batch
        return Progress(
            pretrain=self.pretrain + 1,
            finetune=self.finetune,
            upper=upper,
            lower=lower,
            server_part=keep * self.server_part + noise,
            devices_part=keep * self.devices_part,
            server_seen=keep * self.server_seen + seen * noise,
            devices_seen=keep * self.devices_seen,
        )

    def finetuned(self, criterion: Known, noise: float, seen: float = 1.0) -> Progress:
        """After one more fine-tuning round of noise ``sum_k A_k / b_k``, of which `seen` times as much was seen."""
        upper, lower, keep, part = self.upper, self.lower, 1.0, 0.0
        if isinstance(criterion, Trajectory):
            part = criterion.device_noise * noise
            upper += criterion.drift_cost + part
            lower += criterion.finetune_weight
        elif isinstance(criterion, Final):
            keep, gone = math.exp(criterion.log_q), -math.expm1(criterion.log_q)
            upper = keep * upper + gone * (criterion.drift_floor + criterion.device_noise * noise)
            part = gone * criterion.device_noise * noise
        else:
            lower += noise
        return Progress(
            pretrain=self.pretrain,
            finetune=self.finetune + 1,
            upper=upper,
            lower=lower,
            server_part=keep * self.server_part,
            devices_part=keep * self.devices_part + part,
            server_seen=keep * self.server_seen,
            devices_seen=keep * self.devices_seen + seen * part,
        )

    def as_seen(self) -> Progress:
        """The same rounds with the noise that was seen in place of what was counted with (trajectory and final)."""
        more = (self.server_seen - self.server_part) + (self.devices_seen - self.devices_part)
        return replace(self, upper=self.upper + more, server_part=self.server_seen, devices_part=self.devices_seen)

    def ahead(self, criterion: Known, m: float, n: float) -> tuple[float, float, float, float]:
        """``(weight, phi, psi0, psi)`` of `m` and `n` further rounds of the two stages."""
        if isinstance(criterion, Trajectory):
            return (
                self.lower + m * criterion.pretrain_weight + n * criterion.finetune_weight,
                self.upper + m * criterion.shift_cost + n * criterion.drift_cost,
                m * criterion.server_noise,
                n * criterion.device_noise,
            )
        if isinstance(criterion, Final):
            c = replace(criterion, gap=self.upper).at(m, n)
            return float(c.weight), float(c.phi), float(c.psi0), float(c.psi)
        all_m, all_n = self.pretrain + m, self.finetune + n
        c = criterion.at(all_m, all_n)
        phi, psi0, psi = float(c.phi), float(c.psi0), float(c.psi)
        if all_m > 0.0:
            phi, psi0 = phi + psi0 * self.upper / all_m, psi0 * m / all_m
        if all_n > 0.0:
            phi, psi = phi + psi * self.lower / all_n, psi * n / all_n
        return 1.0, phi, psi0, psi

    def value(self, criterion: Known) -> float:
        """The criterion if the run ended now; infinity before the first round of trajectory."""
        weight, phi, _, _ = self.ahead(criterion, 0.0, 0.0)
        return phi / weight if weight > 0.0 else math.inf

    def to_dict(self) -> dict[str, Any]:
        """Plain values, which `Progress(**tree)` reads back."""
        return asdict(self)
