"""Steering a run through what it meets: who is asked, at which clocks and powers, and when to stop or plan anew.

No training happens here: the loop asks for the next move, carries it out, and says what became of it. All that the
steering knows is in `state`, plain values that a checkpoint keeps, so a run that goes on does what it would have done.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pretune.control.forecast import Scene
from pretune.control.guard import SPARE, fitted
from pretune.control.moves import Move, Round, best_move, carry_out, fixed_move, idle_move
from pretune.control.noise import Look, Noise, devices_seen, server_seen, why_not
from pretune.control.outlook import Outlook
from pretune.control.rules import Control, Log, Planner, Proposal, Ready, Replan, ServerMove, Situation, Stop
from pretune.control.standing import Standing, made_up
from pretune.control.telling import replan_line, short_of
from pretune.convergence.participation import Known
from pretune.errors import InputError
from pretune.physics import cost, link
from pretune.physics.types import Bools, Floats
from pretune.reality import Conditions, Reality

_WAITS = 10_000
_ASKED = 15485863
"""Between the seeds of what a run meets and of whom it asks."""
_FIRST, _LATER = 4, 1
"""How often the simple model is corrected by the forecast before a new plan is taken: at the start, and later on."""


class Steering:
    """One run's. `outlook` is what it was told before, `standing` where it is, `ready` who is really there."""

    def __init__(
        self,
        outlook: Outlook,
        standing: Standing,
        reality: Reality,
        *,
        planner: Planner | None = None,
        log: Log | None = None,
    ) -> None:
        self.outlook, self.standing, self.reality = outlook, standing, reality
        self.planner, self.log = planner, log
        self.ready: Ready | None = None
        self._made_up = 1.0
        if planner is None and outlook.rules.replan is not Replan.OFF:
            raise ValueError("to plan anew takes a planner")

    # --- what the loop calls -------------------------------------------------------------------------------------

    def estimate(self) -> None:
        """From now on the looks at the gradients' variances count, where an estimate would be of use."""
        rules, now = self.outlook.rules, self.standing
        if rules.replan is not Replan.OFF and rules.constants and not why_not(self.outlook.scenario):
            now.noise = Noise() if now.noise is None else now.noise

    @property
    def estimates(self) -> bool:
        """Whether looks at the gradients' variances are of any use."""
        return self.standing.noise is not None

    @property
    def criterion(self) -> Known:
        """The criterion of those that are not lost, with the constants that are counted with."""
        now = self.standing
        found = self.outlook.criterion_of(now.alive)
        return found if now.noise is None else now.noise.applied(found)

    def next(self) -> ServerMove | Move | Stop:
        """What is to be done next."""
        now = self.standing
        if now.rounds == 0 and now.replans == 0 and self.outlook.rules.replan is not Replan.OFF:
            self._plan_anew("the run begins: what is known of the channels is taken into account")
        if now.pretrain_left > 0:
            return self._server_move()
        if now.finetune_left <= 0 and self.outlook.rules.replan is not Replan.OFF:
            self._plan_anew("all planned rounds were done, and budget is left")
        if now.finetune_left <= 0:
            return Stop(finished=True, why="all rounds were done")
        return self._fleet_move()

    def pretrained(self, move: ServerMove, look: Look | None = None) -> None:
        """A pre-training round was done; `look` is at the variance of its gradient."""
        now = self.standing
        now.spend(move.time_s, move.energy_j, None)
        now.pretrain_left -= 1
        now.since_round_s += move.time_s
        now.progress = now.progress.pretrained(self.criterion, move.batch, server_seen(now.noise, look))
        now.tick(0, self.outlook)
        if now.noise is not None:
            now.noise = now.noise.pretrained(look)
            if why := self._moved_constants():
                self._plan_anew(why)

    def carried_out(self, move: Move) -> Round:
        """A fine-tuning round as the devices carry it out, and whose gradients count how much."""
        now, met = self.standing, self._met
        outcome = carry_out(self.outlook.fleet, move, met)
        shares = np.where(outcome.done, self._made_up * now.raised(self.outlook), 0.0)
        nobody = np.zeros_like(outcome.done)
        return Round(move=move, met=met, outcome=outcome, shares=shares, waited_s=now.waited_s, missing=nobody)

    def finetuned(self, done: Round, look: Look | None = None) -> None:
        """A fine-tuning round was done: enter what it cost, learn from it, and plan anew if there is a reason."""
        now, outlook = self.standing, self.outlook
        now.spend(done.outcome.time_s, done.outcome.energy_j, done.outcome.device_j)
        now.since_round_s += done.outcome.time_s
        now.drawn_w = np.where(
            done.move.who, outlook.fleet.capacitance * done.move.clock_hz**3 + outlook.fleet.static, 0.0
        )
        batch = np.maximum(np.where(done.move.who, done.move.batch, now.batch), 1)
        noise = float((self._noise() / batch).sum())
        now.progress = now.progress.finetuned(self.criterion, noise, devices_seen(now.noise, look))
        who, thinned = done.move.who, outlook.thinned
        if thinned is not None:  # who could have been asked, in the share of the scenes in which each is
            who = self._reached & thinned[now.forecast.at % len(thinned)]
        now.forecast.met(Scene.of(who, done.met))
        now.learn(done.move, done.outcome, done.met, done.missing)
        now.finetune_left -= 1
        now.waited_s = 0.0
        now.tick(1, outlook)
        replan, why = outlook.rules.replan, ""
        if now.noise is not None:
            now.noise = now.noise.finetuned(look)
            why = self._moved_constants()
        if why and now.finetune_left > 0:
            self._plan_anew(why)
        elif replan is Replan.EVERY and now.finetune_left > 0:
            self._plan_anew("every round")
        elif replan is Replan.AUTO and now.finetune_left > 0 and (why := self._reason()):
            self._plan_anew(why)

    # --- moves ---------------------------------------------------------------------------------------------------

    def _server_move(self) -> ServerMove | Stop:
        now = self.standing
        once = cost.pretrain_round(self.outlook.scenario, now.server_batch, now.server_clock_hz)
        if once.energy_j > now.energy_left * (1.0 - SPARE) or once.time_s > now.delay_left * (1.0 - SPARE):
            return Stop(finished=False, why="the budgets don't pay for another pre-training round")
        return ServerMove(
            batch=now.server_batch, clock_hz=now.server_clock_hz, time_s=once.time_s, energy_j=once.energy_j
        )

    def _fleet_move(self) -> Move | Stop:
        now, outlook = self.standing, self.outlook
        for _ in range(_WAITS):
            try:
                now.reality, met = self.reality.next(now.reality, now.since_round_s, now.drawn_w)
            except InputError as error:  # a trace has ended
                return Stop(finished=False, why=str(error))
            now.since_round_s, self._met = 0.0, met
            try:
                who = self._asked(met)
            except InputError as error:  # of those that are left too few answer
                return Stop(finished=False, why=str(error))
            if not now.alive.any() and not who.any():
                return Stop(finished=False, why="no device has been there for so long that all count as lost")
            if who.any():
                break
            wait = now.longest_s / outlook.rules.patience
            if wait > now.delay_left * (1.0 - SPARE):
                return Stop(finished=False, why="no device can be reached, and there is no time left to wait for one")
            now.spend(wait, 0.0, None)
            now.waited_s += wait
            now.since_round_s = wait
            now.drawn_w = np.zeros(len(outlook.fleet))
        else:
            return Stop(finished=False, why=f"no device could be reached {_WAITS} times in a row")
        self._reached = who
        if outlook.asked is not None:
            who = who & self._drawn(outlook.asked)
            if not who.any():  # asking somebody after all would bias the average
                return idle_move(len(outlook.fleet))
        slowness = now.slowness(outlook)
        clocks = None
        if outlook.rules.control is Control.NONE:
            clocks = (now.clock_hz, self._powers(met))
            move = fixed_move(outlook.fleet, met, who, now.batch, *clocks, slowness)
        else:
            self._balance()
            move = best_move(
                outlook.fleet,
                met,
                who,
                now.batch,
                now.worth_w,
                longest_s=now.longest_s,
                slowness=slowness,
                ratio=now.ratio,
            )
        found = fitted(
            outlook.fleet,
            met,
            move,
            now.energy_left,
            now.delay_left,
            now.battery_left,
            slowness=slowness,
            clocks=clocks,
        )
        if found is None:
            return Stop(finished=False, why=short_of(now, move))
        if not np.array_equal(found.batch, move.batch) and not self._helps(found):
            return Stop(finished=False, why="what is left pays for a round too small to improve the model")
        return found

    def _drawn(self, asked: Floats) -> Bools:
        """Who is asked in this round, each with its own probability: a matter of the run's seed and the round alone."""
        rng = np.random.default_rng([abs(self.reality.seed), _ASKED, self.standing.progress.finetune])
        found: Bools = rng.random(len(asked)) < asked
        return found

    def _powers(self, met: Conditions) -> Floats:
        """The plan's powers, or those that take the planned time to upload (`Outlook.follows`)."""
        now, outlook = self.standing, self.outlook
        if not outlook.follows:
            return now.power_w
        fleet = outlook.fleet
        gain = np.where(met.gain > 0.0, met.gain, 1.0)
        needed = link.power_for_airtime(fleet.upload_bits, now.upload_s, gain, fleet.bandwidth_hz, fleet.noise_psd)
        return np.minimum(needed, fleet.power_max)

    def _asked(self, met: Conditions) -> Bools:
        """Who takes part; who has been away for too long counts as lost, who is back as found again.

        Raises:
            InputError: with those that are left steps need not improve the model.
        """
        now, outlook = self.standing, self.outlook
        able = met.available & (met.gain > 0.0) & (met.clock_limit_hz > 0.0)
        here = able if self.ready is None else able & self.ready()
        before = now.alive
        cause = now.seen(here, met.time_s, outlook)
        try:
            outlook.criterion_of(now.alive)
        except InputError:
            now.alive = before
            raise
        if cause and outlook.rules.replan is not Replan.OFF and now.alive.any():
            self._plan_anew(cause)
        fastest = outlook.fleet.fastest_s(
            np.where(able, met.gain, 1.0), np.where(able, met.clock_limit_hz, 1.0), now.batch.astype(np.float64)
        )
        charged = now.battery_left > 0.0
        wanted = able & now.alive & charged & (met.gain >= outlook.least_gain) & (fastest <= 3.0 * now.longest_s)
        self._made_up = made_up(now.raised(outlook), wanted, wanted & here)
        return wanted & here

    def _helps(self, move: Move) -> bool:
        """Whether a smaller round still improves the criterion."""
        now = self.standing
        criterion = self.criterion
        noise = float((self._noise() / np.maximum(np.where(move.who, move.batch, now.batch), 1)).sum())
        return now.progress.finetuned(criterion, noise).value(criterion) < now.progress.value(criterion)

    # --- constants -----------------------------------------------------------------------------------------------

    def _noise(self) -> Floats:
        """``A_k / p_k`` with the variances that are counted with, shape (K,)."""
        now = self.standing
        found = self.outlook.noise_of(now.alive)
        return found if now.noise is None or now.noise.devices_ratio == 1.0 else now.noise.devices_ratio * found

    def _moved_constants(self) -> str:
        """Count with the variances as they are found, if these clearly moved; why to plan anew then, or nothing."""
        now = self.standing
        if now.noise is None:
            return ""
        now.noise, why = now.noise.updated()
        if why:  # of the rounds done it is known better than that they had what is counted with now
            now.progress = now.progress.as_seen()
        return why

    # --- prices and plans ----------------------------------------------------------------------------------------

    def _balance(self) -> None:
        """The price of time at which what is left of both budgets pays for equally many rounds."""
        now, outlook = self.standing, self.outlook
        forecast = now.forecast.without(~now.alive)
        if not forecast.scenes:
            return
        now.worth_w, now.expected = forecast.balance(
            outlook.fleet,
            np.maximum(now.batch, 1),
            max(now.energy_left, 1e-300),
            max(now.delay_left, 1e-300),
            now.longest_s,
            now.slowness(outlook),
            now.ratio,
            now.worth_w,
        )

    def _reason(self) -> str:
        """Why to plan anew, if so: the budgets pay for clearly more or fewer rounds than are left to do."""
        now, rules = self.standing, self.outlook.rules
        if now.expected is None:
            return ""
        pays = min(now.energy_left / now.expected.energy_j, now.delay_left / now.expected.time_s)
        if abs(pays - now.finetune_left) <= max(1.0, rules.band * now.finetune_left):
            return ""
        return f"the budgets pay for about {pays:.1f} more rounds, {now.finetune_left} are left to do"

    def _plan_anew(self, cause: str) -> None:
        now, outlook = self.standing, self.outlook
        if self.planner is None:
            return
        first = now.rounds == 0
        now.replans += 1
        before, batch = (now.pretrain_left, now.finetune_left), int(now.batch[now.alive].sum())
        proposal: Proposal | None = None
        solves = 0
        for _ in range(_FIRST if first else _LATER):
            proposal = self.planner.propose(self._situation(exact=first))
            if proposal is None:
                break
            solves += proposal.solves
            if proposal.finetune > 0:
                self._correct(proposal)
        taken, why = False, "nothing fits: the run goes on as before while the budgets last"
        if proposal is not None:
            gain = outlook.rules.gain * abs(proposal.kept)
            better = proposal.value < (proposal.kept - gain if math.isfinite(proposal.kept) else math.inf)
            ends = proposal.pretrain + proposal.finetune == 0
            taken = better and not (ends and sum(before) > 0 and math.isfinite(proposal.kept))
            why = "taken" if taken else "not better by enough"
            if taken:
                self._take(proposal)
        if self.log is not None:
            self.log(replan_line(now, cause, before, batch, proposal, taken=taken, effect=why, solves=solves))

    def _situation(self, *, exact: bool) -> Situation:
        now, outlook = self.standing, self.outlook
        forecast = now.forecast.without(~now.alive)
        noise, clock, broadcast = forecast.means(outlook.fleet, now.alive)
        return Situation(
            criterion=self.criterion,
            progress=now.progress,
            pretrain=now.pretrain_left,
            finetune=now.finetune_left,
            server_batch=now.server_batch,
            batch=now.batch,
            noise=self._noise(),
            alive=now.alive,
            noise_w=noise,
            clock_limit_hz=clock,
            slowness=now.slowness(outlook),
            broadcast_s=broadcast,
            energy_j=now.energy_left,
            delay_s=now.delay_left,
            battery_j=now.battery_left,
            energy_factor=now.energy_factor,
            delay_factor=now.delay_factor,
            exact=exact,
            asked=np.ones(len(outlook.fleet)) if outlook.asked is None else outlook.asked,
        )

    def _correct(self, proposal: Proposal) -> None:
        """What the forecast says that the proposal's rounds take, beside what the simple model says."""
        now, outlook = self.standing, self.outlook
        once = cost.pretrain_round(outlook.scenario, max(proposal.server_batch, 1), max(proposal.server_clock_hz, 1e-3))
        energy = now.energy_left - proposal.pretrain * once.energy_j
        delay = now.delay_left - proposal.pretrain * once.time_s
        if energy <= 0.0 or delay <= 0.0:
            return
        forecast = now.forecast.without(~now.alive)
        longest = outlook.rules.patience * max(proposal.round_s * now.delay_factor, 1e-9)
        _, expected = forecast.balance(
            outlook.fleet,
            np.maximum(proposal.batch, 1),
            energy,
            delay,
            longest,
            now.slowness(outlook),
            now.ratio,
            now.worth_w,
            close=3e-3,
        )
        now.energy_factor = min(max(expected.energy_j / proposal.round_j, 0.01), 100.0)
        now.delay_factor = min(max(expected.time_s / proposal.round_s, 0.01), 100.0)
        now.expected = expected

    def _take(self, proposal: Proposal) -> None:
        now = self.standing
        now.pretrain_left, now.finetune_left = proposal.pretrain, proposal.finetune
        now.parts_left = [0, 0]
        if proposal.pretrain > 0:
            now.server_batch, now.server_clock_hz = proposal.server_batch, proposal.server_clock_hz
        if proposal.finetune > 0:
            now.batch = np.where(now.alive, proposal.batch, now.batch)
            now.ratio, now.worth_w = proposal.ratio, max(proposal.worth_w, 1e-12)
            now.longest_s = self.outlook.rules.patience * proposal.round_s * now.delay_factor

    # --- what a checkpoint keeps ---------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the steering knows, as plain values."""
        return self.standing.to_dict()

    def restore(self, tree: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.standing = Standing.from_dict(tree)


__all__ = ["Round", "Steering"]
