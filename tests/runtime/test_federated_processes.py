"""Processes that are killed with SIGKILL or frozen with SIGSTOP in mid-round, devices and server."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from runtime_helpers import hand_plan, small_scenario, tiny_task

pytest.importorskip("grpc", reason="needs the extra `flower`")
if not hasattr(signal, "SIGSTOP"):
    pytest.skip("needs SIGSTOP and SIGKILL", allow_module_level=True)

from federated_helpers import NAMES, TASK, Fleet, free_port, rounds_done, start_process, until

from pretune.fieldbook import Standing, load_fieldbook
from pretune.ledger import Stage, load_ledger
from pretune.runtime.federated.engine import Engine
from pretune.runtime.run import run


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "scenario.json").write_text(json.dumps(small_scenario(TASK).to_dict()))
    return tmp_path


def test_a_device_frozen_and_then_killed_in_mid_round(folder):
    """Frozen: late once, then left out. Awake again: takes part. Killed: lost at once, before the deadline."""
    fleet, scenario = Fleet.of(folder / "keys"), small_scenario(TASK)
    process, seen = [], {}

    def standing() -> list[Standing]:
        return [line.devices[3].standing for line in load_fieldbook(folder / "run")]

    def start_it() -> None:
        tree = {"name": "d3", "scenario": "scenario.json", "keys": "keys/devices/d3", "mode": "direct"}
        (folder / "device.json").write_text(json.dumps({**tree, "port": fleet.opened.port}))
        process.append(start_process("device", folder / "device.json"))

    class Steady(Engine):
        """Takes long enough for signals to come in mid-round."""

        def answer(self, frame, run_, received_at):
            time.sleep(0.03)
            return super().answer(frame, run_, received_at)

    def progress(record) -> None:
        if record.stage != "finetune":
            return
        now = standing()[-1]
        if not seen:
            os.kill(process[0].pid, signal.SIGSTOP)
            seen["frozen"] = record.round
        elif "awake" not in seen and record.round == seen["frozen"] + 3:
            os.kill(process[0].pid, signal.SIGCONT)
            seen["awake"] = record.round
        elif "awake" in seen and "killed" not in seen and now is Standing.OK:
            os.kill(process[0].pid, signal.SIGKILL)
            process[0].wait()
            seen["killed"] = record.round

    try:
        plan = hand_plan(scenario, rounds=(0, 60))
        honest = [lambda name=name: fleet._follow(_engine(name, Steady), fleet.door(name)) for name in NAMES[:3]]
        backend = fleet.streams(*honest, start_it)
        result = run(plan, scenario, out=folder / "run", task=tiny_task(), backend=backend, progress=progress)
    finally:
        for one in process:
            one.kill()
            one.wait()
    assert len(result.ledger) == 61
    found = standing()
    frozen, killed = seen["frozen"], seen["killed"]
    assert found[frozen : frozen + 3] == [Standing.LATE, Standing.BEHIND, Standing.BEHIND]
    assert [(event.device, event.round) for event in fleet.events.of("late")] == [("d3", frozen + 1)]
    assert set(found[killed:]) <= {Standing.LEFT, Standing.ABSENT}
    assert all({"d0", "d1", "d2"} <= set(line.answered) for line in load_fieldbook(folder / "run"))


def _engine(name: str, kind: type[Engine]) -> Engine:
    made = Engine.of(small_scenario(TASK), tiny_task(), name)
    made.__class__ = kind
    return made


def test_a_server_killed_goes_on_from_the_last_completed_round(folder):
    """Every round is in the ledger once, and the model is that of a run without interruption."""
    fleet, scenario = Fleet.of(folder / "keys"), small_scenario(TASK)
    plan = hand_plan(scenario, rounds=(5, 40))
    plan.save(folder / "plan.json")
    out = folder / "run"
    port = free_port()
    tree = {"plan": "plan.json", "scenario": "scenario.json", "out": "run", "keys": "keys/server", "mode": "direct"}
    (folder / "server.json").write_text(json.dumps({**tree, "port": port}))

    class Steady(Engine):
        def answer(self, frame, run_, received_at):
            time.sleep(0.02)
            return super().answer(frame, run_, received_at)

    fleet.start(*[fleet.faithful(_engine(name, Steady), port) for name in NAMES])
    done, kept = [], []
    try:
        for kills in range(2):
            server = start_process("server", folder / "server.json")
            if kills < 1:
                until(lambda: rounds_done(out) >= 15, "the server makes no progress")
                os.kill(server.pid, signal.SIGKILL)
                server.wait()
                done.append(rounds_done(out))
                kept.append((out / "measured.jsonl").read_text().splitlines()[: done[-1] - 1])
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()
        server.wait()
    for thread in fleet.threads:
        thread.join(timeout=20)
    assert 15 <= done[0] < 40
    records = load_ledger(out).of(Stage.FINETUNE)
    assert [record.round for record in records] == list(range(1, 41))
    lines = load_fieldbook(out)
    assert [line.round for line in lines] == list(range(1, 41))
    assert all(line.answered == NAMES for line in lines)
    # what was in the ledger before a kill was not done again: its clock readings are the same (the last round's line
    # may have been on its way to the checkpoint)
    text = (out / "measured.jsonl").read_text().splitlines()
    assert all(text[: len(part)] == part for part in kept)
    assert [len(part) for part in kept] == [done[0] - 1]
    whole = run(plan, scenario, out=folder / "whole", task=tiny_task())
    mine = run(plan, scenario, out=out, task=tiny_task(), threads=1)
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(mine.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
