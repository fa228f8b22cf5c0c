"""The shipped examples: they load, their figures are what the measuring script measures, and they run."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runtime_helpers import hand_plan

import pretune
from pretune.runtime.run import run
from pretune.scenario import Criterion, load_scenario

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def _measure_demo():
    spec = importlib.util.spec_from_file_location("measure_demo", EXAMPLES / "measure_demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["digits", "own_task"])
def test_figures_are_those_that_are_measured(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["measure_demo.py", str(EXAMPLES / f"{name}.yaml"), "--check"])
    assert _measure_demo().main() == 0
    printed = capsys.readouterr().out
    assert "all figures in the file agree with these to 5%" in printed
    assert "largest Hessian eigenvalue of the task loss" in printed


def test_measuring_writes_the_numbers_and_leaves_the_rest(tmp_path, monkeypatch, capsys):
    text = (EXAMPLES / "digits.yaml").read_text()
    spoilt = tmp_path / "digits.yaml"
    number = str(load_scenario(EXAMPLES / "digits.yaml").convergence.shift)
    assert f"  shift: {number} " in text
    spoilt.write_text(text.replace(f"  shift: {number} ", f"  shift: {'9':<{len(number)}} "))
    monkeypatch.setattr(sys, "argv", ["measure_demo.py", str(spoilt), "--check"])
    assert _measure_demo().main() == 1
    assert "shift: the file holds 9, measured" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["measure_demo.py", str(spoilt)])
    assert _measure_demo().main() == 0
    written = spoilt.read_text()
    assert load_scenario(spoilt).convergence.shift == pytest.approx(float(number), rel=0.01)
    # on another processor the third digit may differ: nothing but numbers does
    assert [line.split(":")[0] for line in written.splitlines()] == [line.split(":")[0] for line in text.splitlines()]
    assert [line.partition("#")[2] for line in written.splitlines()] == [
        line.partition("#")[2] for line in text.splitlines()
    ]


def test_digits_runs_with_a_plan_of_its_size(tmp_path):
    scenario = load_scenario(EXAMPLES / "digits.yaml")
    assert scenario.convergence.criterion is Criterion.FINAL
    plan = hand_plan(scenario, rounds=(194, 123), pretrain_batch=140, batch=(95, 77, 69, 24, 43, 55, 17, 17, 30, 13))
    result = run(plan, scenario, out=tmp_path / "run", base=EXAMPLES)
    scores = result.summary["scores"]
    assert scores["start"]["test_accuracy"] < 0.3
    assert 0.6 < scores["after_pretraining"]["test_accuracy"] < 0.8
    assert result.test_accuracy > 0.9


def test_the_fading_example_keeps_its_budgets_and_does_better_than_its_plan(tmp_path):
    scenario = load_scenario(EXAMPLES / "fading.yaml")
    plan = pretune.plan(scenario, tolerance=1e-2)
    assert pretune.check(plan, scenario).lower_bound_proven
    result = run(plan, scenario, out=tmp_path / "run", base=EXAMPLES, control="rounds", replan="auto")
    assert result.summary["realised"]["energy_j"] <= scenario.budget.energy_j
    assert result.summary["realised"]["time_s"] <= scenario.budget.delay_s
    assert result.summary["rounds"]["finetune"] > plan.finetune.rounds
    assert result.test_accuracy > 0.85


def test_own_task_runs_from_its_own_folder(tmp_path):
    for name in ("own_task.yaml", "own_task.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    scenario = load_scenario(tmp_path / "own_task.yaml")
    plan = hand_plan(scenario, rounds=(200, 80), pretrain_batch=100, batch=(60, 40, 20))
    result = run(plan, scenario, out=tmp_path / "run", base=tmp_path)
    assert result.summary["task"] == "spirals"
    assert result.test_accuracy > 0.9


def test_mnist_usps_runs(tmp_path, shared_data, monkeypatch):
    monkeypatch.setenv("PRETUNE_DATA", str(shared_data))
    scenario = load_scenario(EXAMPLES / "mnist_usps.yaml")
    plan = hand_plan(scenario, rounds=(150, 20), pretrain_batch=64, batch=(30,) * len(scenario.devices))
    scores = run(plan, scenario, out=tmp_path / "run").summary["scores"]
    assert scores["start"]["test_accuracy"] < 0.25
    assert 0.5 < scores["after_pretraining"]["test_accuracy"] < scores["final"]["test_accuracy"]


def test_nothing_of_this_needs_torch_to_be_imported_by_the_package():
    code = (
        "import sys, pretune, pretune.ledger, pretune.runtime, pretune.convergence.constants\n"
        "assert not {'torch', 'datasets', 'flwr_datasets', 'sklearn', 'safetensors'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
