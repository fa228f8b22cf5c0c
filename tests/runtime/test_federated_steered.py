"""Steered runs whose devices are real: what the simulation gives and what becomes of those that do not answer."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runtime_helpers import norm_task, small_scenario, tiny_task
from steered import VARIATION, carry_out, small

pytest.importorskip("grpc", reason="needs the extra `flower`")

from federated_helpers import NAMES, TASK, Fleet, free_port, rounds_done, start_process, until

from pretune.control.steering import Steering
from pretune.errors import RunFailed
from pretune.fieldbook import Standing, load_fieldbook
from pretune.ledger import Stage
from pretune.lines import REPLANS, ROUNDS, load_lines
from pretune.report import render
from pretune.runtime import keeping
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.loopback import Loopback
from pretune.runtime.folder import BEST
from pretune.runtime.run import RunResult, run
from pretune.scenario import Scenario


@pytest.fixture(autouse=True)
def _no_estimates(monkeypatch):
    """Devices send whole gradients: what only their halves tell is not there in a federation."""
    monkeypatch.setattr(Steering, "estimate", lambda steering: None)


def _agree(one: RunResult, other: RunResult) -> None:
    """The same model to rounding, the same books but for what is computed from the model."""
    for name, tensor in one.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    assert len(one.ledger) == len(other.ledger)
    for a, b in zip(one.ledger, other.ledger, strict=True):
        for key in ("stage", "round", "realised_s", "realised_j", "elapsed_s", "elapsed_j", "planned_s"):
            assert getattr(a, key) == getattr(b, key), key
        assert (a.test_loss is None) == (b.test_loss is None)
    assert load_lines(one.out / ROUNDS) == load_lines(other.out / ROUNDS)
    assert _replans(one.out) == _replans(other.out)
    for key in ("status", "message", "realised", "stages", "rounds"):
        assert one.summary[key] == other.summary[key]


def _replans(out: Path) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "constants"} for line in load_lines(out / REPLANS)]


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({}, "stopped"),
        ({"control": "none", "replan": "off"}, "stopped"),
        ({"replan": "auto", "share": 0.6, "seed": 3}, "finished"),
        ({"replan": "auto", "task": norm_task()}, "stopped"),
    ],
)
def test_federated_and_local_give_the_same_model_and_books(tmp_path, options, status):
    """Also where it has to stop early, and keeps its best model."""
    local = carry_out(tmp_path / "local", **options)
    remote = carry_out(tmp_path / "remote", backend=Loopback(), **options)
    _agree(local, remote)
    assert remote.summary["status"] == status
    measured, rounds = load_fieldbook(remote.out), load_lines(remote.out / ROUNDS)
    for line, steered in zip(measured, rounds, strict=True):
        assert len(line.answered) == steered["asked"] - len(steered["late"])
    assert any(device.standing is Standing.UNASKED for line in measured for device in line.devices)
    assert "Planned against measured" in render(remote.out)


def test_local_steps_are_taken_by_the_devices(tmp_path):
    convergence = {
        **small_scenario().convergence.model_dump(exclude_unset=True),
        "local_steps": 3,
        "heterogeneity": 1.0,
    }
    scenario, plan = small(convergence=convergence, rounds=(0, 8))
    plan = replace(plan, finetune=replace(plan.finetune, local_steps=3))
    options = {"task": tiny_task(), "control": "rounds", "replan": "auto"}
    local = run(plan, scenario, out=tmp_path / "local", **options)
    _agree(local, run(plan, scenario, out=tmp_path / "remote", backend=Loopback(), **options))


class Steady(Engine):
    """Takes long enough for signals to come in mid-round."""

    def answer(self, frame, run_, received_at):
        time.sleep(0.02)
        return super().answer(frame, run_, received_at)


def _engine(scenario: Scenario, name: str, kind: type[Engine] = Engine) -> Engine:
    made = Engine.of(scenario, tiny_task(), name)
    made.__class__ = kind
    return made


def test_a_device_killed_is_charged_and_made_up_for_and_lost_and_welcome_back(tmp_path):
    """A real process: killed once it is chosen for round 3, started again when it counts as lost."""
    scenario, plan = small(task=TASK, rounds=(0, 24), variation=None)
    (tmp_path / "scenario.json").write_text(json.dumps(scenario.to_dict()))
    fleet, process = Fleet.of(tmp_path / "keys"), []

    def start_it() -> None:
        tree = {"name": "d3", "scenario": "scenario.json", "keys": "keys/devices/d3", "mode": "direct"}
        (tmp_path / "device.json").write_text(json.dumps({**tree, "port": fleet.opened.port}))
        process.append(start_process("device", tmp_path / "device.json"))

    def causes() -> list[str]:
        return [line["cause"] for line in load_lines(tmp_path / "run" / REPLANS)]

    def progress(record) -> None:
        if record.stage is not Stage.FINETUNE:
            return
        if record.round == 2:
            process[0].kill()
            process[0].wait()
        if record.round == 9:
            start_it()
            until(lambda: len(fleet.opened.hub.present()) == 4, "the device does not come back")

    try:
        honest = [lambda name=name: fleet._follow(_engine(scenario, name), fleet.door(name)) for name in NAMES[:3]]
        result = run(
            plan,
            scenario,
            out=tmp_path / "run",
            task=tiny_task(),
            backend=fleet.streams(*honest, start_it, patience=Patience(floor_s=60.0)),
            progress=progress,
            control="rounds",
            replan="auto",
        )
    finally:
        for one in process:
            one.kill()
            one.wait()
    rounds, field = load_lines(tmp_path / "run" / ROUNDS), load_fieldbook(tmp_path / "run")
    assert [line["round"] for line in rounds if "missing" in line] == [3]
    third = rounds[2]
    assert (third["missing"], third["asked"], third["late"]) == (["d3"], 4, [])
    # nothing varies: the most that a round may take is what it takes if all do all that they are asked to
    assert third["energy_j"] == pytest.approx(third["most_j"], rel=1e-9)
    assert third["time_s"] == pytest.approx(third["most_s"], rel=1e-9)
    assert [line["asked"] for line in rounds[3:9]] == [3] * 6
    assert {line["asked"] for line in rounds[10:]} == {4}
    assert field[2].devices[3].standing in (Standing.LEFT, Standing.ABSENT)
    assert {line.devices[3].standing for line in field[3:9]} == {Standing.ABSENT}
    assert {line.devices[3].standing for line in field[10:]} == {Standing.OK}
    assert causes()[1:3] == ["d3 lost", "d3 back"]
    # who takes part in round 10 was decided before it was back
    assert [line["after_finetune"] for line in load_lines(tmp_path / "run" / REPLANS)][1:3] == [
        6,
        10,
    ]
    assert result.summary["status"] in ("finished", "stopped")
    assert result.summary["realised"]["energy_j"] <= scenario.budget.energy_j
    assert result.summary["realised"]["time_s"] <= scenario.budget.delay_s


def test_a_server_killed_goes_on_to_the_same_end(tmp_path):
    """SIGKILL in mid-run, under fading, leaving and jitter: what was decided and entered is that of the simulation."""
    scenario, plan = small(task=TASK, rounds=(4, 30), variation=VARIATION)
    (tmp_path / "scenario.json").write_text(json.dumps(scenario.to_dict()))
    plan.save(tmp_path / "plan.json")
    fleet, port, out = Fleet.of(tmp_path / "keys"), free_port(), tmp_path / "run"
    tree = {"plan": "plan.json", "scenario": "scenario.json", "out": "run", "keys": "keys/server", "mode": "direct"}
    steering = {"control": "rounds", "replan": "auto", "outage": 0.1}
    (tmp_path / "server.json").write_text(json.dumps({**tree, **steering, "port": port}))
    fleet.start(*[fleet.faithful(_engine(scenario, name, Steady), port) for name in NAMES])
    server = start_process("server", tmp_path / "server.json")
    try:
        until(lambda: rounds_done(out) >= 8, "the server makes no progress")
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        before = rounds_done(out)
        server = start_process("server", tmp_path / "server.json")
        assert server.wait(timeout=120) == 0
    finally:
        server.kill()
        server.wait()
    for thread in fleet.threads:
        thread.join(timeout=20)
    options = {"task": tiny_task(), "threads": 1, **steering}
    whole = run(plan, scenario, out=tmp_path / "whole", **options)
    mine = run(plan, scenario, out=out, **options)
    assert 8 <= before < whole.summary["rounds"]["finetune"]
    _agree(whole, mine)
    assert not list(out.glob("best*"))


def test_when_nobody_can_be_reached_the_run_waits_stops_and_goes_on_later(tmp_path):
    """Nothing is spent on waiting for a fleet that is not there."""
    patience = Patience(start_s=0.0, stalled_s=0.1)
    with pytest.raises(RunFailed, match="0 devices can be reached, 1 should") as caught:
        carry_out(tmp_path / "a", backend=Fleet.of(tmp_path / "keys").streams(patience=patience))
    assert "\n" not in str(caught.value)
    _agree(carry_out(tmp_path / "whole"), carry_out(tmp_path / "a", backend=Loopback()))


@pytest.mark.parametrize("moment", ["written", "entered"])
def test_a_crash_around_a_best_model_leaves_the_one_that_the_books_speak_of(tmp_path, monkeypatch, moment):
    """Between the three steps: the model under its round's name, the round entered, the model in its place."""
    options = {"control": "none", "replan": "off"}
    whole = carry_out(tmp_path / "whole", **options)
    owner, name = (keeping, "write_whole") if moment == "written" else (os, "replace")
    step, calls = getattr(owner, name), []

    def dying(path, other):
        best = Path(path).match("best.*-*.safetensors")
        calls.extend([path] * best)
        if best and moment == "entered" and len(calls) == 6:
            raise KeyboardInterrupt
        step(path, other)
        if best and moment == "written" and len(calls) == 6:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        with pytest.raises(KeyboardInterrupt):
            carry_out(tmp_path / "a", backend=Loopback(), **options)
    best = tmp_path / "a" / BEST
    (new,) = [file.read_bytes() for file in best.parent.glob("best.finetune-*")]
    expected = new if moment == "entered" else best.read_bytes()
    assert new != best.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        carry_out(tmp_path / "a", backend=Loopback(), progress=_stop, **options)
    assert best.read_bytes() == expected
    _agree(whole, carry_out(tmp_path / "a", backend=Loopback(), **options))


def _stop(_) -> None:
    raise KeyboardInterrupt
