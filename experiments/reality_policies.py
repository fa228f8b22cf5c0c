"""The policies of `reality.py` and how they fare in a scene, without training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from clairvoyant import Best, Clairvoyant, TooFew
from reality_scenes import OUTAGE
from reality_scenes import Scene as Hard
from reality_value import Measure

import pretune
from pretune.control.forecast import FORESEEN, Forecast, Scene
from pretune.control.outlook import Outlook, likely_rounds
from pretune.control.rules import Control, Replan, Rules
from pretune.control.simulate import simulate, steer
from pretune.control.standing import Standing
from pretune.control.steering import Round
from pretune.physics import link
from pretune.physics.types import Bools, Floats
from pretune.planning import Under
from pretune.reality import Conditions, Reality
from pretune.runtime.replan import Replanner
from pretune.uncertainty import equivalent
from pretune.uncertainty.odds import participation

STEERED = Rules(control=Control.ROUNDS)
ANEW = dataclasses.replace(STEERED, replan=Replan.AUTO)
PLANNING: dict[str, dict[str, Any] | None] = {
    "mean": None,
    "outage": {"under": "outage", "outage": OUTAGE},
    "ergodic": {"under": "ergodic", "outage": OUTAGE},
    "worst case": {"under": "worst_case", "interval_db": 3.0},
}
POLICIES: dict[str, tuple[str, Rules]] = {
    "static": ("mean", Rules()),
    "static, outage plan": ("outage", Rules()),
    "static, worst-case plan": ("worst case", Rules()),
    "static, ergodic plan": ("ergodic", Rules()),
    "control": ("mean", STEERED),
    "re-planning": ("mean", ANEW),
    "control, outage plan": ("outage", STEERED),
    "re-planning, outage plan": ("outage", ANEW),
}
CLAIRVOYANT = "clairvoyant"
UNTRAINED = ("static, worst-case plan", "control, outage plan")
"""No models are trained for these."""
CONDITIONS = 260
"""Rounds of conditions that the clairvoyant's bound looks at, at first; twice as many where that is not enough."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """The rounds that a policy carried out: what training needs, and what the tables say of it.

    `kept`: of the uploads of devices that were asked, the share that arrived within the time that the plan gives them.
    `breaks`: whether the plan as it is, without a guard, would have broken a budget. Both are None for policies whose
    plan gives no times. `present`: how many more or fewer gradients counted than of those that the rule lets take part.
    """

    value: float
    pretrain: list[int]
    shares: Floats
    batches: Any
    energy_j: float
    delay_s: float
    stop: str
    replans: int = 0
    kept: float | None = None
    breaks: bool | None = None
    present: float = 1.0


class Setting:
    """A scene under each kind of planning, its plans, and what all policies have in common.

    Who takes part is the same for all: each device is left out in the tenth of the rounds in which its channel is
    worst (or its computing slowest), by the floors of the ergodic plan. How likely that is, is known.
    """

    def __init__(self, scene: Hard) -> None:
        self.scene = scene
        self.scenarios = {kind: scene.scenario(planning) for kind, planning in PLANNING.items()}
        self.plans = {kind: pretune.plan(scenario) for kind, scenario in self.scenarios.items()}
        mean = self.scenarios["mean"]
        self.measure = Measure.of(mean)
        counted = equivalent(self.scenarios["ergodic"])
        if counted.odds is None:
            raise ValueError("nothing varies in this scene")
        gain = scene.wrong.gain
        self.least: Floats = counted.floor_gain * gain
        self.slowest: Floats = counted.slowest
        self.chance = participation(self.scenarios["ergodic"], counted.odds)
        reality = Reality.of(mean)
        likely = [
            Scene.of(met.available & (met.gain >= self.least), met)
            for met in likely_rounds(reality, mean.budget.delay_s)[: 2 * FORESEEN]
        ]
        foreseen = [one for one in likely if one.who.any()][:FORESEEN]
        self._common: dict[tuple[int, int], tuple[list[Conditions], Bools, Floats]] = {}
        self.outlooks: dict[str, Outlook] = {}
        for name, (kind, rules) in POLICIES.items():
            made = Outlook.of(self.scenarios[kind], self.plans[kind], rules, reality)
            self.outlooks[name] = dataclasses.replace(
                made,
                least_gain=self.least,
                spare=self.slowest,
                probability=self.chance,
                first=Forecast(list(foreseen)),
                _known={},
            )

    def common(self, seed: int, count: int = CONDITIONS) -> tuple[list[Conditions], Bools, Floats]:
        """What the rounds of a seed meet, who may take part in each, and with which shares: both of shape (J, K).

        No heat: a processor that is never warm has all of its clock, which nobody's has less than.
        """
        if (seed, count) in self._common:
            return self._common[seed, count]
        truth, outlook = self.scene.truth(seed), self.outlooks["static"]
        state = truth.start()
        now = Standing.start(outlook, state)
        met, done, shares = [], [], []
        for _ in range(count):
            state, one = truth.next(state, 0.0, np.zeros(len(self.least)))
            here = one.available & (one.gain > 0.0)
            now.seen(here, one.time_s, outlook)
            jitter = one.compute_factor / np.where(
                self.scene.wrong.on(one.round, len(here)), self.scene.wrong.slow, 1.0
            )
            who = here & now.alive & (one.gain >= self.least) & (jitter <= self.slowest * (1.0 + 1e-9))
            met.append(one)
            done.append(who)
            shares.append(np.where(who, outlook.weights_of(now.alive) / outlook.probability, 0.0))
        self._common.clear()
        self._common[seed, count] = met, np.array(done), np.array(shares)
        return self._common[seed, count]

    def foreseen(self, seed: int, start: tuple[int, int]) -> tuple[Ran, Best]:
        """The clairvoyant's run, with batches rounded down to whole ones, and what it proves."""
        for count in (CONDITIONS, 2 * CONDITIONS, 4 * CONDITIONS):
            met, done, shares = self.common(seed, count)
            solver = Clairvoyant(self.scenarios["mean"], self.measure, met, done, shares)
            with contextlib.suppress(TooFew):
                best = solver.best(start)
                break
        else:
            raise RuntimeError(f"{count} rounds' conditions are too few for a bound")
        n = best.rounds[1]
        batches = np.where(solver.who[:n], np.maximum(np.floor(best.spent.batches), 1), 0).astype(np.int64)
        ran = Ran(
            value=best.value,
            pretrain=[int(best.spent.server_batch)] * best.rounds[0],
            shares=solver.shares[:n],
            batches=batches,
            energy_j=best.spent.energy_j,
            delay_s=best.spent.delay_s,
            stop="all rounds were done",
        )
        return ran, best

    def carried_out(self, policy: str, seed: int, log: Any = None) -> Ran:
        """One policy on one seed."""
        kind, rules = POLICIES[policy]
        scenario, outlook, truth = self.scenarios[kind], self.outlooks[policy], self.scene.truth(seed)
        planner = Replanner(scenario) if rules.replan is not Replan.OFF else None
        steering = steer(scenario, self.plans[kind], rules, truth, planner=planner, log=log, outlook=outlook)  # type: ignore[arg-type]
        rounds: list[Round] = []
        batches: list[int] = []
        whole = steering.pretrained
        steering.pretrained = lambda move: (batches.append(move.batch), whole(move))[1]  # type: ignore[method-assign]
        found = simulate(steering, rounds.append)
        shares = np.array([one.shares for one in rounds])
        sizes = np.array([one.move.batch for one in rounds])
        plain = rules.control is Control.NONE
        return Ran(
            value=self.measure.value(batches, shares, sizes),
            pretrain=batches,
            shares=shares,
            batches=sizes,
            energy_j=found.energy_j,
            delay_s=found.delay_s,
            stop=found.stop.why,
            replans=found.replans,
            kept=self._kept(kind, rounds) if plain else None,
            breaks=self._breaks(policy, seed) if plain else None,
            present=self._present(rounds, seed),
        )

    def _kept(self, kind: str, rounds: Sequence[Round]) -> float:
        """The share of uploads that arrive within the times that the plan gives to computing and uploading."""
        plan, fleet = self.plans[kind], self.outlooks["static"].fleet
        stage = plan.finetune
        if stage is None or not rounds:
            return 0.0
        counted = equivalent(self.scenarios[kind])
        arrived = total = 0
        for one in rounds:
            asked = one.met.available & (one.met.clock_limit_hz > 0.0)
            clock = np.minimum(stage.clock_hz, one.met.clock_limit_hz)
            planned_s = counted.slowest * fleet.cycles * stage.batch / stage.clock_hz
            compute_s = one.met.compute_factor * fleet.cycles * stage.batch / clock
            gain = np.maximum(one.met.gain, 1e-300)
            power, heard = stage.power_w, np.ones(len(gain), dtype=np.bool_)
            if counted.under is Under.ERGODIC:
                heard = gain >= counted.floor_gain
                needed = link.power_for_airtime(
                    fleet.upload_bits, stage.upload_s, gain, fleet.bandwidth_hz, fleet.noise_psd
                )
                power = np.minimum(needed, fleet.power_max)
            upload_s = link.airtime(fleet.upload_bits, power, gain, fleet.bandwidth_hz, fleet.noise_psd)
            good = heard & (upload_s <= stage.upload_s * (1 + 1e-9)) & (compute_s <= planned_s * (1 + 1e-9))
            arrived += int((asked & good).sum())
            total += int(asked.sum())
        return arrived / max(total, 1)

    def _breaks(self, policy: str, seed: int) -> bool:
        """Whether all of the plan's rounds, carried out as they are, take more than a budget."""
        kind, rules = POLICIES[policy]
        scenario, budget = self.scenarios[kind], self.scenarios[kind].budget
        wide = scenario.with_budget(energy_j=1e3 * budget.energy_j, delay_s=1e3 * budget.delay_s)
        plan = dataclasses.replace(self.plans[kind], scenario_sha256=wide.sha256)
        outlook = dataclasses.replace(self.outlooks[policy], scenario=wide, plan=plan, _known={})
        found = simulate(steer(wide, plan, rules, self.scene.truth(seed), outlook=outlook))  # type: ignore[arg-type]
        return bool(found.energy_j > budget.energy_j * (1 + 1e-9) or found.delay_s > budget.delay_s * (1 + 1e-9))

    def _present(self, rounds: Sequence[Round], seed: int) -> float:
        """Gradients that counted, over those of the devices that the common rule lets take part in these rounds."""
        _, done, _ = self.common(seed)
        rounds = [one for one in rounds if one.met.round < len(done)]
        here = sum(int(one.outcome.done.sum()) for one in rounds)
        there = sum(int(done[one.met.round].sum()) for one in rounds)
        return here / max(there, 1)


__all__ = ["CLAIRVOYANT", "POLICIES", "UNTRAINED", "Ran", "Setting"]
