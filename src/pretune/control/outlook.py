"""What a steered run knows before it begins: the fleet, the criterion, and who is likely to answer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from pretune.control.columns import Fleetwide
from pretune.control.forecast import FORESEEN, Forecast, Scene
from pretune.control.rules import Control, Rules
from pretune.convergence.criteria import Calibrated, Final, Trajectory, criterion_of, device_noise
from pretune.convergence.participation import Known, with_participation
from pretune.errors import InputError
from pretune.physics import link
from pretune.physics.types import Bools, Floats
from pretune.planning import Under
from pretune.plans import Plan
from pretune.reality import Conditions, Reality
from pretune.scenario import Scenario
from pretune.uncertainty import equivalent, planned_under

DRAWS = 300
"""Conditions drawn to find out how likely devices are to take part."""
LOST_TIMES = 7.0
"""A device is lost when it has been away for so many times as long as it usually is (chance: e^-7)..."""
LOST_ROUNDS = 5
"""...or, where it should never be away, for so many rounds in a row."""
_GOLDEN = 0.5 * (math.sqrt(5.0) - 1.0)
_FAR = 7919
"""Between the seed of what a run meets and the first of those its outlook is drawn with."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """Arrays of shape (K,). `probability`: how likely a device answers; `least_gain`: below it is not asked.

    `spare`: how many times as long as its clock says a device may compute. `away_s`: how long it may be away before it
    counts as lost; infinity where rounds are counted.
    """

    scenario: Scenario
    plan: Plan
    rules: Rules
    fleet: Fleetwide
    base: Known
    probability: Floats
    least_gain: Floats
    spare: Floats
    away_s: Floats
    follows: bool
    """Without control, whether powers follow the channel so that uploads take the planned time (an `ergodic` plan)."""
    span_s: float
    """Seconds of the plan's fine-tuning round without the broadcast (TDMA: of its computing phase)."""
    first: Forecast
    asked: Floats | None = None
    """How likely each device is asked, where the plan decides that; it is in `probability`."""
    thinned: Bools | None = None
    """Then: who is asked in each scene of the forecast, shape (S, K), each device in its share of them."""
    _known: dict[bytes, Known] = field(default_factory=dict)

    @staticmethod
    def of(scenario: Scenario, plan: Plan, rules: Rules, reality: Reality) -> Outlook:
        """What `plan` and the scenario's variation say; `scenario` has its local steps settled.

        Raises:
            InputError: so few devices are likely to answer that steps need not improve the model.
        """
        finetune = plan.finetune
        if finetune is None or plan.pretrain is None:
            raise InputError.field("plan.status", plan.status.value, "a status with a plan to run")
        fleet = Fleetwide.of(scenario, finetune.bandwidth_hz)
        spare = _spare(reality, rules.in_time)
        draws = likely_rounds(reality, scenario.budget.delay_s)
        gains = np.array([met.gain for met in draws])
        span, least = 0.0, np.zeros(len(fleet))
        if finetune.rounds:
            last = finetune.parts[-1]
            compute = spare * fleet.cycles * last.batch / last.clock_hz
            span = max(float((compute if fleet.tdma else compute + part.upload_s).max()) for part in finetune.parts)
            plain = rules.control is Control.NONE
            clock, power = (last.clock_hz, last.power_w) if plain else (fleet.clock_max, fleet.power_max)
            left = rules.patience * last.upload_s
            if not fleet.tdma:
                left = rules.patience * span - spare * fleet.cycles * last.batch / clock
            least = _gain_for(fleet, power, left)
        under = planned_under(scenario)
        if under not in (Under.MEAN, Under.PARTICIPATION):  # what the plan's promise rests on
            promised = equivalent(scenario)
            least, spare = np.array(promised.floor_gain), np.array(promised.slowest)
        if rules.outage > 0.0:
            least = np.maximum(least, np.quantile(gains, rules.outage, axis=0))
        heard = (gains >= least).mean(axis=0)
        share_up = reality.columns.share_up
        probability = heard * share_up * _likely(reality, spare)
        asked, thinned = _asked_of(plan, reality.seed) if under is Under.PARTICIPATION else (None, None)
        if asked is not None:
            probability = probability * asked
        if finetune.rounds and not (probability > 0.0).all():
            k = int((probability <= 0.0).argmax())
            raise InputError(
                f"devices: {scenario.devices.names[k]} would hardly ever be in time for a round of this plan; "
                "plan without it, or let rounds take longer (patience)"
            )
        away = np.full(len(fleet), math.inf)
        leaves = share_up < 1.0
        away[leaves] = LOST_TIMES / (reality.columns.rate[leaves] * share_up[leaves])
        everyone = np.ones((FORESEEN, len(fleet)), dtype=np.bool_)
        rows = everyone if thinned is None else thinned
        scenes = [
            Scene.of(met.available & (met.gain >= least) & rows[i % len(rows)], met)
            for i, met in enumerate(draws[:FORESEEN])
        ]
        scenes = [scene for scene in scenes if scene.who.any()]
        if not scenes:  # nobody was there in any of them: as if all were
            scenes = [Scene.of(np.ones(len(fleet), dtype=np.bool_), draws[0])]
        base = criterion_of(scenario)
        if not isinstance(base, Trajectory | Final | Calibrated):
            raise TypeError(f"no way is known to go on with criterion {base.name} in mid-run")
        found = Outlook(
            scenario=scenario,
            plan=plan,
            rules=rules,
            fleet=fleet,
            base=base,
            probability=probability,
            least_gain=least,
            spare=spare,
            away_s=away,
            follows=under is Under.ERGODIC,
            span_s=span,
            first=Forecast(scenes),
            asked=asked,
            thinned=thinned,
        )
        found.criterion_of(np.ones(len(fleet), dtype=np.bool_))
        return found

    def weights_of(self, alive: Bools) -> Floats:
        """The devices' weights, those that are lost left out and the others made to add up to one."""
        weight = np.where(alive, self.scenario.devices.weight, 0.0)
        total = float(weight.sum())
        return weight / total if total > 0.0 else weight

    def noise_of(self, alive: Bools) -> Floats:
        """``A_k / p_k`` with these weights; zero for who is lost."""
        total = float(self.scenario.devices.weight[alive].sum())
        return np.where(alive, device_noise(self.scenario) / self.probability, 0.0) / max(total, 1e-300) ** 2

    def criterion_of(self, alive: Bools) -> Known:
        """The criterion of a fleet that answers with `probability`."""
        key = alive.tobytes()
        if key not in self._known:
            constants = self.scenario.assumed
            some = alive if alive.any() else np.ones_like(alive)
            self._known[key] = with_participation(
                self.base,
                self.weights_of(some)[some],
                self.probability[some],
                heterogeneity=constants.heterogeneity or 0.0,
                pl_constant=constants.pl_constant,
            )
        return self._known[key]


def _asked_of(plan: Plan, seed: int) -> tuple[Floats, Bools]:
    """The plan's probabilities, and who is asked in the forecast's scenes, without those in which nobody is."""
    asked = np.array((plan.under or {})["participation"], dtype=np.float64)
    rng = np.random.default_rng([abs(seed), _FAR])
    count = np.floor(asked * FORESEEN + rng.random(len(asked))).astype(np.int64)
    rank = np.argsort(rng.random((FORESEEN, len(asked))), axis=0).argsort(axis=0)
    rows: Bools = rank < count
    some = rows.any(axis=1)
    return asked, rows[some] if some.any() else np.ones((1, len(asked)), dtype=np.bool_)


def _spare(reality: Reality, in_time: float) -> Floats:
    """How many times as long as its clock says a device may compute, to be done with the probability `in_time`."""
    columns = reality.columns
    spare = np.ones(len(columns.sigma))
    even = np.isfinite(columns.least)
    normal = (columns.sigma > 0.0) & ~even
    sigma = columns.sigma[normal]
    spare[normal] = np.maximum(np.exp(NormalDist().inv_cdf(in_time) * sigma - 0.5 * sigma**2), 1.0)
    spare[even] = np.maximum(columns.least[even] + in_time * (columns.most[even] - columns.least[even]), 1.0)
    return spare


def _likely(reality: Reality, spare: Floats) -> Floats:
    """How likely a device is done that may compute `spare` times as long as its clock says."""
    columns = reality.columns
    likely = np.ones(len(spare))
    even = np.isfinite(columns.least)
    normal = (columns.sigma > 0.0) & ~even
    for k in np.flatnonzero(normal):
        sigma = float(columns.sigma[k])
        likely[k] = NormalDist().cdf(math.log(float(spare[k])) / sigma + 0.5 * sigma)
    width = columns.most[even] - columns.least[even]
    share = (spare[even] - columns.least[even]) / np.where(width > 0.0, width, 1.0)
    likely[even] = np.where(width > 0.0, np.clip(share, 0.0, 1.0), spare[even] >= columns.least[even])
    return likely


def likely_rounds(reality: Reality, run_s: float) -> list[Conditions]:
    """First rounds of other seeds: what a round is likely to be, the run's own seed and traces not looked at.

    Their times are spread over those of a run of `run_s` seconds, any few of them in a row too (multiples of the golden
    section): devices on a way are not only where they begin.
    """
    found = []
    for i in range(DRAWS):
        other = replace(reality, seed=reality.seed + _FAR * (i + 1), trace=None)
        found.append(other.next(other.start(), run_s * math.fmod((i + 0.5) * _GOLDEN, 1.0))[1])
    return found


def _gain_for(fleet: Fleetwide, power_w: Floats, time_s: Floats) -> Floats:
    """The least gain at which an upload at this power takes no longer than that; infinity where there is no time."""
    with np.errstate(divide="ignore", over="ignore"):
        exponent = fleet.upload_bits * link.LN2 / fleet.bandwidth_hz / np.maximum(time_s, 0.0)
        found: Floats = fleet.noise_psd * fleet.bandwidth_hz / power_w * np.expm1(exponent)
    return found
