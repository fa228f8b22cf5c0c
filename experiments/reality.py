"""Plans where things depart from them: static, robust, controlled, planned anew, clairvoyant, at equal budgets.

    python experiments/reality.py [--seeds 20] [--scenes NAME,...] [--part PART] [--no-training]

`compare` writes results/reality.csv: the criterion of the rounds done and, of a model really trained, test loss and
accuracy, for every scene (`reality_scenes`), policy (`reality_policies`) and seed; what is in the file already is not
done again. `letter` writes results/reality_letter.csv: the static plans as their promises have it (`reality_letter`).
`savings` writes results/reality_savings.csv: what clocks and powers chosen round by round save of both
budgets for the same rounds and batches, under Rayleigh fading. `table` writes all of it into docs/reality.md, with
docs/images/reality.svg. A quarter of an hour on one core; with ``--seeds 2 --scenes rayleigh,lost`` half a minute.
Where 20 seeds said too little of the accuracy there are 60: ``--seeds 60 --scenes "absences,lost,hot,lying clocks"``.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, Ticker, read_rows, write_rows
from reality_learn import Learner
from reality_letter import to_the_letter
from reality_policies import CLAIRVOYANT, POLICIES, STEERED, UNTRAINED, Setting
from reality_scenes import SCENES
from reality_table import write_page

from pretune.control.rules import Rules
from pretune.control.simulate import simulate, steer
from pretune.errors import InputError


def compare(seeds: int, scenes: Sequence[str], target: Path, *, train: bool) -> None:
    """The results' rows, in the order of the scenes; seeds that are there already are not done again."""
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = list(read_rows(target)) if target.is_file() else []
    todo = []
    for begin in range(0, seeds, 10):  # some of every scene first
        for scene in scenes:
            for seed in range(begin, min(begin + 10, seeds)):
                held = [row for row in rows if row["scene"] == scene and int(row["seed"]) == seed]
                wanted = train and seed < SCENES[scene].trains
                if not held or (wanted and held[0]["test_loss"] == "nan"):
                    todo.append((scene, seed))
    ticker, before = Ticker("seeds", len(todo)), ""
    for scene, seed in todo:
        if scene != before:
            setting, before = Setting(SCENES[scene]), scene
            learner = Learner(setting.scenarios["mean"]) if train and SCENES[scene].trains else None
        made = _seed(setting, learner if seed < SCENES[scene].trains else None, seed)
        rows = [row for row in rows if not (row["scene"] == scene and int(row["seed"]) == seed)] + made
        order = list(SCENES)
        rows.sort(key=lambda row: (order.index(row["scene"]), int(row["seed"])))
        write_rows(target, rows)
        ticker(1)


def _seed(setting: Setting, learner: Learner | None, seed: int) -> list[dict[str, Any]]:
    """All policies on one seed of a scene."""
    runs = {policy: setting.carried_out(policy, seed) for policy in POLICIES}
    last = runs["re-planning"]
    runs[CLAIRVOYANT], best = setting.foreseen(seed, (len(last.pretrain), len(last.shares)))
    if learner is not None:
        learner.pretrained.clear()
    rows, nothing = [], (math.nan, math.nan)
    for policy, ran in runs.items():
        loss, accuracy = nothing if learner is None or policy in UNTRAINED else learner.learnt(ran, seed)
        rows.append(
            {
                "scene": setting.scene.name,
                "policy": policy,
                "seed": seed,
                "criterion": ran.value,
                "bound": best.bound,
                "test_loss": loss,
                "test_accuracy": accuracy,
                "pretrain": len(ran.pretrain),
                "finetune": len(ran.shares),
                "energy_j": ran.energy_j,
                "delay_s": ran.delay_s,
                "in_planned_time": "" if ran.kept is None else ran.kept,
                "breaks": "" if ran.breaks is None else int(ran.breaks),
                "present": ran.present,
                "replans": ran.replans,
                "stop": ran.stop[:70],
            }
        )
    return rows


def savings(seeds: int, target: Path) -> None:
    """What control saves: the fixed powers' run first, then the same rounds within what that one took."""
    setting, rows = Setting(SCENES["rayleigh"]), []
    mean = setting.scenarios["mean"]
    wide = mean.with_budget(energy_j=100.0, delay_s=1000.0)
    plan = dataclasses.replace(setting.plans["mean"], scenario_sha256=wide.sha256)
    for seed in range(seeds):
        truth: Any = setting.scene.truth(seed)
        base = dataclasses.replace(setting.outlooks["static"], scenario=wide, plan=plan, _known={})
        fixed = simulate(steer(wide, plan, Rules(), truth, outlook=base))
        tight = wide.with_budget(energy_j=fixed.energy_j, delay_s=fixed.delay_s)
        again = dataclasses.replace(plan, scenario_sha256=tight.sha256)
        other = dataclasses.replace(setting.outlooks["control"], scenario=tight, plan=again, _known={})
        steered = simulate(steer(tight, again, STEERED, truth, outlook=other))
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
    write_rows(target, rows)


def letter(seeds: int, scenes: Sequence[str], target: Path) -> None:
    """The static plans carried out to the letter."""
    write_rows(target, [row for scene in scenes for row in to_the_letter(Setting(SCENES[scene]), seeds)])


def main() -> None:
    """All parts, or one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--scenes", default=",".join(SCENES), help="names, with commas")
    parser.add_argument("--part", choices=["compare", "letter", "savings", "table"])
    parser.add_argument("--no-training", action="store_true", help="the criterion alone, which is quick")
    wanted = parser.parse_args()
    scenes = wanted.scenes.split(",")
    if not set(scenes) <= set(SCENES):
        raise InputError.field("--scenes", wanted.scenes, f"names of {', '.join(SCENES)}")
    results, saved, lettered = (RESULTS / f"reality{name}.csv" for name in ("", "_savings", "_letter"))
    parts: dict[str, Callable[[], None]] = {
        "compare": lambda: compare(wanted.seeds, scenes, results, train=not wanted.no_training),
        "letter": lambda: letter(wanted.seeds, scenes, lettered),
        "savings": lambda: savings(wanted.seeds, saved),
        "table": lambda: write_page(
            *(read_rows(path) if path.is_file() else [] for path in (results, saved, lettered))
        ),
    }
    for name, part in parts.items():
        if wanted.part in (None, name):
            part()


if __name__ == "__main__":
    main()
