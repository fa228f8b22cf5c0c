"""Runs under changing conditions: resumed to the byte, stopped before they overspend, the best model kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runtime_helpers import hand_plan, norm_task, small_scenario, tiny_task
from steered import carry_out, small

from pretune.errors import InputError
from pretune.ledger import Stage, load_ledger
from pretune.lines import REPLANS, ROUNDS, load_lines
from pretune.report import render
from pretune.runtime.checkpoint import checkpoint_files
from pretune.runtime.evaluate import evaluate
from pretune.runtime.run import run

HERE = Path(__file__).parent
RESULTS = ("model.safetensors", "ledger.jsonl", "summary.json", REPLANS, ROUNDS)


def _results(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


def test_killed_runs_go_on_to_the_same_bytes(tmp_path):
    if not hasattr(os, "fork"):
        pytest.skip("needs fork and SIGKILL")
    subprocess.run([sys.executable, str(HERE / "killed_steered_runs.py"), str(tmp_path)], check=True, timeout=300)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.pop("whole") == 0
    assert set(report.values()) == {1}, report
    expected = _results(tmp_path / "whole")
    for name in report:
        assert _results(tmp_path / name) == expected, name
    assert not list((tmp_path / "whole").glob("best*"))
    assert not checkpoint_files(tmp_path / "whole")


def test_its_books_agree_with_each_other(tmp_path):
    found = carry_out(tmp_path / "a")
    rounds, ledger = load_lines(tmp_path / "a" / ROUNDS), load_ledger(tmp_path / "a")
    finetune = ledger.of(Stage.FINETUNE)
    assert len(rounds) == len(finetune)
    for line, record in zip(rounds, finetune, strict=True):
        assert record.realised_j == pytest.approx(line["energy_j"], rel=1e-12)
        assert record.realised_s == pytest.approx(line["time_s"] + line["waited_s"], rel=1e-12)
        assert line["energy_j"] <= line["most_j"] * (1 + 1e-12)
    for key, which in (("time_s", "realised_s"), ("energy_j", "realised_j")):
        causes = [one[key] for stage in found.summary["stages"].values() for one in stage["causes"].values()]
        assert sum(causes) == pytest.approx(sum(getattr(record, which) for record in ledger), rel=1e-9)
    lines = load_lines(tmp_path / "a" / REPLANS)
    assert lines[0]["cause"].startswith("the run begins")
    assert len(lines) >= len(finetune)


def test_variances_that_the_scenario_states_wrongly_are_found_out(tmp_path):
    """Random data and a small model: its gradients vary far less than the 20 that the scenario states."""
    carry_out(tmp_path / "a")
    lines = load_lines(tmp_path / "a" / REPLANS)
    found = [line for line in lines if line["cause"].startswith("constants: the devices' gradient variance is 0.")]
    assert found
    assert 0.0 < found[0]["constants"]["devices"]["high"] < 0.8
    assert "was found to be" in render(tmp_path / "a")


def test_with_batch_norm_no_variance_is_estimated(tmp_path):
    carry_out(tmp_path / "a", task=norm_task())
    assert all("constants" not in line for line in load_lines(tmp_path / "a" / REPLANS))


@pytest.mark.parametrize("control", ["none", "rounds"])
def test_a_run_that_has_to_stop_keeps_its_best_model(tmp_path, control):
    found = carry_out(tmp_path / "a", share=0.6, control=control, replan="off")
    scenario, _ = small(0.6)
    assert found.summary["status"] == "stopped"
    assert "stopped early" in found.summary["message"]
    assert "\n" not in found.summary["message"]
    assert found.summary["realised"]["energy_j"] <= scenario.budget.energy_j
    assert found.summary["realised"]["time_s"] <= scenario.budget.delay_s
    best = min(record.test_loss for record in found.ledger.evaluations)
    task, model = tiny_task(), found.model
    assert found.test_loss == best
    assert evaluate(model, task.loss, task.test).loss == pytest.approx(best, rel=1e-6)
    assert found.summary["kept"]["round"] in {record.round for record in found.ledger.evaluations}
    again = carry_out(tmp_path / "a", share=0.6, control=control, replan="off")
    assert again.test_loss == found.test_loss


def test_a_plan_carried_out_as_it_is_knows_nothing_of_all_this(tmp_path):
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(6, 4))

    def stop(record):
        if record.round == 3 and record.stage is Stage.FINETUNE:
            raise KeyboardInterrupt

    options = {"task": tiny_task(), "checkpoint_every": 2, "checkpoint_s": 1e9}
    with pytest.raises(KeyboardInterrupt):
        run(plan, scenario, out=tmp_path / "a", progress=stop, **options)
    head = checkpoint_files(tmp_path / "a")[0].read_bytes().split(b"\n")[1]
    assert set(json.loads(head)) == {"done", "ledger_bytes", "ledger_sha256"}
    assert not {"control", "replan", "outage"} & set(json.loads((tmp_path / "a" / "run.json").read_text()))
    run(plan, scenario, out=tmp_path / "a", control="none", replan="off", **options)
    assert not (tmp_path / "a" / ROUNDS).exists()


def test_a_steered_run_where_nothing_varies_learns_what_the_plain_one_does(tmp_path):
    """An outage share that leaves nobody out makes it a steered run; the model is the same to rounding."""
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(6, 4))
    plain = run(plan, scenario, out=tmp_path / "a", task=tiny_task())
    steered = run(plan, scenario, out=tmp_path / "b", task=tiny_task(), outage=1e-9)
    assert steered.summary["status"] == "finished"
    for one, other in zip(plain.model.parameters(), steered.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    for key in ("time_s", "energy_j"):
        assert steered.summary["realised"][key] == pytest.approx(plain.summary["realised"][key], rel=1e-9)


def test_batch_norm_s_statistics_are_means_whatever_the_weights_add_up_to(tmp_path):
    """Devices are away half of the time, and the weights of the others twice theirs: 0 to 2 in all."""
    scenario, plan = small(20.0, rounds=(0, 40), variation={"availability": {"mean_up_s": 0.3, "mean_down_s": 0.3}})
    steered = run(plan, scenario, out=tmp_path / "a", task=norm_task())
    scenario = small_scenario()
    plain = run(hand_plan(scenario, rounds=(0, 40)), scenario, out=tmp_path / "b", task=norm_task())
    for one, other in zip(steered.model.buffers(), plain.model.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=0.2, atol=0.1)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"aggregation": "median"}, "aggregation"),
        ({"control": "none", "replan": "auto"}, "--control"),
        ({"outage": 0.7}, "outage"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(tmp_path, options, line):
    with pytest.raises(InputError, match=line) as caught:
        carry_out(tmp_path / "a", **options)
    assert "\n" not in str(caught.value)


def test_privacy_is_refused_even_where_the_plan_has_no_fine_tuning(tmp_path):
    """A new plan might have some."""
    privacy = {"epsilon": 4.0, "delta": 1e-5, "clip": 1.0, "parameters": 64 * 12 + 12 + 12 * 10 + 10}
    scenario, plan = small(rounds=(5, 0), privacy=privacy)
    with pytest.raises(InputError, match="privacy: is not known to hold") as caught:
        run(plan, scenario, out=tmp_path / "a", task=tiny_task(), control="rounds", replan="auto")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_another_way_of_steering_is_another_run(tmp_path):
    carry_out(tmp_path / "a")
    with pytest.raises(InputError, match="replan"):
        carry_out(tmp_path / "a", replan="auto")


def test_the_report_tells_of_every_new_plan(tmp_path):
    carry_out(tmp_path / "a")
    html = render(tmp_path / "a")
    assert "Under changing conditions" in html
    assert html.count("every round") >= len(load_lines(tmp_path / "a" / REPLANS)) - 2
    (tmp_path / "a" / REPLANS).write_text("{\n")
    with pytest.raises(InputError, match=r"replans\.jsonl: line 1 is damaged"):
        render(tmp_path / "a")


def test_a_plan_that_decides_who_is_asked_is_carried_out_and_goes_on_to_the_same(tmp_path):
    plain = small_scenario()
    count = len(plain.devices)
    scenario = plain.replace(planning={"under": "participation"}).with_budget(energy_j=1e6, delay_s=1e6)
    asked = [0.05] + [0.6] * (count - 1)
    under = {"under": "participation", "participation": asked, "reserve_j": 0.0}
    plan = replace(hand_plan(plain, rounds=(3, 25)), scenario_sha256=scenario.sha256, under=under)
    how = {"task": tiny_task(), "checkpoint_every": 5, "checkpoint_s": 1e9}
    found = run(plan, scenario, out=tmp_path / "a", **how)
    again = run(plan, scenario, out=tmp_path / "b", **how)
    assert _results(tmp_path / "a") == _results(tmp_path / "b")
    assert found.summary["status"] == again.summary["status"] == "finished"
    lines = load_lines(tmp_path / "a" / ROUNDS)
    assert [line["round"] for line in lines] == list(range(1, 26))
    assert {line["asked"] for line in lines} != {count}
    for line in lines:
        assert (line["energy_j"] == 0.0) == (line["asked"] == 0)
    with pytest.raises(InputError, match="who is asked"):
        run(plan, scenario, out=tmp_path / "c", backend=SimpleNamespace(simulates=False), **how)
