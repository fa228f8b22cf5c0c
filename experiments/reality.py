"""Plans under fading: static, robust, controlled, planned anew, and clairvoyant, at equal budgets.

    python experiments/reality.py [--seeds 20] [--part compare|savings|table] [--no-training]

`compare` writes results/reality.csv: the criterion of the rounds done and, of a model really trained, test loss and
accuracy, for every policy and every seed of the fading. `savings` writes results/reality_savings.csv: what clocks and
powers chosen round by round save of both budgets for the same rounds and batches. `table` writes both into
docs/reality.md. In all of them every device is left out in the tenth of the rounds in which its channel is worst.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clairvoyant import Clairvoyant
from common import HERE, RESULTS, TASKS, Ticker, read_rows, write_rows
from scipy import stats

import pretune
from pretune.control.outlook import Outlook
from pretune.control.rules import Control, Replan, Rules
from pretune.control.simulate import simulate, steer
from pretune.control.steering import Round
from pretune.convergence.progress import Progress
from pretune.ledger import Stage
from pretune.plans import Plan
from pretune.reality import Conditions, Reality
from pretune.runtime.evaluate import evaluate
from pretune.runtime.gradient import step
from pretune.runtime.live import crew_of
from pretune.runtime.load import load_task
from pretune.runtime.local import Crew
from pretune.runtime.partition import Holdings, hold
from pretune.runtime.replan import Replanner
from pretune.runtime.task import Task
from pretune.scenario import Scenario

OUTAGE = 0.1
VARIATION = {"fading": {"kind": "rayleigh"}}
STEERED = Rules(control=Control.ROUNDS)
POLICIES: dict[str, tuple[str, Rules]] = {
    "static": ("mean", Rules()),
    "static, outage plan": ("outage", Rules()),
    "static, ergodic plan": ("ergodic", Rules()),
    "control": ("mean", STEERED),
    "re-planning": ("mean", dataclasses.replace(STEERED, replan=Replan.AUTO)),
}
CLAIRVOYANT = "clairvoyant"
DRAWS = 10_000
BEGIN = "<!-- written by experiments/reality.py --part table: do not edit -->"
END = "<!-- end of what is written -->"


class Setting:
    """The scenario under each kind of planning, its plans, and what they have in common."""

    def __init__(self) -> None:
        bare = pretune.load_scenario(TASKS["digits"])
        self.scenarios = {
            "mean": bare.replace(variation=VARIATION),
            "outage": bare.replace(variation=VARIATION, planning={"under": "outage", "outage": OUTAGE}),
            "ergodic": bare.replace(variation=VARIATION, planning={"under": "ergodic", "outage": OUTAGE}),
        }
        self.plans = {kind: _planned(kind, scenario) for kind, scenario in self.scenarios.items()}
        self.outlooks: dict[str, Outlook] = {}
        reality = Reality.of(self.scenarios["mean"])
        self.least = Outlook.of(self.scenarios["ergodic"], self.plans["ergodic"], Rules(), reality).least_gain
        for name, (kind, rules) in POLICIES.items():
            made = Outlook.of(self.scenarios[kind], self.plans[kind], rules, reality)
            # who takes part is the same for all, and how likely that is, is known
            chance = np.full(len(self.least), 1.0 - OUTAGE)
            self.outlooks[name] = dataclasses.replace(made, least_gain=self.least, probability=chance, _known={})

    def conditions(self, seed: int, count: int) -> list[Conditions]:
        """What the rounds of a seed meet; with independent fading it does not matter how long they take."""
        reality = Reality.of(self.scenarios["mean"], seed)
        state, found = reality.start(), []
        for _ in range(count):
            state, met = reality.next(state, 0.01)
            found.append(met)
        return found


def _planned(kind: str, scenario: Scenario) -> Plan:
    cache = RESULTS / f"reality_plan_{kind}.json"
    if cache.is_file():
        plan = pretune.load_plan(cache) if hasattr(pretune, "load_plan") else _load(cache)
        if plan.scenario_sha256 == scenario.sha256:
            return plan
    plan = pretune.plan(scenario)
    plan.save(cache)
    return plan


def _load(path: Path) -> Plan:
    from pretune.plans import load_plan

    return load_plan(path)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ran:
    """The rounds that a policy carried out, for training: batches and weights per fine-tuning round."""

    value: float
    pretrain: list[int]
    rounds: list[Any]
    energy_j: float
    delay_s: float
    stop: str


def carried_out(setting: Setting, policy: str, seed: int) -> Ran:
    """One policy on one seed's fading, without training."""
    kind, rules = POLICIES[policy]
    scenario, outlook = setting.scenarios[kind], setting.outlooks[policy]
    planner = Replanner(scenario) if rules.replan is not Replan.OFF else None
    steering = steer(scenario, setting.plans[kind], rules, Reality.of(scenario, seed), planner=planner, outlook=outlook)
    done: list[Round] = []
    batches: list[int] = []
    whole = steering.pretrained
    steering.pretrained = lambda move: (batches.append(move.batch), whole(move))[1]  # type: ignore[method-assign]
    found = simulate(steering, done.append)
    return Ran(
        value=value_of(setting, batches, [(one.move.who, one.move.batch) for one in done]),
        pretrain=batches,
        rounds=done,
        energy_j=found.energy_j,
        delay_s=found.delay_s,
        stop=found.stop.why,
    )


def value_of(setting: Setting, pretrain: Sequence[int], rounds: Sequence[tuple[Any, Any]]) -> float:
    """The criterion of the rounds that were done, the same way for all: noise is counted where a device took part."""
    outlook = setting.outlooks["static"]
    alive = np.ones(len(setting.least), dtype=np.bool_)
    criterion, noise = outlook.criterion_of(alive), outlook.noise_of(alive) / outlook.probability
    progress = Progress.start(criterion)
    for batch in pretrain:
        progress = progress.pretrained(criterion, batch)
    for who, batch in rounds:
        progress = progress.finetuned(criterion, float((noise[who] / batch[who]).sum()))
    return progress.value(criterion)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Move:
    batch: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Done:
    done: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Known:
    """A round of the clairvoyant's, as `crew_of` takes one."""

    move: _Move
    outcome: _Done
    shares: Any


def foreseen(setting: Setting, seed: int, start: tuple[int, int]) -> Ran:
    """The clairvoyant's run."""
    scenario, outlook = setting.scenarios["mean"], setting.outlooks["static"]
    met = setting.conditions(seed, 2 * start[1] + 20)
    who = [one.available & (one.gain >= setting.least) for one in met]
    solver = Clairvoyant(scenario, outlook, met, who)
    value, rounds, spent = solver.best(start)
    if spent is None:
        raise RuntimeError(f"seed {seed}: nothing fits")
    weights = scenario.devices.weight / outlook.probability
    done = []
    for j in range(rounds[1]):
        batch = np.where(who[j], np.maximum(np.floor(spent.batches[j]), 1), 0).astype(np.int64)
        shares = np.where(who[j], weights, 0.0)
        done.append(_Known(move=_Move(batch=batch), outcome=_Done(done=who[j]), shares=shares))
    return Ran(
        value=value,
        pretrain=[int(spent.server_batch)] * rounds[0],
        rounds=done,
        energy_j=spent.energy_j,
        delay_s=spent.delay_s,
        stop="all rounds were done",
    )


class Learner:
    """Trains what policies carried out; pre-training that several have in common is done once."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.task: Task = load_task(scenario.task, HERE)
        self.held: Holdings = hold(self.task, scenario)
        self.pretrained: dict[tuple[int, tuple[int, ...]], dict[str, Any]] = {}

    def learnt(self, ran: Ran, seed: int) -> tuple[float, float]:
        """Test loss and accuracy of the model that the run's rounds make."""
        task, held, c = self.task, self.held, self.scenario.convergence
        model = task.build(seed)
        model.train()
        key = seed, tuple(ran.pretrain)
        if key not in self.pretrained:
            size = np.array([len(held.general)])
            for number, batch in enumerate(ran.pretrain, start=1):
                crew = Crew.of(Stage.PRETRAIN, held.general, size, np.array([batch]), np.ones(1))
                step(model, crew.gradient(model, task.loss, seed, number), float(c.pretrain_step or 0.0))
            self.pretrained[key] = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.pretrained[key])
        for number, one in enumerate(ran.rounds, start=1):
            if one.outcome.done.any():
                gradient = crew_of(held, one, None).gradient(model, task.loss, seed, number)
                step(model, gradient, float(c.finetune_step or 0.0))
        score = evaluate(model, task.loss, task.test)
        return score.loss, float(score.accuracy or 0.0)


def compare(seeds: int, *, train: bool) -> None:
    """The table's rows; seeds that are in the results already are not done again."""
    torch.set_num_threads(1)
    setting = Setting()
    learner = Learner(setting.scenarios["mean"])
    target = RESULTS / "reality.csv"
    rows: list[dict[str, Any]] = list(read_rows(target)) if target.is_file() else []
    key = "test_loss" if train else "criterion"
    whole = {seed: sum(int(row["seed"]) == seed and row[key] != "nan" for row in rows) for seed in range(seeds)}
    todo = [seed for seed in range(seeds) if whole[seed] <= len(POLICIES)]
    ticker = Ticker("seeds", len(todo))
    for seed in todo:
        runs = {policy: carried_out(setting, policy, seed) for policy in POLICIES}
        last = runs["re-planning"]
        runs[CLAIRVOYANT] = foreseen(setting, seed, (len(last.pretrain), len(last.rounds)))
        rows = [row for row in rows if int(row["seed"]) != seed]
        learner.pretrained.clear()
        for policy, ran in runs.items():
            loss, accuracy = learner.learnt(ran, seed) if train else (math.nan, math.nan)
            rows.append(
                {
                    "policy": policy,
                    "seed": seed,
                    "criterion": ran.value,
                    "test_loss": loss,
                    "test_accuracy": accuracy,
                    "pretrain": len(ran.pretrain),
                    "finetune": len(ran.rounds),
                    "energy_j": ran.energy_j,
                    "delay_s": ran.delay_s,
                    "stop": ran.stop[:70],
                }
            )
        write_rows(target, rows)
        ticker(1)


def savings(seeds: int) -> None:
    """What control saves: the fixed powers' run first, then the same rounds within what that one took."""
    setting, rows = Setting(), []
    wide = setting.scenarios["mean"].with_budget(energy_j=100.0, delay_s=1000.0)
    plan = dataclasses.replace(setting.plans["mean"], scenario_sha256=wide.sha256)
    for seed in range(seeds):
        base = dataclasses.replace(setting.outlooks["static"], scenario=wide, plan=plan, _known={})
        fixed = simulate(steer(wide, plan, Rules(), Reality.of(wide, seed), outlook=base))
        tight = wide.with_budget(energy_j=fixed.energy_j, delay_s=fixed.delay_s)
        again = dataclasses.replace(plan, scenario_sha256=tight.sha256)
        other = dataclasses.replace(setting.outlooks["control"], scenario=tight, plan=again, _known={})
        steered = simulate(steer(tight, again, STEERED, Reality.of(tight, seed), outlook=other))
        rows.append(
            {
                "seed": seed,
                "rounds_fixed": fixed.finetune,
                "rounds_control": steered.finetune,
                "same_criterion": int(math.isclose(fixed.value, steered.value, rel_tol=1e-12)),
                "energy_fixed_j": fixed.energy_j,
                "energy_control_j": steered.energy_j,
                "delay_fixed_s": fixed.delay_s,
                "delay_control_s": steered.delay_s,
            }
        )
    write_rows(RESULTS / "reality_savings.csv", rows)


def mean_and_half(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half its 95 % interval (Student's t)."""
    column = np.array(values, dtype=np.float64)
    half = stats.t.ppf(0.975, len(column) - 1) * column.std(ddof=1) / math.sqrt(len(column))
    return float(column.mean()), float(half)


def closed(static: Sequence[float], policy: Sequence[float], best: Sequence[float]) -> tuple[float, float, float]:
    """The share of the gap that is closed, of the means, and its 95 % interval by resampling the seeds in pairs."""
    s, p, b = (np.array(column, dtype=np.float64) for column in (static, policy, best))
    whole = float((s - p).mean() / (s - b).mean())
    pick = np.random.default_rng(0).integers(0, len(s), (DRAWS, len(s)))
    shares = (s - p)[pick].mean(axis=1) / (s - b)[pick].mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return whole, float(low), float(high)


def table() -> None:
    """The tables of docs/reality.md, from the results."""
    rows = read_rows(RESULTS / "reality.csv")
    names = list(dict.fromkeys(row["policy"] for row in rows))
    columns = {
        name: {
            key: [float(row[key]) for row in rows if row["policy"] == name]
            for key in ("criterion", "test_loss", "test_accuracy", "pretrain", "finetune")
        }
        for name in names
    }
    seeds = len(columns["static"]["criterion"])
    lines = [
        f"Means over {seeds} seeds of Rayleigh fading, with 95 % intervals (Student's t).",
        "",
        "| policy | rounds | criterion | test loss | test accuracy, % |",
        "|---|---|---|---|---|",
    ]

    def cell(name: str, key: str, scale: float = 1.0, digits: int = 4) -> str:
        middle, half = mean_and_half([scale * value for value in columns[name][key]])
        if math.isnan(middle):
            return "not measured"
        return f"{middle:.{digits}f} ± {half:.{digits}f}"

    for name in names:
        rounds = " + ".join(f"{np.mean(columns[name][key]):.0f}" for key in ("pretrain", "finetune"))
        parts = (cell(name, "criterion"), cell(name, "test_loss"), cell(name, "test_accuracy", 100.0, 2))
        lines.append(f"| {name} | {rounds} | {' | '.join(parts)} |")
    lines += [
        "",
        "Share of the gap between the static plan and the clairvoyant that is closed (ratio of means; 95 % intervals "
        f"by {DRAWS:,} resamplings of the seeds):",
        "",
        "| policy | of the criterion | of the test loss | of the test accuracy |",
        "|---|---|---|---|",
    ]
    for name in names:
        if name in ("static", CLAIRVOYANT):
            continue
        cells = []
        for key in ("criterion", "test_loss", "test_accuracy"):
            share, low, high = closed(columns["static"][key], columns[name][key], columns[CLAIRVOYANT][key])
            if math.isnan(share):
                cells.append("not measured")
                continue
            cells.append(f"{share:.1%} ({low:.1%} to {high:.1%})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    saved = RESULTS / "reality_savings.csv"
    if saved.is_file():
        found = read_rows(saved)
        for key, what in (("energy", "j"), ("delay", "s")):
            share = [1 - float(row[f"{key}_control_{what}"]) / float(row[f"{key}_fixed_{what}"]) for row in found]
            middle, half = mean_and_half([100.0 * value for value in share])
            word = "For the same rounds and batches (so the same model), control took" if key == "energy" else "and"
            lines += ["", f"{word} {middle:.1f} ± {half:.1f} % less {key} than the plan's fixed clocks and powers."]
        same = sum(int(row["same_criterion"]) for row in found)
        lines += ["", f"({same} of {len(found)} seeds: the same number of rounds done, the same criterion.)"]
    page = HERE.parent / "docs" / "reality.md"
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    page.write_text(head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END, 1)[1], encoding="utf-8")
    sys.stdout.write("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--part", choices=["compare", "savings", "table"])
    parser.add_argument("--no-training", action="store_true", help="the criterion alone, which is quick")
    wanted = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "compare": lambda: compare(wanted.seeds, train=not wanted.no_training),
        "savings": lambda: savings(wanted.seeds),
        "table": table,
    }
    for name, part in parts.items():
        if wanted.part in (None, name):
            part()


if __name__ == "__main__":
    main()
