"""The variances of a run's gradients, as the run itself finds them beside those that its scenario states.

Batches are drawn with replacement. Let ``w_k = s_k / b_k``, where s_k is device k's share in the average, as weighted
for who is missing. Let A and B be the sums of ``w_k grad l_i`` over two disjoint sets of ``h_k = floor(b_k / 2)``
samples of each device. They have the same mean and are independent, so, whatever the gradients' means,

    E |A - B|^2 = sum_k 2 h_k w_k^2 sigma_k^2.

Divided by the same sum with the scenario's variances it is an unbiased estimate of how many times as large the
variances are: of their common factor, if the devices' variances keep the scenario's proportions, and else of the mean
of the devices' factors with the weights ``2 h_k w_k^2 sigma_k^2`` of the scenario (those with batches of one count
nothing). The server is the case of one device. The halves' sum is most of the round's gradient: nothing is computed
twice.

The variance drifts as training goes on. `Memory` is a mean of the looks whose weights fall by ``1 - 1/SPAN`` from look
to look: it assumes that little changes within SPAN rounds, and lags by as much. It says what the variance is now; the
bounds rest on one that holds all along the rest of the path, which nobody knows.

Source: the variance of a difference; the effective count of weighted looks is Kish's ("Survey Sampling", 1965).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeGuard

from pretune.convergence.criteria import Final, Trajectory
from pretune.convergence.participation import Known
from pretune.scenario import Criterion, Scenario

SPAN = 20.0
"""Rounds within which a look's weight falls to 1/e."""
LEAST = 8
"""Looks before an estimate is believed."""
DEPART = 1.25
"""The whole interval has to be this many times above (or below) what is counted with, for that to be changed."""
_MOST = 1e100
_NORMAL = 1.959963984540054


@dataclass(frozen=True, kw_only=True)
class Look:
    """One round's: ``|A - B|^2``, and what its mean would be with the scenario's variances (positive)."""

    difference_sq: float
    expected_sq: float

    @property
    def ratio(self) -> float:
        """How many times as large as the scenario's the variance looks."""
        return self.difference_sq / self.expected_sq


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimated ratio with a 95 % interval (Student's t; looks taken as independent and alike)."""

    ratio: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Sums over the looks x with weights w that fall with age: of 1 (`count`), w, w^2, w x and w x^2."""

    count: int = 0
    weight: float = 0.0
    weight_sq: float = 0.0
    first: float = 0.0
    second: float = 0.0

    def seen(self, ratio: float) -> Memory:
        """One look more; the others' weights fall."""
        keep = 1.0 - 1.0 / SPAN
        return Memory(
            count=self.count + 1,
            weight=keep * self.weight + 1.0,
            weight_sq=keep**2 * self.weight_sq + 1.0,
            first=keep * self.first + ratio,
            second=keep * self.second + ratio**2,
        )

    @property
    def interval(self) -> Interval | None:
        """The weighted mean with its interval; None before `LEAST` looks.

        With ``r = sum w^2 / (sum w)^2`` the looks' variance is estimated by ``(sum w x^2 / sum w - mean^2) / (1 - r)``,
        unbiased for looks that are independent and alike, and the mean's variance is r times that.
        """
        if self.count < LEAST:
            return None
        mean, r = self.first / self.weight, self.weight_sq / self.weight**2
        spread = max(self.second / self.weight - mean**2, 0.0) / (1.0 - r)
        half = _student(1.0 / r - 1.0) * math.sqrt(spread * r)
        return Interval(ratio=mean, low=max(mean - half, 0.0), high=mean + half)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """What is known of the variances of either side, and the ratios to the scenario's that are counted with."""

    server: Memory = field(default_factory=Memory)
    devices: Memory = field(default_factory=Memory)
    server_ratio: float = 1.0
    devices_ratio: float = 1.0

    def pretrained(self, look: Look | None) -> Noise:
        """After a pre-training round."""
        return replace(self, server=_seen(self.server, look))

    def finetuned(self, look: Look | None) -> Noise:
        """After a fine-tuning round."""
        return replace(self, devices=_seen(self.devices, look))

    def updated(self) -> tuple[Noise, str]:
        """The same with the ratios that are estimated now, where they clearly moved away; and what moved, in words.

        Clearly: the whole interval is beyond `DEPART` times, or below one over that of, what is counted with. What is
        counted with then is the estimate, so nothing happens again before it has moved as clearly from there.
        """
        server, first = _moved(self.server, self.server_ratio, "the server's")
        devices, second = _moved(self.devices, self.devices_ratio, "the devices'")
        words = " and ".join(one for one in (first, second) if one)
        return replace(self, server_ratio=server, devices_ratio=devices), f"constants: {words}" if words else ""

    def applied(self, criterion: Known) -> Known:
        """The criterion with the server's variance; the devices' is in ``A_k``. A law stays as it is.

        Neither the steps nor what they have to keep to (at most ``1/L``, and mu at most L) depend on a variance.
        """
        if isinstance(criterion, Trajectory | Final) and self.server_ratio != 1.0:
            return replace(criterion, server_noise=self.server_ratio * criterion.server_noise)
        return criterion

    def to_line(self) -> dict[str, Any]:
        """For a line about a new plan: the estimates, where there are any, and what is counted with."""
        return {
            name: {
                "ratio": memory.interval.ratio if memory.interval else None,
                "low": memory.interval.low if memory.interval else None,
                "high": memory.interval.high if memory.interval else None,
                "looks": memory.count,
                "used": ratio,
            }
            for name, memory, ratio in (
                ("server", self.server, self.server_ratio),
                ("devices", self.devices, self.devices_ratio),
            )
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @staticmethod
    def from_dict(tree: Mapping[str, Any]) -> Noise:
        """What `to_dict` wrote."""
        sides = {name: Memory(**tree[name]) for name in ("server", "devices")}
        return Noise(server_ratio=tree["server_ratio"], devices_ratio=tree["devices_ratio"], **sides)


def server_seen(noise: Noise | None, look: Look | None) -> float:
    """How many times what is counted with a look at the server's variance is; one where there is none."""
    return look.ratio / noise.server_ratio if noise is not None and _good(look) else 1.0


def devices_seen(noise: Noise | None, look: Look | None) -> float:
    """The same for the devices'."""
    return look.ratio / noise.devices_ratio if noise is not None and _good(look) else 1.0


def why_not(scenario: Scenario) -> str:
    """Why a scenario's variances are not estimated anew; empty if they are.

    A law's noise coefficients were fitted to ``v S`` with S from the scenario's variances, so a factor that is common
    to these cancels: a law that was fitted with wrong variances predicts what it would with right ones.
    """
    if scenario.convergence.criterion is Criterion.CALIBRATED:
        return "a calibrated law's noise was fitted to runs: the scenario's variances cancel in it"
    if scenario.convergence.robust:
        return "a robust plan counts with the worst variances within their intervals"
    if scenario.convergence.choices != (1,):
        return "with several local steps no estimator is known"
    return ""


def _moved(memory: Memory, old: float, whose: str) -> tuple[float, str]:
    """The ratio to count with from now on, and what there is to say of it."""
    now = memory.interval
    if now is None or now.ratio <= 0.0 or now.high * DEPART >= old >= now.low / DEPART:
        return old, ""
    before = "" if old == 1.0 else f" ({old:.2g} was counted with)"
    return now.ratio, f"{whose} gradient variance is {now.ratio:.2g} of the scenario's{before}"


def _good(look: Look | None) -> TypeGuard[Look]:
    """A look that is not finite, or whose square would not be, is none."""
    return look is not None and look.ratio < _MOST


def _seen(memory: Memory, look: Look | None) -> Memory:
    return memory.seen(look.ratio) if _good(look) else memory


def _student(freedom: float) -> float:
    """The 97.5 % point of Student's t, to within 0.01 from 7 degrees on (Abramowitz and Stegun 26.7.5)."""
    z, v = _NORMAL, freedom
    one = (z**3 + z) / 4.0
    two = (5.0 * z**5 + 16.0 * z**3 + 3.0 * z) / 96.0
    three = (3.0 * z**7 + 19.0 * z**5 + 17.0 * z**3 - 15.0 * z) / 384.0
    return z + one / v + two / v**2 + three / v**3
