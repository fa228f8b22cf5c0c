"""Federated averaging: fused equals a plain loop, one local step is federated SGD, runs resume to the same bytes."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from runtime_helpers import hand_plan, norm_task, relu_task, small_scenario, tiny_task
from torch import nn

from pretune.errors import InputError, RunFailed
from pretune.ledger import Ledger, Stage
from pretune.physics import cost
from pretune.plans import Plan
from pretune.report import write_report
from pretune.runtime import fedavg
from pretune.runtime.gradient import step, trainable
from pretune.runtime.local import Crew, LocalSteps
from pretune.runtime.models import make_model
from pretune.runtime.run import RunResult, run
from pretune.runtime.sampling import draw_one
from pretune.runtime.task import Samples, cross_entropy
from pretune.scenario import Scenario

SIZES, BATCH = np.array([40, 25, 60, 5]), np.array([7, 3, 11, 5])
SHARES = np.array([0.4, 0.1, 0.3, 0.2])
SIZE = 0.3
RESULTS = ("model.safetensors", "ledger.jsonl", "summary.json")


def crew_of(count: int, *, fused: bool = True) -> Crew:
    generator = torch.Generator().manual_seed(1)
    n = int(SIZES.sum())
    data = Samples(
        x=torch.randn(n, 1, 8, 8, generator=generator, dtype=torch.float64),
        y=torch.randint(0, 10, (n,), generator=generator),
    )
    return Crew.of(
        Stage.FINETUNE, data, SIZES, BATCH, SHARES, LocalSteps(count=count, size=SIZE, fused=fused) if count else None
    )


def model_of(kind: str) -> nn.Module:
    return make_model(kind, (1, 8, 8), 10, 16, torch.Generator().manual_seed(0)).double()


def by_hand(model: nn.Module, crew: Crew, count: int, seed: int, round_: int) -> nn.Module:
    """What the text books say: copies, local SGD on fresh batches, the weighted average of the copies."""
    starts = np.cumsum(SIZES) - SIZES
    firsts = np.cumsum(BATCH) - BATCH
    average = [torch.zeros_like(p) for p in model.parameters()]
    for k, share in enumerate(SHARES):
        own = copy.deepcopy(model)
        for e in range(count):
            first = int(firsts[k]) + e * int(BATCH.sum())
            drawn = draw_one(seed, Stage.FINETUNE, round_, first=first, batch=int(BATCH[k]), size=int(SIZES[k]))
            batch = crew.data.take(torch.from_numpy(drawn + starts[k]))
            cross_entropy(own(batch.x), batch.y).mean().backward()
            with torch.no_grad():
                for p in own.parameters():
                    p.sub_(SIZE * p.grad)
                    p.grad = None
        for total, p in zip(average, own.parameters(), strict=True):
            total.add_(share * p.detach())
    result = copy.deepcopy(model)
    with torch.no_grad():
        for p, value in zip(result.parameters(), average, strict=True):
            p.copy_(value)
    return result


def apart(a: nn.Module, b: nn.Module) -> float:
    return max(float((x - y).detach().abs().max()) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("kind", ["mlp", "cnn", "logistic"])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_fused_equals_a_plain_loop_over_devices_and_steps(kind: str, count: int) -> None:
    for fused in (True, False):
        crew, model = crew_of(count, fused=fused), model_of(kind)
        expected, before = by_hand(model, crew, count, 5, 3), copy.deepcopy(model)
        update = crew.gradient(model, cross_entropy, 5, 3)
        assert apart(model, before) == 0.0
        step(model, update, SIZE)
        assert apart(model, expected) < 1e-12, fused


@pytest.mark.parametrize("kind", ["mlp", "cnn"])
def test_one_local_step_is_federated_sgd(kind: str) -> None:
    model = model_of(kind)
    plain, local = (crew_of(count).gradient(model, cross_entropy, 0, 7) for count in (0, 1))
    for a, b in zip(plain.parts, local.parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
    assert local.loss == pytest.approx(plain.loss, rel=1e-12)
    assert local.norm_sq == pytest.approx(plain.norm_sq, rel=1e-12)


def test_chunks_do_not_change_the_update(monkeypatch: pytest.MonkeyPatch) -> None:
    crew, model = crew_of(3), model_of("mlp")
    whole = crew.gradient(model, cross_entropy, 0, 1)
    monkeypatch.setattr(fedavg, "SLICE", 12)
    for a, b in zip(crew.gradient(model, cross_entropy, 0, 1).parts, whole.parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_frozen_parameters_stay() -> None:
    crew, model = crew_of(2), model_of("mlp")
    next(model.parameters()).requires_grad_(False)
    fused = crew.gradient(model, cross_entropy, 0, 1)
    looped = crew_of(2, fused=False).gradient(model, cross_entropy, 0, 1)
    assert len(fused.parts) == len(trainable(model))
    for a, b in zip(fused.parts, looped.parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_loss_that_does_not_vectorise_is_noticed() -> None:
    def odd(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if float(output.sum()) > 1e9:
            raise ValueError
        return cross_entropy(output, target)

    crew = crew_of(2)
    assert fedavg.vectorises(model_of("mlp"), cross_entropy, crew.data)
    assert not fedavg.vectorises(model_of("mlp"), odd, crew.data)


# ---------------------------------------------------------------------------- whole runs


def local_plan(count: int, choices: object = None, **changes: object) -> tuple[Scenario, Plan]:
    convergence = small_scenario().convergence
    same = {key: getattr(convergence, key) for key in convergence.model_fields_set}
    given = {**same, "local_steps": count if choices is None else choices, "heterogeneity": 1.0, **changes}
    scenario = small_scenario(convergence=given)
    plan = hand_plan(scenario.settled(count))
    one = cost.finetune_round(
        scenario.settled(count), plan.finetune.batch.astype(float), plan.finetune.clock_hz, plan.finetune.power_w
    )
    return scenario, replace(
        plan,
        scenario_sha256=scenario.sha256,
        finetune=replace(plan.finetune, local_steps=count, round_s=one.time_s),
    )


def started(out: Path, stop: int | None = None, task=tiny_task, count: int = 3) -> RunResult:
    scenario, plan = local_plan(count, [1, 3, 5])
    rounds = itertools.count(1)

    def progress(record) -> None:
        if record.stage is not Stage.START and next(rounds) == stop:
            raise KeyboardInterrupt

    return run(plan, scenario, out=out, task=task(), checkpoint_every=4, checkpoint_s=1e9, progress=progress)


@pytest.mark.parametrize("task", [tiny_task, norm_task])
def test_a_run_resumes_to_the_same_bytes(tmp_path: Path, task) -> None:
    whole = started(tmp_path / "whole", task=task)
    for stop in (3, 22, 29):
        with pytest.raises(KeyboardInterrupt):
            started(tmp_path / f"cut-{stop}", stop, task)
        started(tmp_path / f"cut-{stop}", task=task)
        for name in RESULTS:
            assert (tmp_path / f"cut-{stop}" / name).read_bytes() == (whole.out / name).read_bytes()
    write_report(whole.out)
    assert "3 local steps" in (whole.out / "report.html").read_text()


def joules(ledger: Ledger, stage: Stage) -> list[float]:
    return [record.realised_j for record in ledger.records if record.stage is stage]


def test_the_ledger_counts_the_computing_of_all_local_steps(tmp_path: Path) -> None:
    found = {}
    for count in (1, 3, 5):
        found[count] = joules(started(tmp_path / str(count), count=count).ledger, Stage.FINETUNE)[0]
    scenario, plan = local_plan(1)
    each = cost.finetune_round(
        scenario, plan.finetune.batch.astype(float), plan.finetune.clock_hz, plan.finetune.power_w
    )
    once = float(each.compute_j.sum())
    assert found[3] - found[1] == pytest.approx(2.0 * once, rel=1e-9)
    assert found[5] - found[1] == pytest.approx(4.0 * once, rel=1e-9)


def test_one_of_several_is_the_run_of_federated_sgd_to_the_byte(tmp_path: Path) -> None:
    chosen = started(tmp_path / "chosen", count=1)
    plain = small_scenario()
    run(hand_plan(plain), plain, out=tmp_path / "plain", task=tiny_task())
    assert (chosen.out / "model.safetensors").read_bytes() == (tmp_path / "plain" / "model.safetensors").read_bytes()


def test_more_local_steps_move_further(tmp_path: Path) -> None:
    losses = [started(tmp_path / str(count), count=count).test_loss for count in (1, 5)]
    assert losses[1] < losses[0]


def test_a_number_that_is_none_of_the_scenarios_is_refused(tmp_path: Path) -> None:
    scenario, plan = local_plan(3, [1, 3])
    wrong = replace(plan, finetune=replace(plan.finetune, local_steps=2))
    with pytest.raises(InputError, match=r"plan.finetune.local_steps: holds 2, should hold 1 or 3"):
        run(wrong, scenario, out=tmp_path / "no", task=tiny_task())


def test_robust_rules_are_refused(tmp_path: Path) -> None:
    scenario, plan = local_plan(3, [1, 3])
    with pytest.raises(InputError, match=r"aggregation: holds .*, should hold mean: with several local steps"):
        run(plan, scenario, out=tmp_path / "no", task=tiny_task(), aggregation="median")


def test_a_run_that_diverges_within_a_round_says_so(tmp_path: Path) -> None:
    scenario, plan = local_plan(4, smoothness=1e-30, finetune_step=1e29)
    with pytest.raises(RunFailed, match="diverged"):
        run(plan, scenario, out=tmp_path / "far", task=relu_task())
