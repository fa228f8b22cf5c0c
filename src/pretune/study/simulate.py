"""The one place that turns a setting, budgets and a method into rows: plan, choose the step size, run with seeds.

Fairness, the same for every method and done here alone:

- **one pilot for a task** (`law_of`), made on the task's reference fleet of ten devices; whatever plans by the law uses
  the same one. The pilot, its step and every method's step are judged on the *validation* half of the test samples;
  what is reported is measured on the other half, which nothing but the final figures has seen;
- **one search for the step size** (`step_of`): every method's plan is run with the same steps (`STEPS`, one for both
  stages) and the same tuning seeds, and gets the step with the least mean validation loss. The evaluation's seeds are
  others;
- **realised energy and delay** are those of the plan by the cost model, at whole rounds and samples.

Runs are branches of `pretune.runtime.branches.Ground`: to the bit those of `pretune run` with the same seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from pretune.convergence.design import cost_of, design_for
from pretune.errors import RunFailed
from pretune.law import FAMILIES, Law
from pretune.physics import cost
from pretune.planner import plan as planned_jointly
from pretune.planner.baselines import JOINT, Options, baseline, names_for
from pretune.plans import FinetuneStage, Plan, PretrainStage
from pretune.runtime.pilot import run_pilot, with_law
from pretune.scenario import Scenario
from pretune.study.ablate import EXTRA, ablated
from pretune.study.cache import cache_folder, cached
from pretune.study.field import Scored, field_of, path, scored, scores, with_step
from pretune.study.fleets import Setting, scenario_of

STEPS = (0.01, 0.03, 0.1, 0.3)
"""The step sizes that are searched; a method has one for both stages."""
TUNING_SEEDS = (9001, 9002)
EVALUATION_SEEDS = tuple(range(1, 11))
TOLERANCE = 3e-3
"""Relative gap at which a plan is good enough: a tenth of what a run's seed does to the error."""
PILOT_ROUNDS = (600, 160)
"""Pre-training and fine-tuning rounds of the longest pilot run."""
SMOKE_PILOT_ROUNDS, SMOKE_FAMILIES = (60, 20), ("effective",)
CRITERIA = ("trajectory", "final", "calibrated-loss")
"""Other ways to plan jointly: other criteria than the law for the error."""
WITHOUT_PILOT = ("random", "trajectory", "final")
"""Methods that use no law, so no pilot is charged to them."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Joules and seconds."""

    energy_j: float
    delay_s: float


@dataclass(frozen=True, kw_only=True)
class Pilot:
    """A task's law, the step it was fitted at, and what the pilot runs cost on the reference fleet."""

    law: Law
    step: float
    energy_j: float
    delay_s: float
    error: float
    """Median relative error on paths left out of the fit."""


def reference(setting: Setting) -> Setting:
    """Where the pilot of a setting is made: the same task and partition, with the reference fleet."""
    return Setting(task=setting.task, rotation_deg=setting.rotation_deg, alpha=setting.alpha)


def law_of(setting: Setting, *, measure: str = "error", smoke: bool = False) -> Pilot:
    """The law of a setting's task, from its one pilot."""
    home = reference(setting)
    rounds = SMOKE_PILOT_ROUNDS if smoke else PILOT_ROUNDS
    key = {"what": "pilot", "setting": home.key, "measure": measure, "rounds": list(rounds)}
    families = SMOKE_FAMILIES if smoke else tuple(FAMILIES)
    tree = cached(cache_folder(), key, lambda: _pilot(home, measure, rounds, families))
    law = Law.read(tree["law"])
    assert law is not None
    return Pilot(law=law, **{name: tree[name] for name in ("step", "energy_j", "delay_s", "error")})


def _pilot(setting: Setting, measure: str, rounds: tuple[int, int], families: tuple[str, ...]) -> dict[str, Any]:
    """Choose the pilot's step on one middling run, make the pilot runs and fit."""
    field = field_of(setting)
    fleet = field.ground.scenario.devices
    batch = np.minimum(8, np.asarray(fleet.samples, dtype=np.int64))
    losses = {}
    for step in STEPS:
        found = [scores(field, step, seed, 16, rounds[0] // 10, batch, rounds[1] // 4)[0].loss for seed in TUNING_SEEDS]
        losses[step] = float(np.mean(found))
    step = min(STEPS, key=lambda one: losses[one])
    scenario = with_step(field.ground.scenario, step)
    design = design_for(scenario, pretrain_rounds=rounds[0], finetune_rounds=rounds[1])
    pilot = run_pilot(scenario, design=design, measure=measure, families=families, task=field.ground.task)
    spent = cost_of(scenario, design)  # the eight short runs that chose the step are not in it, nor anybody's search
    return {
        "law": pilot.law.to_dict(),
        "step": step,
        "energy_j": spent.energy_j,
        "delay_s": spent.time_s,
        "error": pilot.fit.errors[pilot.law.family],
    }


def planning_scenario(setting: Setting, law: Law | None, criterion: str = "calibrated") -> Scenario:
    """The setting's scenario with a law, or with the measured constants and one of the bounds as its criterion."""
    scenario = scenario_of(setting)
    if criterion == "calibrated":
        assert law is not None
        return with_law(scenario, law)
    part = scenario.convergence
    return scenario.replace(
        convergence={**{key: getattr(part, key) for key in part.model_fields_set}, "criterion": criterion}
    )


def methods_of(setting: Setting, *, slow: bool = False) -> tuple[str, ...]:
    """Joint planning and all baselines of `pretune compare`; `successive` (seconds each) only if `slow`."""
    known = names_for(scenario_of(setting))
    return (JOINT, *(name for name in known if slow or name != "successive"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """A plan's decisions and what they cost."""

    pretrain: PretrainStage
    finetune: FinetuneStage
    energy_j: float
    delay_s: float
    predicted: float

    @staticmethod
    def of(plan: Plan) -> Choice:
        """A plan that holds one."""
        assert plan.pretrain is not None
        assert plan.finetune is not None
        return Choice(
            pretrain=plan.pretrain,
            finetune=plan.finetune,
            energy_j=plan.energy_j,
            delay_s=plan.delay_s,
            predicted=plan.objective,
        )

    @property
    def pretrain_share(self) -> float:
        """The share of the delay that pre-training takes."""
        return self.pretrain.rounds * self.pretrain.round_s / self.delay_s

    @property
    def runs_as(self) -> dict[str, Any]:
        """All that a run depends on, but the seed and the step."""
        used = self.finetune.rounds > 0
        return {
            "pretrain": self.pretrain.rounds,
            "server_batch": self.pretrain.batch if self.pretrain.rounds else 0,
            "finetune": self.finetune.rounds,
            "batches": self.finetune.batch.tolist() if used else [],
        }


def choose(setting: Setting, budget: Budget, method: str, *, smoke: bool = False, seed: int = 0) -> Choice | None:
    """What a method plans within the budget; None where it finds nothing. `seed` is that of the random one."""
    if method in CRITERIA:
        criterion = "calibrated" if method == "calibrated-loss" else method
        law = law_of(setting, measure="loss", smoke=smoke).law if method == "calibrated-loss" else None
        plan = _jointly(planning_scenario(setting, law, criterion), budget)
        return Choice.of(plan) if plan.status.has_plan else None
    scenario, joint = _joint(setting, budget, smoke)
    if not joint.status.has_plan or method == JOINT:
        return Choice.of(joint) if joint.status.has_plan else None
    if method in EXTRA:
        found = ablated(method, scenario, joint, TOLERANCE)
    else:
        found = baseline(method, scenario, joint, options=Options(seed=seed), tolerance=TOLERANCE)
    return None if found.plan is None else Choice.of(found.plan)


@lru_cache(maxsize=4)
def _joint(setting: Setting, budget: Budget, smoke: bool) -> tuple[Scenario, Plan]:
    """The scenario with its law and budget, and its joint plan, which every baseline starts from."""
    scenario = planning_scenario(setting, law_of(setting, smoke=smoke).law)
    scenario = scenario.with_budget(energy_j=budget.energy_j, delay_s=budget.delay_s)
    return scenario, planned_jointly(scenario, tolerance=TOLERANCE, throw=False)


def _jointly(scenario: Scenario, budget: Budget) -> Plan:
    within = scenario.with_budget(energy_j=budget.energy_j, delay_s=budget.delay_s)
    return planned_jointly(within, tolerance=TOLERANCE, throw=False)


def step_of(
    setting: Setting, choice: Choice, seeds: Sequence[int] = TUNING_SEEDS, steps: Sequence[float] = STEPS
) -> float:
    """The step with the least mean validation loss over the tuning seeds."""
    key = {
        "what": "step",
        "setting": _data_key(setting),
        "runs": choice.runs_as,
        "seeds": list(seeds),
        "steps": list(steps),
    }

    def search() -> float:
        field, runs = field_of(setting), choice.runs_as
        losses = {}
        for step in steps:
            found = [
                scores(
                    field,
                    step,
                    seed,
                    runs["server_batch"],
                    runs["pretrain"],
                    runs["batches"],
                    runs["finetune"],
                )[0].loss
                for seed in seeds
            ]
            losses[step] = float(np.mean(found))
        return min(steps, key=lambda one: losses[one])

    return cached(cache_folder(), key, search)


def _data_key(setting: Setting) -> dict[str, Any]:
    """What of a setting a run's outcome depends on, beside the plan: data, samples, weights, not radio or clocks."""
    same = setting.key
    for name in ("band_hz", "gain_db", "clock_factor"):
        del same[name]
    return same


def judged(setting: Setting, choice: Choice, step: float, seed: int) -> Scored:
    """The scores on the test half of one run."""
    key = {"what": "run", "setting": _data_key(setting), "runs": choice.runs_as, "step": step, "seed": seed}

    def make() -> list[float]:
        runs = choice.runs_as
        found = scores(
            field_of(setting), step, seed, runs["server_batch"], runs["pretrain"], runs["batches"], runs["finetune"]
        )[1]
        return [found.loss, found.accuracy]

    loss, accuracy = cached(cache_folder(), key, make)
    return Scored(loss=loss, accuracy=accuracy)


def rows_of(
    setting: Setting,
    budget: Budget,
    method: str,
    seeds: Sequence[int],
    *,
    tuning: Sequence[int] = TUNING_SEEDS,
    steps: Sequence[float] = STEPS,
    smoke: bool = False,
) -> list[dict[str, Any]]:
    """One row a seed: accuracy (a share), loss, and the plan; a method that finds no plan has rows without accuracy.

    `energy_j` and `delay_s` are the budgets, `spent_j` and `took_s` what the plan makes of them by the cost model.
    `random` draws a plan of its own for every seed, and its step is chosen on a draw that is not among them.
    """
    head = {"method": method, "energy_j": budget.energy_j, "delay_s": budget.delay_s}
    drawn = method == "random"
    first = choose(setting, budget, method, smoke=smoke, seed=tuning[0] if drawn else 0)
    step = None if first is None else step_of(setting, first, tuning, steps)
    rows = []
    for seed in seeds:
        choice = choose(setting, budget, method, smoke=smoke, seed=seed) if drawn else first
        if choice is None or step is None:
            rows.append({**head, "seed": seed, "accuracy": None})
            continue
        score = judged(setting, choice, step, seed)
        rows.append({**head, "seed": seed, **vars(score), "step": step, **facts(choice)})
    return rows


def facts(choice: Choice) -> dict[str, Any]:
    """The plan in a row's cells."""
    used = choice.finetune.rounds > 0
    return {
        "pretrain": choice.pretrain.rounds,
        "finetune": choice.finetune.rounds,
        "server_batch": choice.pretrain.batch if choice.pretrain.rounds else 0,
        "device_samples": int(choice.finetune.batch.sum()) if used else 0,
        "pretrain_share": choice.pretrain_share,
        "spent_j": choice.energy_j,
        "took_s": choice.delay_s,
        "predicted": choice.predicted,
    }


def curve_of(
    setting: Setting, choice: Choice, step: float, seed: int, *, marks: int = 12
) -> Iterator[dict[str, float | int | str]]:
    """Rows along one run: rounds, delay and energy so far, accuracy and loss on the test half."""
    field, runs = field_of(setting), choice.runs_as
    m, n = choice.pretrain.rounds, choice.finetune.rounds
    before = choice.pretrain.round_s * m
    first = _server_energy(setting, choice)
    each = (choice.energy_j - m * first) / n if n else 0.0
    try:
        for (done, tuned), model in path(
            field, step, seed, runs["server_batch"], _marks(m, marks), runs["batches"], _marks(n, marks)
        ):
            score = scored(model, field.ground.task, field.test)
            yield {
                "stage": "finetune" if tuned else "pretrain",
                "round": tuned or done,
                "at_delay_s": done * choice.pretrain.round_s if not tuned else before + tuned * choice.finetune.round_s,
                "at_energy_j": done * first + tuned * each,
                **vars(score),
            }
    except RunFailed:
        return


def _marks(rounds: int, marks: int) -> list[int]:
    return sorted({0, *(int(r) for r in np.round(np.linspace(0, rounds, marks)))}) if rounds else [0]


def _server_energy(setting: Setting, choice: Choice) -> float:
    if not choice.pretrain.rounds:
        return 0.0
    return float(cost.pretrain_round(scenario_of(setting), choice.pretrain.batch, choice.pretrain.clock_hz).energy_j)
