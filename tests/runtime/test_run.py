"""The run: what it learns, what it books, what it refuses."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from runtime_helpers import hand_plan, norm_task, relu_task, small_scenario, tiny_task

from pretune.errors import InputError, PlanMismatch, RunFailed
from pretune.ledger import Stage, load_ledger
from pretune.physics import cost
from pretune.plans import Infeasibility, Plan, Status, load_plan
from pretune.runtime.gradient import looped_gradient
from pretune.runtime.run import run
from pretune.runtime.sampling import draw_one
from pretune.runtime.task import cross_entropy
from pretune.scenario import scenario_from_dict


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """One run on the digits that several tests look at: (scenario, plan, result)."""
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(150, 100))
    return scenario, plan, run(plan, scenario, out=tmp_path_factory.mktemp("digits") / "run")


def test_it_learns(digits):
    _, _, result = digits
    scores = result.summary["scores"]
    assert scores["start"]["test_accuracy"] < 0.25
    assert scores["after_pretraining"]["test_accuracy"] < result.test_accuracy
    assert result.test_accuracy > 0.8
    assert result.test_loss == scores["final"]["test_loss"] < scores["after_pretraining"]["test_loss"]


def test_files(digits):
    scenario, plan, result = digits
    assert load_plan(result.out / "plan.json").to_json() == plan.to_json()
    assert scenario_from_dict(json.loads((result.out / "scenario.json").read_text())).sha256 == scenario.sha256
    assert load_ledger(result.out) == result.ledger
    assert json.loads((result.out / "summary.json").read_text()) == result.summary
    text = "".join((result.out / name).read_text() for name in ("ledger.jsonl", "summary.json", "run.json"))
    assert "wall" not in text
    assert json.loads((result.out / "timing.json").read_text())["wall_s"] > 0
    assert not result.model.training


def test_ledger_books_the_physics(digits):
    scenario, plan, result = digits
    one = cost.pretrain_round(scenario, plan.pretrain.batch, plan.pretrain.clock_hz)
    two = cost.finetune_round(
        scenario, plan.finetune.batch.astype(float), plan.finetune.clock_hz, plan.finetune.power_w
    )
    for stage, planned_s, realised in (
        (Stage.PRETRAIN, plan.pretrain.round_s, one),
        (Stage.FINETUNE, plan.finetune.round_s, two),
    ):
        part = result.ledger.of(stage)
        assert set(part.column("planned_s")) == {planned_s}
        assert set(part.column("realised_s")) == {realised.time_s}
        assert set(part.column("planned_j")) == set(part.column("realised_j")) == {realised.energy_j}
    assert plan.finetune.round_s == pytest.approx(1.25 * two.time_s)  # the plan had slack, and it was not used
    np.testing.assert_allclose(result.ledger.column("elapsed_s"), np.cumsum(result.ledger.column("realised_s")))
    np.testing.assert_allclose(result.ledger.column("elapsed_j"), np.cumsum(result.ledger.column("realised_j")))


def test_summary_adds_up(digits):
    _, plan, result = digits
    summary = result.summary
    assert summary["rounds"] == {"pretrain": 150, "finetune": 100}
    assert summary["planned"]["energy_j"] == pytest.approx(plan.energy_j)
    for unit in ("time_s", "energy_j"):
        whole = summary["realised"][unit]
        assert whole == pytest.approx(sum(stage["realised"][unit] for stage in summary["stages"].values()))
        for stage in summary["stages"].values():
            assert stage["realised"][unit] == pytest.approx(sum(c[unit] for c in stage["causes"].values()))
    assert summary["stages"]["finetune"]["causes"]["upload"]["energy_j"] > 0
    assert summary["stages"]["pretrain"]["causes"]["upload"]["energy_j"] == 0


def test_evaluations_are_few_and_at_the_right_places(digits):
    _, _, result = digits
    places = [(record.stage, record.round) for record in result.ledger.evaluations]
    assert len(places) <= 60
    for place in ((Stage.START, 0), (Stage.PRETRAIN, 150), (Stage.FINETUNE, 100)):
        assert place in places


def test_the_run_is_sgd_as_in_the_mathematics(tmp_path):
    """The same run written out: device by device, sample by sample from each one's own stream."""
    scenario, task = small_scenario(), tiny_task()
    plan = hand_plan(scenario, rounds=(7, 5))
    result = run(plan, scenario, out=tmp_path / "run", task=task, seed=11)
    model = task.build(11)
    order = np.random.default_rng([0, 0]).permutation(600)
    parameters = list(model.parameters())
    losses = []

    def gradient(data, stage, round_, first, batch):
        index = draw_one(11, stage, round_, first=first, batch=batch, size=len(data))
        found = looped_gradient(model, cross_entropy, [data.take(index)], [1.0])
        return found.loss, found.parts

    def step(parts, size):
        with torch.no_grad():
            for parameter, part in zip(parameters, parts, strict=True):
                parameter.sub_(size * part)

    for m in range(1, 8):
        loss, parts = gradient(task.general.take(order), Stage.PRETRAIN, m, 0, plan.pretrain.batch)
        step(parts, scenario.convergence.pretrain_step)
        losses.append(loss)
    for n in range(1, 6):
        total, mean, first = [torch.zeros_like(p) for p in parameters], 0.0, 0
        for k, (batch, share) in enumerate(zip(plan.finetune.batch, scenario.devices.weight, strict=True)):
            loss, parts = gradient(task.train.take(task.parts[k]), Stage.FINETUNE, n, first, int(batch))
            total = [old + float(share) * new for old, new in zip(total, parts, strict=True)]
            mean += float(share) * loss
            first += int(batch)
        step(total, scenario.convergence.finetune_step)
        losses.append(mean)
    np.testing.assert_allclose(result.ledger.column("loss")[1:], losses, rtol=1e-4)
    for ours, theirs in zip(result.model.parameters(), parameters, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_same_seed_same_bytes_other_seed_others(tmp_path):
    scenario = small_scenario()
    plan = hand_plan(scenario)
    state = torch.get_rng_state()
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002 - it is to be left alone
    outs = [tmp_path / name for name in "abc"]
    for out, seed in zip(outs, (5, 5, 6), strict=True):
        run(plan, scenario, out=out, task=tiny_task(), seed=seed)
        torch.rand(3)
    torch.set_rng_state(state)
    names = ("model.safetensors", "ledger.jsonl", "summary.json")
    first, second, third = ([(out / name).read_bytes() for name in names] for out in outs)
    assert first == second
    assert all(a != b for a, b in zip(first, third, strict=True))
    np.testing.assert_array_equal(np.random.get_state()[1], np_state)  # noqa: NPY002


def test_global_generator_is_left_alone(tmp_path):
    scenario, task = small_scenario(), norm_task()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    threads = torch.get_num_threads()
    run(hand_plan(scenario), scenario, out=tmp_path / "run", task=task, threads=1)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("rounds", [(0, 5), (5, 0)])
def test_a_stage_may_be_left_out(tmp_path, rounds):
    scenario = small_scenario()
    result = run(hand_plan(scenario, rounds=rounds), scenario, out=tmp_path / "run", task=tiny_task())
    assert (result.ledger.rounds(Stage.PRETRAIN), result.ledger.rounds(Stage.FINETUNE)) == rounds
    scores = result.summary["scores"]
    if rounds[0] == 0:
        assert scores["after_pretraining"] == scores["start"]
    else:
        assert scores["after_pretraining"] == scores["final"]


def test_tdma_time_is_split_by_cause(tmp_path):
    scenario = small_scenario(radio={"access": "tdma", "broadcast_bandwidth_hz": 1e7})
    plan = hand_plan(scenario)
    result = run(plan, scenario, out=tmp_path / "run", task=tiny_task())
    causes = result.summary["stages"]["finetune"]["causes"]
    assert causes["upload"]["time_s"] == pytest.approx(10 * float(plan.finetune.upload_s.sum()))
    assert sum(c["time_s"] for c in causes.values()) == pytest.approx(result.summary["realised"]["time_s"], rel=1e-3)


def test_progress_sees_every_record_in_order(tmp_path):
    scenario, seen = small_scenario(), []
    result = run(hand_plan(scenario), scenario, out=tmp_path / "run", task=tiny_task(), progress=seen.append)
    assert tuple(seen) == result.ledger.records


def test_evaluate_every(tmp_path):
    scenario = small_scenario()
    result = run(hand_plan(scenario), scenario, out=tmp_path / "run", task=tiny_task(), evaluate_every=8)
    places = [(record.stage.value, record.round) for record in result.ledger.evaluations]
    assert places == [
        ("start", 0), ("pretrain", 8), ("pretrain", 16), ("pretrain", 20), ("finetune", 8), ("finetune", 10)
    ]  # fmt: skip


def test_batch_norm_runs(tmp_path):
    scenario = small_scenario()
    result = run(hand_plan(scenario), scenario, out=tmp_path / "run", task=norm_task())
    assert int(result.model.state_dict()["2.num_batches_tracked"]) == 30
    assert result.test_loss < result.summary["scores"]["start"]["test_loss"]


# ------------------------------------------------------------------------------------------------- diverging


def _steps(pretrain: float, finetune: float) -> dict:
    return {
        "smoothness": 1e-39, "initial_gap": 2.3, "shift": 1.0, "pretrain_step": pretrain, "finetune_step": finetune,
        "pretrain_variance": 20.0, "finetune_variance": 20.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("steps", "stage", "says"),
    [
        (_steps(1e25, 0.1), "pre-training", "pretrain_step"),
        (_steps(0.1, 1e25), "fine-tuning", "finetune_step"),
        (_steps(1e38, 0.1), "pre-training", "pretrain_step"),
    ],
)
def test_a_diverging_run_stops_and_keeps_the_last_good_model(tmp_path, steps, stage, says):
    scenario = small_scenario(convergence=steps)
    plan = hand_plan(scenario)
    with pytest.raises(RunFailed, match=f"the run diverged: at {stage} round") as caught:
        run(plan, scenario, out=tmp_path / "run", task=relu_task(), evaluate_every=1)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "diverged"
    ledger = load_ledger(tmp_path / "run")
    assert all(math.isfinite(record.test_loss) for record in ledger)
    # the model that is kept is the one the ledger's last line speaks of
    from safetensors.torch import load_file

    from pretune.runtime.evaluate import evaluate

    model = relu_task().build(0)
    model.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    assert evaluate(model, cross_entropy, relu_task().test).loss == ledger.records[-1].test_loss
    # told the same way when asked again, and nothing changes
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(RunFailed) as again:
        run(plan, scenario, out=tmp_path / "run", task=relu_task(), evaluate_every=1)
    assert str(again.value) == str(caught.value)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_diverging_run_ends_the_same_way_after_an_interruption(tmp_path):
    """Checkpoints are taken of models known to be good, so the kept model does not depend on where one was taken."""
    scenario = small_scenario(convergence=_steps(0.1, 1e25))
    plan = hand_plan(scenario, rounds=(9, 9))

    class Stop(Exception):
        pass

    def stop(record) -> None:
        raise Stop

    for name, callbacks in (("whole", (None,)), ("cut", (stop,) * 9 + (None,))):
        for progress in callbacks:
            with pytest.raises(RunFailed if progress is None else Stop):
                run(plan, scenario, out=tmp_path / name, task=relu_task(), checkpoint_every=1, progress=progress)
    for name in ("model.safetensors", "ledger.jsonl", "summary.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_model_no_good_from_the_start(tmp_path):
    task = tiny_task()

    def model(generator):
        made = task.model(generator)
        with torch.no_grad():
            made[1].weight.fill_(float("nan"))
        return made

    scenario = small_scenario()
    with pytest.raises(RunFailed, match="the untrained model is no good, its test loss is nan"):
        run(hand_plan(scenario), scenario, out=tmp_path / "run", task=dataclasses.replace(task, model=model))


# --------------------------------------------------------------------------------------------------- refusing


def _refused(tmp_path, plan: Plan, scenario, kind=InputError, **options) -> str:
    with pytest.raises(kind) as caught:
        run(plan, scenario, out=tmp_path / "run", **{"task": tiny_task(), **options})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
    return str(caught.value)


def test_refuses_another_scenario_s_plan(tmp_path):
    plan = hand_plan(small_scenario())
    other = small_scenario(budget={"energy_j": 1.0, "delay_s": 1.0})
    assert "plan.scenario_sha256" in _refused(tmp_path, plan, other, PlanMismatch)


def test_refuses_a_plan_without_decisions(tmp_path):
    scenario = small_scenario()
    clash = Infeasibility(clash=("delay",), min_energy_j=1.0, min_delay_s=1.0)
    plan = Plan(status=Status.INFEASIBLE, criterion="final", scenario_sha256=scenario.sha256, infeasibility=clash)
    assert _refused(tmp_path, plan, scenario) == (
        "plan.status: holds 'infeasible', should hold a status with a plan to run"
    )


def test_refuses_no_rounds_and_other_devices(tmp_path):
    scenario = small_scenario()
    assert "at least one round" in _refused(tmp_path, hand_plan(scenario, rounds=(0, 0)), scenario)
    plan = hand_plan(scenario)
    renamed = dataclasses.replace(plan.finetune, names=("a", "b", "c", "d"))
    assert "other devices" in _refused(tmp_path, dataclasses.replace(plan, finetune=renamed), scenario, PlanMismatch)


def test_refuses_batches_above_the_data(tmp_path):
    scenario = small_scenario()
    says = _refused(tmp_path, hand_plan(scenario, batch=(12, 91, 6, 3)), scenario)
    assert (
        says == "plan.finetune.devices[1].batch: holds 91, should hold a whole number from 1 to 90 (the samples of d1)"
    )
    assert "plan.finetune.devices[3].batch: holds 0" in _refused(
        tmp_path, hand_plan(scenario, batch=(1, 1, 1, 0)), scenario
    )
    says = _refused(tmp_path, hand_plan(scenario, pretrain_batch=601), scenario)
    assert says == "plan.pretrain.batch: holds 601, should hold a whole number from 1 to 600 (server.samples)"


def test_refuses_more_samples_than_the_task_has(tmp_path):
    server = {**small_scenario().to_dict()["server"], "samples": 698}
    scenario = small_scenario(server=server)
    says = _refused(tmp_path, hand_plan(scenario), scenario, task=None)
    assert says == "server.samples: holds 698, should hold at most 697, the general samples of digits"


def test_refuses_settings_and_a_scenario_without_a_task(tmp_path):
    scenario = small_scenario()
    plan = hand_plan(scenario)
    assert "seed: holds -1" in _refused(tmp_path, plan, scenario, seed=-1)
    assert "evaluate_every: holds 0" in _refused(tmp_path, plan, scenario, evaluate_every=0)
    assert "checkpoint_every: holds 0" in _refused(tmp_path, plan, scenario, checkpoint_every=0)
    assert "threads: holds 0" in _refused(tmp_path, plan, scenario, threads=0)
    bare = scenario.replace(task=None)
    plan = hand_plan(bare)
    assert "task: is missing" in _refused(tmp_path, plan, bare, task=None)


def test_base_is_where_the_task_s_files_are(tmp_path):
    (tmp_path / "my_task.py").write_text("from runtime_helpers import tiny_task\nmake_task = tiny_task\n")
    scenario = small_scenario({"file": "my_task.py"})
    plan = hand_plan(scenario)
    assert run(plan, scenario, out=tmp_path / "run", base=tmp_path).summary["task"] == "tiny"
    with pytest.raises(InputError, match=r"task\.file: holds 'my_task.py'"):
        run(plan, scenario, out=tmp_path / "other", base=tmp_path / "elsewhere")
