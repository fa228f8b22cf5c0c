"""What wrong variances cost a plan, and how much of it re-planning with the variances a run finds makes good.

    python experiments/wrong_constants.py [--seeds 20] [--part compare|cost|table]

The digits example, its channels constant, with both gradient variances stated wrongly by a factor. The criterion is
that of the rounds really done, under the example's own (measured) constants; the models are really trained. `compare`
writes results/wrong_constants.csv (seeds that are in it already are not done again), `cost` how much longer a round's
gradient takes in halves (results/wrong_constants_cost.csv), `table` writes both into docs/reality.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from common import HERE, RESULTS, TASKS, Ticker, read_rows, write_rows
from reality_table import closed, mean_and_half

import pretune
from pretune.control.rules import Control, Replan, Rules, ServerMove, Stop
from pretune.control.simulate import steer
from pretune.convergence.criteria import criterion_of, device_noise
from pretune.convergence.progress import Progress
from pretune.ledger import Stage
from pretune.plans import Plan
from pretune.reality import Reality
from pretune.runtime.evaluate import evaluate
from pretune.runtime.gradient import step
from pretune.runtime.halves import halved_gradient
from pretune.runtime.live import crew_of
from pretune.runtime.load import load_task
from pretune.runtime.local import Crew
from pretune.runtime.partition import hold
from pretune.runtime.replan import Replanner
from pretune.scenario import Scenario

FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
ANEW = Rules(control=Control.ROUNDS, replan=Replan.AUTO)
RIGHT = "static plan, right constants"
STATIC = "static plan"
POLICIES = {
    STATIC: Rules(),
    "re-planning": dataclasses.replace(ANEW, constants=False),
    "re-planning, variances estimated": ANEW,
}
COLUMNS = ("criterion", "test_loss", "test_accuracy", "pretrain", "finetune", "replans")
BEGIN = "<!-- written by experiments/wrong_constants.py --part table: do not edit -->"
END = "<!-- end of what is written about wrong constants -->"


class Setting:
    """The scenarios and their plans by factor, and what is learnt."""

    def __init__(self) -> None:
        self.right = pretune.load_scenario(TASKS["digits"])
        c = self.right.convergence
        same = c.model_dump(exclude_unset=True)
        self.scenarios: dict[float, Scenario] = {
            factor: self.right.replace(
                convergence={
                    **same,
                    "pretrain_variance": factor * c.pretrain_variance,
                    "finetune_variance": factor * c.finetune_variance,
                }
            )
            for factor in FACTORS
        }
        self.plans: dict[float, Plan] = {factor: pretune.plan(one) for factor, one in self.scenarios.items()}
        self.task = load_task(self.right.task, HERE)
        self.held = hold(self.task, self.right)

    def carried_out(self, factor: float, rules: Rules, seed: int) -> dict[str, Any]:
        """A run with training; a row of the results."""
        scenario, plan, lines = self.scenarios[factor], self.plans[factor], list[Any]()
        planner = Replanner(scenario) if rules.replan is not Replan.OFF else None
        steering = steer(scenario, plan, rules, Reality.of(scenario, seed), planner=planner, log=lines.append)
        steering.estimate()
        task, held, c = self.task, self.held, scenario.convergence
        model = task.build(seed)
        model.train()
        criterion, noise = criterion_of(self.right), device_noise(self.right)
        progress = Progress.start(criterion)
        everything, stated = np.array([len(held.general)]), np.array([c.pretrain_variance])
        while not isinstance(move := steering.next(), Stop):
            look = None
            if isinstance(move, ServerMove):
                batch = np.array([move.batch])
                crew, variance = Crew.of(Stage.PRETRAIN, held.general, everything, batch, np.ones(1)), stated
                done, number, size = None, progress.pretrain + 1, c.pretrain_step
                progress = progress.pretrained(criterion, move.batch)
            else:
                done = steering.carried_out(move)
                crew, variance = crew_of(held, done, None), scenario.finetune_variances
                number, size = progress.finetune + 1, c.finetune_step
                if not done.outcome.done.all():
                    raise RuntimeError("every device should take part where nothing varies")
                progress = progress.finetuned(criterion, float((noise / move.batch).sum()))
            if steering.estimates:
                gradient, look = halved_gradient(crew, model, task.loss, seed, number, variance)
            else:
                gradient = crew.gradient(model, task.loss, seed, number)
            step(model, gradient, size)
            if isinstance(move, ServerMove):
                steering.pretrained(move, look)
            elif done is not None:
                steering.finetuned(done, look)
        score, now = evaluate(model, task.loss, task.test), steering.standing
        if now.energy_left < 0.0 or now.delay_left < 0.0:
            raise RuntimeError(f"factor {factor}, seed {seed}: a budget was overspent")
        return {
            "criterion": progress.value(criterion),
            "test_loss": score.loss,
            "test_accuracy": float(score.accuracy or 0.0),
            "pretrain": progress.pretrain,
            "finetune": progress.finetune,
            "replans": sum(line["cause"].startswith("constants") for line in lines),
            "server_used": now.noise.server_ratio * factor if now.noise else math.nan,
            "devices_used": now.noise.devices_ratio * factor if now.noise else math.nan,
            "stop": move.why[:70],
        }


def compare(seeds: int) -> None:
    """The rows of all seeds."""
    torch.set_num_threads(1)
    target = RESULTS / "wrong_constants.csv"
    rows: list[dict[str, Any]] = list(read_rows(target)) if target.is_file() else []
    whole = {seed: sum(int(row["seed"]) == seed for row in rows) for seed in range(seeds)}
    todo = [seed for seed in range(seeds) if whole[seed] < 1 + len(FACTORS) * len(POLICIES)]
    setting = Setting() if todo else None
    ticker = Ticker("seeds", max(len(todo), 1))
    for seed in todo:
        assert setting is not None
        rows = [row for row in rows if int(row["seed"]) != seed]
        for factor in FACTORS:
            for policy, rules in POLICIES.items():
                found = setting.carried_out(factor, rules, seed)
                rows.append({"policy": policy, "factor": factor, "seed": seed, **found})
                if factor == 1.0 and policy == STATIC:
                    rows.append({"policy": RIGHT, "factor": "", "seed": seed, **found})
        write_rows(target, rows)
        ticker(1)


def cost(repeats: int = 300) -> None:
    """CPU time of a fine-tuning round's gradient, in one go and in halves, in turns."""
    torch.set_num_threads(1)
    scenario = pretune.load_scenario(TASKS["digits"])
    task = load_task(scenario.task, HERE)
    held, model = hold(task, scenario), task.build(0)
    batch = np.maximum(held.sizes * 2 // 3, 1)
    crew = Crew.of(Stage.FINETUNE, held.task, held.sizes, batch, np.array(scenario.devices.weight))
    spent = {"whole": 0.0, "halves": 0.0}
    for number in range(1, repeats + 20):
        for way in spent:
            began = time.process_time()
            if way == "whole":
                crew.gradient(model, task.loss, 0, number)
            else:
                halved_gradient(crew, model, task.loss, 0, number, scenario.finetune_variances)
            if number >= 20:
                spent[way] += time.process_time() - began
    row = {f"{way}_ms": 1e3 * seconds / repeats for way, seconds in spent.items()}
    write_rows(RESULTS / "wrong_constants_cost.csv", [{"samples": int(batch.sum()), **row}])


def table() -> None:
    """The table of docs/reality.md, from the results."""
    rows = read_rows(RESULTS / "wrong_constants.csv")
    seeds = sorted({int(row["seed"]) for row in rows})

    def column(policy: str, factor: float | None, key: str) -> list[float]:
        kept = {
            int(row["seed"]): float(row[key])
            for row in rows
            if row["policy"] == policy and (float(row["factor"]) if row["factor"] else None) == factor
        }
        return [kept[seed] for seed in seeds]

    def cell(policy: str, factor: float | None, key: str, scale: float = 1.0, digits: int = 4) -> str:
        middle, half = mean_and_half([scale * value for value in column(policy, factor, key)])
        return f"{middle:.{digits}f}" if half < 0.5 * 10.0**-digits else f"{middle:.{digits}f} ± {half:.{digits}f}"

    def share(policy: str, factor: float, key: str) -> str:
        found = closed(column(STATIC, factor, key), column(policy, factor, key), column(RIGHT, None, key))
        return "{:.0%} ({:.0%} to {:.0%})".format(*found)

    lines = [
        f"Means over {len(seeds)} seeds, with 95 % intervals (Student's t). The last columns: the share of the gap "
        "between the static plan and the one with right constants that is closed (ratio of means; 95 % intervals by "
        "resampling the seeds), given where that gap is clear.",
        "",
        "| variances stated as | policy | rounds | criterion | test loss | test accuracy, % | gap closed: criterion "
        "| gap closed: test loss |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for factor in (None, *FACTORS):
        for policy in (RIGHT,) if factor is None else POLICIES:
            rounds = " + ".join(f"{np.mean(column(policy, factor, key)):.0f}" for key in ("pretrain", "finetune"))
            parts = [
                cell(policy, factor, "criterion"),
                cell(policy, factor, "test_loss"),
                cell(policy, factor, "test_accuracy", 100.0, 2),
            ]
            for key in ("criterion", "test_loss"):
                if (
                    factor is None
                    or policy == STATIC
                    or not clear(column(STATIC, factor, key), column(RIGHT, None, key))
                ):
                    parts.append("-")
                else:
                    parts.append(share(policy, factor, key))
            name = "right" if factor is None else f"{factor:g} times"
            lines.append(f"| {name} | {policy} | {rounds} | {' | '.join(parts)} |")
    estimated = list(POLICIES)[-1]
    counts = ", ".join(f"{np.mean(column(estimated, factor, 'replans')):.1f} at {factor:g}" for factor in FACTORS)
    lines += ["", f"Re-plans because of constants, mean number in a run: {counts} times."]
    if (RESULTS / "wrong_constants_cost.csv").is_file():
        (took,) = read_rows(RESULTS / "wrong_constants_cost.csv")
        halves, whole = (f"{float(took[key]):.2f} ms" for key in ("halves_ms", "whole_ms"))
        said = f"A round's gradient over {took['samples']} samples takes {halves} of CPU in halves, {whole} in one go."
        lines += ["", said]
    page = HERE.parent / "docs" / "reality.md"
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    page.write_text(head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END, 1)[1], encoding="utf-8")
    sys.stdout.write("\n".join(lines) + "\n")


def clear(wrong: list[float], right: list[float]) -> bool:
    """Whether the wrong plan is worse in the mean by more than its 95 % interval, and by more than rounding."""
    middle, half = mean_and_half([a - b for a, b in zip(wrong, right, strict=True)])
    return middle > max(half, 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--part", choices=["compare", "cost", "table"])
    wanted = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {"compare": lambda: compare(wanted.seeds), "cost": cost, "table": table}
    for name, part in parts.items():
        if wanted.part in (None, name):
            part()


if __name__ == "__main__":
    main()
