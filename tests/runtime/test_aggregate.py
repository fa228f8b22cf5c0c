"""Robust aggregation: the rules by themselves, and what they are for: accuracy under attack."""

from __future__ import annotations

import dataclasses
import functools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime_helpers import hand_plan, norm_task, small_scenario, tiny_task

from pretune.errors import InputError
from pretune.ledger import Stage
from pretune.runtime.aggregate import Aggregation, clip_rows, trimmed_mean, weighted_mean, weighted_median
from pretune.runtime.evaluate import evaluate
from pretune.runtime.gradient import step
from pretune.runtime.job import make_job
from pretune.runtime.load import load_task
from pretune.runtime.run import run

RULES = ("median", "trimmed:0.3", "clip:2.0")


@st.composite
def stacks(draw):
    """Whole-numbered weights and random rows: (stack (K, d) float64, counts (K,))."""
    counts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=7))
    seed = draw(st.integers(0, 2**31))
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(len(counts), 5))), counts


def shares_of(counts):
    return torch.tensor(counts, dtype=torch.float64) / sum(counts)


@given(case=stacks(), trim=st.sampled_from([0.0, 0.1, 0.25, 0.4]))
@settings(max_examples=60)
def test_a_device_of_weight_two_is_two_devices_of_weight_one(case, trim):
    stack, counts = case
    split = stack.repeat_interleave(torch.tensor(counts), dim=0)
    even = torch.full((len(split),), 1.0 / len(split), dtype=torch.float64)
    for rule in (weighted_mean, weighted_median, lambda s, w: trimmed_mean(s, w, trim)):
        torch.testing.assert_close(rule(stack, shares_of(counts)), rule(split, even))


@given(case=stacks())
@settings(max_examples=30)
def test_known_cases(case):
    stack, counts = case
    even = torch.full((len(stack),), 1.0 / len(stack), dtype=torch.float64)
    np.testing.assert_allclose(weighted_median(stack, even), np.median(stack.numpy(), axis=0), atol=1e-12)
    torch.testing.assert_close(trimmed_mean(stack, shares_of(counts), 0.0), weighted_mean(stack, shares_of(counts)))
    torch.testing.assert_close(
        trimmed_mean(stack, shares_of(counts), 0.5 - 1e-7), weighted_median(stack, shares_of(counts))
    )


def test_trimmed_mean_is_the_usual_one():
    stack = torch.tensor([[5.0], [1.0], [100.0], [3.0], [-40.0]])
    assert float(trimmed_mean(stack, torch.full((5,), 0.2), 0.2)) == pytest.approx(3.0)
    # the cut goes through a device's weight: half of 1 and half of 5 remain
    assert float(trimmed_mean(stack, torch.full((5,), 0.2), 0.3)) == pytest.approx((0.5 * 1 + 3 + 0.5 * 5) / 2)


@given(case=stacks(), size=st.sampled_from([1.0, 1e6]), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_bad_devices_can_not_leave_the_honest_range(case, size, seed):
    """Attackers below the breakdown weight leave every coordinate between honest values; the mean has no such limit."""
    stack, counts = case
    weights, rng = shares_of(counts), np.random.default_rng(seed)
    bad = torch.zeros(len(stack), dtype=torch.bool)
    for k in rng.permutation(len(stack)).tolist():
        if float(weights[bad].sum() + weights[k]) < 0.4:
            bad[k] = True
    stack[bad] = torch.from_numpy(size * rng.normal(size=(int(bad.sum()), 5)))
    low, high = stack[~bad].amin(dim=0) - 1e-9, stack[~bad].amax(dim=0) + 1e-9
    for found in (weighted_median(stack, weights), trimmed_mean(stack, weights, 0.4)):
        assert bool(((found >= low) & (found <= high)).all())


def test_clipping_shortens_the_long_rows_only():
    stack = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    norms = clip_rows(stack, 1.0)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.5, 0.0]))
    torch.testing.assert_close(stack, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


@pytest.mark.parametrize("text", ["best", "median:1", "trimmed", "trimmed:0.5", "trimmed:-0.1", "clip:0", "clip:x", ""])
def test_a_bad_rule_is_one_clear_line(text):
    with pytest.raises(InputError, match=r"aggregation: holds .* should hold mean, median, trimmed:T"):
        Aggregation.read(text)


def test_mean_by_stack_is_the_fused_gradient():
    task, scenario = tiny_task(), small_scenario()
    job = make_job(hand_plan(scenario), scenario, task, seed=0, evaluate_every=None)
    crew = job.stages[1].crew
    fused = crew.gradient(job.model, task.loss, 0, 1)
    stacked = crew.gradient(job.model, task.loss, 0, 1, combine=Aggregation())
    assert stacked.loss == pytest.approx(fused.loss, rel=1e-6)
    for one, two in zip(stacked.parts, fused.parts, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


def test_a_run_records_its_rule_and_refuses_another(tmp_path):
    task, scenario = tiny_task(), small_scenario()
    plan, out = hand_plan(scenario, rounds=(3, 4)), tmp_path / "run"
    plain = run(plan, scenario, out=tmp_path / "plain", task=task)
    robust = run(plan, scenario, out=out, task=task, aggregation="median")
    assert json.loads((out / "run.json").read_text())["aggregation"] == robust.summary["aggregation"] == "median"
    assert "aggregation" not in plain.summary
    before = [result.ledger.of(Stage.PRETRAIN).to_jsonl() for result in (plain, robust)]
    assert before[0] == before[1]
    assert plain.ledger.of(Stage.FINETUNE).to_jsonl() != robust.ledger.of(Stage.FINETUNE).to_jsonl()
    for other in ("mean", "trimmed:0.1"):
        with pytest.raises(InputError, match="the run in it has aggregation 'median'"):
            run(plan, scenario, out=out, task=task, aggregation=other)
    with pytest.raises(InputError, match="the run in it has aggregation None"):
        run(plan, scenario, out=tmp_path / "plain", task=task, aggregation="median")
    assert run(plan, scenario, out=out, task=task, aggregation="median").summary == robust.summary


def test_batch_norm_is_refused(tmp_path):
    scenario = small_scenario()
    with pytest.raises(InputError, match="aggregation: holds 'median', should hold mean: in a model with batch norm"):
        run(hand_plan(scenario), scenario, out=tmp_path / "run", task=norm_task(), aggregation="median")


def sign_flip(rows, _generator):
    """What an attacker sends who wants the model to climb."""
    return -8.0 * rows


def noise(rows, generator):
    """What a broken device sends."""
    return torch.randn(rows.shape, generator=generator) * 30.0


@dataclasses.dataclass(frozen=True)
class Attacked:
    """The rule, behind devices of which some lie."""

    rule: Aggregation
    bad: tuple[int, ...]
    attack: object
    generator: torch.Generator

    def __call__(self, stack, weights, round_):
        bad = list(self.bad)
        stack[bad] = self.attack(stack[bad], self.generator)
        return self.rule(stack, weights, round_)


@pytest.fixture(scope="module")
def ground():
    """Ten devices of unequal weight on the digits, two of them bad, which weigh 0.27 together."""
    scenario = small_scenario()
    first = scenario.to_dict()["devices"][0]
    sizes = (120, 60, 60, 60, 60, 60, 60, 60, 60, 60)
    devices = [{**first, "name": f"d{k}", "samples": size} for k, size in enumerate(sizes)]
    for device in devices:
        device.pop("weight", None)
    scenario = small_scenario(devices=devices)
    plan = hand_plan(scenario, rounds=(150, 60), batch=(10,) * 10)
    return plan, scenario, load_task(scenario.task)


@pytest.fixture(scope="module")
def accuracy(ground):
    """Test accuracy after an attacked fine-tuning: a function of rule and attack."""
    plan, scenario, task = ground
    job = make_job(plan, scenario, task, seed=0, evaluate_every=None)
    pretrain, finetune = job.stages
    for round_ in range(1, pretrain.rounds + 1):
        step(job.model, pretrain.crew.gradient(job.model, task.loss, 0, round_), pretrain.step)
    start = {name: value.clone() for name, value in job.model.state_dict().items()}

    @functools.cache
    def after(rule, attack, bad=(0, 5)):
        job.model.load_state_dict(start)
        if attack is None:
            combine = Aggregation.read(rule)
        else:
            combine = Attacked(Aggregation.read(rule), bad, attack, torch.Generator().manual_seed(1))
        for round_ in range(1, finetune.rounds + 1):
            gradient = finetune.crew.gradient(job.model, task.loss, 0, round_, combine=combine)
            step(job.model, gradient, 4.0 * finetune.step)
        return evaluate(job.model, task.loss, task.test).accuracy

    return after


def test_without_attack_robust_rules_cost_little(accuracy):
    honest = accuracy("mean", None)
    assert honest > 0.85
    for rule in RULES:
        assert accuracy(rule, None) > honest - 0.08


@pytest.mark.parametrize(("attack", "harm"), [(sign_flip, 0.5), (noise, 0.1)])
def test_under_attack_the_mean_fails_and_robust_rules_hold(accuracy, attack, harm):
    honest, fooled = accuracy("mean", None), accuracy("mean", attack)
    assert fooled < honest - harm
    for rule in RULES:
        assert accuracy(rule, attack) > max(honest - 0.13, fooled), rule
