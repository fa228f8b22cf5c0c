"""Private fine-tuning, carried out: the noise is there and as large as it should be, and no more epsilon is spent."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from runtime_helpers import hand_plan, norm_task, small_scenario, tiny_task

from pretune.cli.show_run import _remarks
from pretune.errors import InputError
from pretune.ledger import Stage
from pretune.privacy import Privacy
from pretune.runtime.aggregate import Aggregation
from pretune.runtime.job import make_job
from pretune.runtime.private import PrivateMean, account
from pretune.runtime.run import run

pytest.importorskip("opacus", reason="needs the extra `privacy`")

PARAMETERS = 64 * 12 + 12 + 12 * 10 + 10


def private_scenario(**changes):
    return small_scenario(
        privacy={"epsilon": 4.0, "delta": 1e-5, "clip": 1.0, "parameters": PARAMETERS, **changes},
    )


def test_the_noise_is_added_and_as_large_as_it_should_be():
    scenario, task, rounds = private_scenario(clip=1e4), tiny_task(), 400
    job = make_job(hand_plan(scenario, rounds=(0, rounds)), scenario, task, seed=3, evaluate_every=None)
    (stage,) = job.stages
    noise = []
    for round_ in range(1, 41):
        plain = stage.crew.gradient(job.model, task.loss, 3, round_, combine=Aggregation())
        noisy = stage.crew.gradient(job.model, task.loss, 3, round_, combine=stage.combine)
        noise.append(torch.cat([(a - b).flatten() for a, b in zip(noisy.parts, plain.parts, strict=True)]))
    drawn = torch.stack(noise).double() / scenario.privacy.noise_std(rounds, 0.4)
    count = drawn.numel()
    assert count == 40 * PARAMETERS
    # standard normal: five standard errors of mean, variance, kurtosis, and of the correlation of rounds
    assert abs(float(drawn.mean())) < 5.0 / math.sqrt(count)
    assert abs(float(drawn.var()) - 1.0) < 5.0 * math.sqrt(2.0 / count)
    assert abs(float((drawn**4).mean()) - 3.0) < 5.0 * math.sqrt(96.0 / count)
    assert abs(float((drawn[1:] * drawn[:-1]).mean())) < 5.0 / math.sqrt(count)
    assert stage.combine.clipped == 0


def test_one_device_moves_the_mean_by_no_more_than_the_noise_is_meant_for():
    generator = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    combine = PrivateMean(clip=1.0, noise_std=0.7, seed=0)
    stack = torch.randn(3, 50, generator=generator, dtype=torch.float64)
    with_it = combine(stack.clone(), weights, 9)
    for k in range(3):
        without = stack.clone()
        without[k] = 0.0
        moved = with_it - combine(without, weights, 9)  # the round's noise is the same
        assert float(torch.linalg.vector_norm(moved)) == pytest.approx(float(weights[k]), rel=1e-9)
    assert combine.clipped == combine.updates - 3


@pytest.mark.parametrize("epsilon", [0.5, 4.0, 20.0])
@pytest.mark.parametrize("rounds", [1, 60])
def test_a_run_spends_no_more_than_epsilon_and_little_less(epsilon, rounds):
    asked = Privacy(epsilon=epsilon, delta=1e-5, clip=1.0, parameters=10)
    spent = account(asked, rounds, rounds)["epsilon_spent"]
    assert 0.98 * epsilon < spent <= epsilon
    assert account(asked, rounds, 0)["epsilon_spent"] == 0.0
    if rounds > 1:
        assert account(asked, rounds, rounds // 2)["epsilon_spent"] < 0.75 * epsilon


class Stopped(Exception):
    """Thrown by a progress callback to interrupt a run."""


def test_a_private_run_is_accounted_for_and_resumes_to_the_same_bytes(tmp_path):
    scenario, task = private_scenario(), tiny_task()
    plan = hand_plan(scenario, rounds=(6, 20))
    whole = run(plan, scenario, out=tmp_path / "whole", task=task)
    spent = whole.summary["privacy"]
    assert 0.0 < spent["epsilon_spent"] <= spent["epsilon"] == 4.0
    assert spent["rounds"] == 20
    timing = json.loads((tmp_path / "whole/timing.json").read_text())
    assert timing["private_updates"] == 80
    assert 0 < timing["clipped_updates"] <= 80
    (line,) = _remarks(tmp_path / "whole")
    assert line.startswith("Privacy: epsilon 3.97")
    assert line.endswith("of the updates were clipped, of whose bias the plan's bound says nothing.")

    def stop(record):
        if (record.stage, record.round) == (Stage.FINETUNE, 11):
            raise Stopped

    with pytest.raises(Stopped):
        run(plan, scenario, out=tmp_path / "cut", task=task, progress=stop, checkpoint_every=4)
    run(plan, scenario, out=tmp_path / "cut", task=task)
    for name in ("ledger.jsonl", "summary.json", "model.safetensors"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    bare = small_scenario()
    plain = run(hand_plan(bare, rounds=(6, 20)), bare, out=tmp_path / "plain", task=task)
    assert np.any(plain.ledger.column("gradient_norm_sq")[7:] != whole.ledger.column("gradient_norm_sq")[7:])
    assert plain.ledger.of(Stage.PRETRAIN).to_jsonl() == whole.ledger.of(Stage.PRETRAIN).to_jsonl()


@pytest.mark.parametrize(
    ("changes", "options", "line"),
    [
        ({"parameters": 9}, {}, f"privacy.parameters: holds 9, should hold {PARAMETERS}, the model's trainable"),
        ({}, {"aggregation": "median"}, "aggregation: holds 'median', should hold mean: the noise of privacy"),
        ({"parameters": PARAMETERS + 24}, {"task": norm_task()}, "privacy: the model has batch norm"),
    ],
)
def test_what_is_refused(tmp_path, changes, options, line):
    scenario = private_scenario(**changes)
    with pytest.raises(InputError) as caught:
        run(hand_plan(scenario), scenario, out=tmp_path / "run", **{"task": tiny_task(), **options})
    assert str(caught.value).startswith(line)
