"""A steered run without any training: what it would spend, how far it would get, and its criterion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pretune.control.outlook import Outlook
from pretune.control.rules import Log, Planner, Rules, ServerMove, Stop
from pretune.control.standing import Standing
from pretune.control.steering import Round, Steering
from pretune.plans import Plan
from pretune.reality import Reality
from pretune.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """How it ended. `value` is the criterion for the rounds done; energy and delay are what was spent."""

    value: float
    pretrain: int
    finetune: int
    energy_j: float
    delay_s: float
    stop: Stop
    replans: int


def steer(
    scenario: Scenario,
    plan: Plan,
    rules: Rules,
    reality: Reality,
    *,
    planner: Planner | None = None,
    log: Log | None = None,
    outlook: Outlook | None = None,
) -> Steering:
    """A steering at its beginning; `scenario` has its local steps settled. An `outlook` may be shared by many runs."""
    found = Outlook.of(scenario, plan, rules, reality) if outlook is None else outlook
    return Steering(found, Standing.start(found, reality.start()), reality, planner=planner, log=log)


def simulate(steering: Steering, each: Callable[[Round], None] | None = None) -> Simulated:
    """Carry a steering to its end; `each` sees every fine-tuning round."""
    now = steering.standing
    energy, delay = now.energy_left, now.delay_left
    while not isinstance(move := steering.next(), Stop):
        if isinstance(move, ServerMove):
            steering.pretrained(move)
        else:
            done = steering.carried_out(move)
            steering.finetuned(done)
            if each is not None:
                each(done)
    now = steering.standing
    return Simulated(
        value=now.progress.value(steering.criterion),
        pretrain=now.progress.pretrain,
        finetune=now.progress.finetune,
        energy_j=energy - now.energy_left,
        delay_s=delay - now.delay_left,
        stop=move,
        replans=now.replans,
    )
