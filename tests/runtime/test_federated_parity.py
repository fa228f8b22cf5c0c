"""The federation over TLS streams gives what the simulation gives."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runtime_helpers import hand_plan, norm_task, small_scenario, tiny_task

pytest.importorskip("grpc", reason="needs the extra `flower`")

from pretune.fieldbook import load_fieldbook
from pretune.ledger import Stage
from pretune.report import render
from pretune.runtime.federated.loopback import Loopback
from pretune.runtime.run import run


@pytest.mark.parametrize("task", [tiny_task, norm_task])
def test_federated_and_local_give_the_same_model_and_ledger(tmp_path, task):
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(5, 15))
    local = run(plan, scenario, out=tmp_path / "local", task=task())
    remote = run(plan, scenario, out=tmp_path / "remote", task=task(), backend=Loopback())
    for name, tensor in local.model.state_dict().items():
        torch.testing.assert_close(remote.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert len(remote.ledger) == len(local.ledger) == 21
    for one, other in zip(local.ledger, remote.ledger, strict=True):
        assert (one.stage, one.round, one.realised_s, one.realised_j) == (
            other.stage,
            other.round,
            other.realised_s,
            other.realised_j,
        )
    assert remote.summary["realised"] == local.summary["realised"]
    lines = load_fieldbook(tmp_path / "remote")
    assert [line.round for line in lines] == list(range(1, 16))
    assert all(line.answered == tuple(scenario.devices.names) for line in lines)
    for device in lines[-1].devices:
        assert device.compute_s > 0
        assert device.bytes_up > 0
        assert device.compute_source == "modelled"
        assert device.applied["batch"] == "applied"
        assert device.applied["clock"].startswith("not applied")


def test_the_report_sets_planned_beside_measured_and_says_what_was_applied(tmp_path):
    scenario = small_scenario()
    run(hand_plan(scenario, rounds=(2, 4)), scenario, out=tmp_path / "run", task=tiny_task(), backend=Loopback())
    run(hand_plan(scenario, rounds=(2, 4)), scenario, out=tmp_path / "local", task=tiny_task())
    html = render(tmp_path / "run")
    assert "Planned against measured" in html
    assert "batch applied; clock, power not applied" in html
    assert "modelled" in html
    assert "Planned against measured" not in render(tmp_path / "local")


def test_private_noise_is_not_what_the_devices_could_draw_themselves(tmp_path):
    """They know the run's seed: with it, a simulation's noise can be taken off again, a federation's can't."""
    pytest.importorskip("opacus", reason="needs the extra `privacy`")
    privacy = {"epsilon": 4.0, "delta": 1e-5, "clip": 1.0, "parameters": 64 * 12 + 12 + 12 * 10 + 10}
    scenario = small_scenario(privacy=privacy)
    plan = hand_plan(scenario, rounds=(0, 2))
    local = run(plan, scenario, out=tmp_path / "local", task=tiny_task())
    remote = [run(plan, scenario, out=tmp_path / k, task=tiny_task(), backend=Loopback()) for k in ("a", "b")]
    weights = [torch.cat([p.flatten() for p in one.model.parameters()]) for one in (local, *remote)]
    # two rounds of noise on each weight, at the step of 0.05: never the same twice
    expected = 0.05 * 2**0.5 * 2**0.5 * scenario.privacy.noise_std(2, 0.4)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert float((weights[one] - weights[other]).detach().std()) == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("task", [tiny_task, norm_task])
def test_local_steps_are_taken_by_the_devices(tmp_path, task):
    plain = small_scenario()
    convergence = {**plain.to_dict()["convergence"], "local_steps": 3, "heterogeneity": 1.0}
    scenario = small_scenario(convergence=convergence)
    plan = hand_plan(scenario, rounds=(0, 5))
    plan = replace(plan, finetune=replace(plan.finetune, local_steps=3))
    local = run(plan, scenario, out=tmp_path / "local", task=task())
    remote = run(plan, scenario, out=tmp_path / "remote", task=task(), backend=Loopback())
    for name, tensor in local.model.state_dict().items():
        torch.testing.assert_close(remote.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert remote.summary["realised"] == local.summary["realised"]
    assert [record.gradient_norm_sq for record in remote.ledger.of(Stage.FINETUNE)] == [None] * 5


def test_a_robust_rule_works_on_what_the_devices_send(tmp_path):
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(0, 6))
    local = run(plan, scenario, out=tmp_path / "local", task=tiny_task(), aggregation="median")
    remote = run(plan, scenario, out=tmp_path / "remote", task=tiny_task(), aggregation="median", backend=Loopback())
    for name, tensor in local.model.state_dict().items():
        torch.testing.assert_close(remote.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


def test_a_federated_run_goes_on_as_a_local_one_and_back(tmp_path):
    """Its folder is a run's folder like any other."""
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(3, 9))
    whole = run(plan, scenario, out=tmp_path / "whole", task=tiny_task())
    for out, first, then in (("a", None, Loopback()), ("b", Loopback(), None)):
        with pytest.raises(KeyboardInterrupt):
            run(plan, scenario, out=tmp_path / out, task=tiny_task(), backend=first, progress=_stop, checkpoint_every=1)
        rest = run(plan, scenario, out=tmp_path / out, task=tiny_task(), backend=then)
        assert [record.round for record in rest.ledger] == [record.round for record in whole.ledger]
        for name, tensor in whole.model.state_dict().items():
            torch.testing.assert_close(rest.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


def _stop(record) -> None:
    if record.stage == "finetune" and record.round == 4:
        raise KeyboardInterrupt


def test_flower_s_simulation_gives_the_same_model(tmp_path):
    pytest.importorskip("flwr", reason="needs the extra `flower`")
    pytest.importorskip("ray", reason="needs Ray: pip install 'flwr[simulation]'")
    if not os.environ.get("PRETUNE_SLOW"):
        pytest.skip("takes 20 s of processor time: set PRETUNE_SLOW=1")
    # in a process of its own: Ray leaves threads and files behind, and warns
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("flower_simulation.py")), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "same model" in done.stdout
