"""Pilot runs: the same runs that a plan would give, interrupted and gone on with, counted, fitted, written."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_helpers import hand_plan, norm_task, relu_task, small_scenario, tiny_task

from pretune.cli import main
from pretune.cli.show_pilot import _refuse_moved, write_law
from pretune.convergence.design import batches_of, cost_of, design_for
from pretune.errors import InputError, RunFailed
from pretune.law import Law
from pretune.physics import cost
from pretune.plans import load_plan
from pretune.report.words import significant
from pretune.runtime.branches import Ground
from pretune.runtime.pilot import COLUMNS, run_pilot, with_law
from pretune.runtime.run import run
from pretune.scenario import load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def small_design(scenario, **changes):
    return design_for(
        scenario, **{"pretrain_rounds": 60, "finetune_rounds": 24, "arms": 2, "stops": 2, "marks": 4, **changes}
    )


def test_a_branch_is_the_run_that_a_plan_would_give(tmp_path):
    scenario, task = small_scenario(), tiny_task()
    result = run(hand_plan(scenario), scenario, out=tmp_path / "run", seed=3, task=task)
    ground = Ground.of(scenario, task)
    models = dict(ground.pretrain(3, 16, (5, 20)))
    marks = []
    for mark, model in ground.finetune(models[20], 3, np.array([12, 9, 6, 3]), (4, 10)):
        score = ground.score(model)
        marks.append(mark)
    assert marks == [4, 10]
    assert (score.loss, score.accuracy) == (result.test_loss, result.test_accuracy)
    for own, theirs in zip(model.parameters(), result.model.parameters(), strict=True):
        assert torch.equal(own, theirs)


def test_batch_norm_branches_too(tmp_path):
    scenario, task = small_scenario(), norm_task()
    result = run(hand_plan(scenario), scenario, out=tmp_path / "run", task=task)
    ground = Ground.of(scenario, task)
    ((_, start),) = ground.pretrain(0, 16, (20,))
    ((_, model),) = ground.finetune(start, 0, np.array([12, 9, 6, 3]), (10,))
    assert ground.score(model).loss == result.test_loss


def test_the_design_spreads_and_its_cost_is_that_of_the_cost_model():
    scenario = small_scenario()
    design = design_for(scenario, pretrain_rounds=1000, finetune_rounds=100)
    assert len({branch.stop for arm in design.arms for branch in arm.branches}) == 17
    assert max(arm.branches[-1].stop for arm in design.arms) == 1000
    assert design.marks[0] == 2
    assert design.marks[-1] == 100
    assert {branch.batch for arm in design.arms for branch in arm.branches} == {1, 3, 6, 16}
    spent, fleet = cost_of(scenario, design), scenario.devices
    joules = seconds = rounds = 0.0
    for arm in design.arms:
        one = cost.pretrain_round(scenario, arm.server_batch, scenario.server.max_clock_hz)
        joules += arm.branches[-1].stop * one.energy_j
        seconds += arm.branches[-1].stop * one.time_s
        rounds += arm.branches[-1].stop + 100 * len(arm.branches)
        for branch in arm.branches:
            batch = batches_of(scenario, branch.batch).astype(float)
            each = cost.finetune_round(scenario, batch, fleet.max_clock_hz, fleet.max_power_w)
            joules, seconds = joules + 100 * each.energy_j, seconds + 100 * each.time_s
    assert spent.energy_j == pytest.approx(joules)
    assert spent.time_s == pytest.approx(seconds)
    assert design.rounds == rounds == spent.pretrain_rounds + spent.finetune_rounds


def test_an_interrupted_pilot_goes_on_to_the_same_end(tmp_path):
    scenario, task = small_scenario(), tiny_task()
    design, told = small_design(scenario), []
    whole = run_pilot(scenario, design=design, task=task, families=("product",), beat=told.append)
    assert sum(told) == design.rounds
    file = tmp_path / "runs.json"

    class Stop(Exception):
        pass

    def stop(rounds: int) -> None:
        if file.exists():
            raise Stop

    with pytest.raises(Stop):
        run_pilot(scenario, file=file, design=design, task=task, families=("product",), beat=stop)
    held = json.loads(file.read_text())["rows"]
    assert 0 < len(held) < len(whole.rows)
    again = []
    resumed = run_pilot(scenario, file=file, design=design, task=task, families=("product",), beat=again.append)
    assert sorted(resumed.rows) == sorted(whole.rows)
    assert resumed.law == whole.law
    assert sum(again) == design.rounds
    tree = json.loads(file.read_text())
    assert tree["law"] == whole.law.to_dict()
    assert tree["cost"]["wall_s"] > 0.0
    before = file.read_bytes()
    assert run_pilot(scenario, file=file, design=design, task=task, families=("product",)).law == whole.law
    assert file.read_bytes() == before
    by_error = run_pilot(scenario, file=file, design=design, task=task, families=("product",), measure="error")
    assert by_error.law.measure == "error"


def test_rows_say_what_was_run():
    scenario, task = small_scenario(), tiny_task()
    pilot = run_pilot(scenario, design=small_design(scenario), task=task, families=("product",))
    table = {name: np.array(column) for name, column in zip(COLUMNS, zip(*pilot.rows, strict=True), strict=True)}
    assert set(table["finetune"]) == {0.0, *pilot.design.marks}
    untrained = (table["pretrain"] == 0) & (table["finetune"] == 0)
    assert table["loss"][untrained][0] == pytest.approx(
        Ground.of(scenario, task).score(task.build(int(table["seed"][untrained][0])).train()).loss
    )
    assert with_law(scenario, pilot.law).convergence.law == pilot.law


def test_refusals(tmp_path):
    scenario, task = small_scenario(), tiny_task()
    design = small_design(scenario)
    with pytest.raises(InputError, match="measure: holds 'auc', should hold loss or error"):
        run_pilot(scenario, design=design, task=task, measure="auc")
    file = tmp_path / "runs.json"
    file.write_text("{}")
    with pytest.raises(InputError, match="can't be read as pilot runs"):
        run_pilot(scenario, file=file, design=design, task=task)
    file.write_text(json.dumps({"identity": "other", "rows": [], "wall_s": 0.0}))
    with pytest.raises(InputError, match="holds pilot runs of another task, fleet or design"):
        run_pilot(scenario, file=file, design=design, task=task)
    for name, number in (("arms", 1), ("stops", 1), ("marks", 2)):
        with pytest.raises(InputError, match=f"{name}: holds {number}, should hold a whole number of at least"):
            design_for(scenario, **{name: number})
    with pytest.raises(InputError, match="pretrain_rounds: holds 3, should hold a whole number of at least 50"):
        design_for(scenario, pretrain_rounds=3)
    fast = small_scenario(
        convergence={**small_scenario().to_dict()["convergence"], "smoothness": 1e-9, "pretrain_step": 1e8}
    )
    with pytest.raises(RunFailed, match=r"a pilot run diverged at (pre-training|fine-tuning) round"):
        run_pilot(fast, design=design, task=relu_task())


def test_a_task_without_classes_has_no_error():
    scenario, task = small_scenario(), tiny_task()
    blurred = replace(task, loss=lambda output, target: (output.mean(dim=1) - target.float()).square() + 0.1)
    samples = {name: getattr(task, name) for name in ("general", "train", "test")}
    floats = {name: type(part)(x=part.x, y=part.y.float()) for name, part in samples.items()}
    regression = replace(blurred, **floats)
    with pytest.raises(InputError, match="measure: holds 'error', should hold loss"):
        run_pilot(scenario, design=small_design(scenario), task=regression, measure="error", families=("product",))


def test_the_command(tmp_path, capsys):
    scenario = small_scenario()
    path, out = tmp_path / "small.json", tmp_path / "law.json"
    path.write_text(json.dumps(scenario.to_dict()))
    words = ["pilot", str(path), "-o", str(out), "--pretrain-rounds", "60", "--finetune-rounds", "24", "--stops", "2"]
    words += ["--measure", "loss"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert load_scenario(out).convergence.law.to_dict() == told["law"]
    assert told["cost"]["finetune_rounds"] == 240
    plan = tmp_path / "plan.json"
    assert main(["plan", str(out), "-o", str(plan), "-q", "--tolerance", "0.01"]) == 0
    assert main(["check", str(plan), str(out), "-q"]) == 0
    capsys.readouterr()
    assert main(["plan", str(out), "--tolerance", "0.01"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "as predicted by a law fitted to pilot runs" in shown
    low = load_plan(plan).objective * math.exp(-told["law"]["spread"])
    assert f"a test loss from {significant(low, 3)} to" in shown
    assert main([*words, "-q"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*words[:3], str(tmp_path / "law.toml")]) == 2
    assert "has the suffix '.toml', should have one of .yaml, .yml, .json" in capsys.readouterr().err


def test_a_yaml_file_keeps_its_comments(tmp_path):
    text = (EXAMPLES / "digits.yaml").read_text(encoding="utf-8")
    path, out = tmp_path / "digits.yaml", tmp_path / "law.yaml"
    path.write_text(text, encoding="utf-8")
    law = Law.read(
        {
            "family": "decay",
            "floor": 0.1,
            "scale": 2.0,
            "finetune_rounds": 50,
            "pretrain_rounds": 90,
            "shift_share": 0.3,
            "pretrain_noise": 0.1,
            "finetune_noise": 0.1,
            "noise_power": 1,
            "pretrain_most": 100,
            "finetune_most": 100,
        }
    )
    write_law(load_scenario(path), path, out, law)
    assert load_scenario(out) == with_law(load_scenario(path), law)
    comments = [line.partition("#")[2] for line in text.splitlines() if "#" in line]
    kept = out.read_text(encoding="utf-8")
    assert [words for words in comments if words not in kept] == [" the optimality gap of the model that is delivered"]
    own = tmp_path / "own.yaml"
    own.write_text(text.replace("name: digits\n  rotation", "file: own.py\n  rotation"), encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with pytest.raises(InputError, match=r"whose task\.file is relative to it"):
        _refuse_moved(load_scenario(own), own, elsewhere / "law.yaml")
