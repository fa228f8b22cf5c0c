"""A run killed at any moment goes on to the same result, byte for byte; a damaged folder is told or healed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runtime_helpers import hand_plan, small_scenario, tiny_task

from pretune.errors import RunFailed
from pretune.ledger import load_ledger
from pretune.runtime.checkpoint import checkpoint_files
from pretune.runtime.run import run

HERE = Path(__file__).parent
RESULTS = ("model.safetensors", "ledger.jsonl", "summary.json")


def _results(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in RESULTS]


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The folder in which killed_runs.py has done its work."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork and SIGKILL")
    target = tmp_path_factory.mktemp("killed")
    subprocess.run([sys.executable, str(HERE / "killed_runs.py"), str(target)], check=True, timeout=300)
    return target


def test_kills_at_every_write_end_in_the_same_bytes(killed):
    """Ten files are written in a run: three at the start, four checkpoints, three results."""
    report = json.loads((killed / "report.json").read_text())
    expected = _results(killed / "whole-plain")
    for n in range(1, 11):
        for moment in ("half", "written", "renamed"):
            assert report[f"{moment}-{n}"] == 1, f"the run was not killed at {moment} {n}"
            assert _results(killed / f"{moment}-{n}") == expected, (moment, n)


def test_kills_at_records_end_in_the_same_bytes(killed):
    report = json.loads((killed / "report.json").read_text())
    for n in (1, 2, 8, 21, 31):
        assert report[f"record-{n}"] == 1
        assert _results(killed / f"record-{n}") == _results(killed / "whole-plain"), n


@pytest.mark.parametrize("kind", ["plain", "norm"])
def test_a_run_killed_again_and_again_gets_through(killed, kind):
    """Killed after every ninth record, with a checkpoint every seventh: several starts, each a little further."""
    report = json.loads((killed / "report.json").read_text())
    assert report[f"chain-{kind}"] >= 3
    assert _results(killed / f"chain-{kind}") == _results(killed / f"whole-{kind}")


def test_nothing_is_left_over(killed):
    for folder in killed.iterdir():
        if folder.is_dir():
            names = sorted(path.name for path in folder.iterdir())
            assert names == sorted([".lock", "run.json", "plan.json", "scenario.json", "timing.json", *RESULTS])


CHILD = """
import sys
sys.path.insert(0, {here!r})
import torch; torch.set_num_threads(1)
from runtime_helpers import hand_plan, small_scenario
from pretune.runtime.run import run
task = {{"name": "digits", "model": {{"kind": "cnn", "hidden": 16}}, "partition": {{"scheme": "dirichlet"}}}}
scenario = small_scenario(task)
plan = hand_plan(scenario, rounds=(150, 150))
tell = lambda record: print(record.round, flush=True)
run(plan, scenario, out={out!r}, checkpoint_every=20, checkpoint_s=0.05, progress=tell)
"""


def test_killed_from_outside_at_odd_moments(tmp_path):
    """The whole way: digits, convolutions, a Dirichlet partition, and a SIGKILL from another process."""

    def start(out: Path) -> subprocess.Popen:
        code = CHILD.format(here=str(HERE), out=str(out))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    with start(tmp_path / "whole") as whole:
        whole.communicate()
    assert whole.returncode == 0
    for lines, wait_s in ((40, 0.013), (120, 0.0)):
        with start(tmp_path / "cut") as child:
            for _ in range(lines):
                assert child.stdout.readline()
            time.sleep(wait_s)
            child.send_signal(signal.SIGKILL)
            child.communicate()
        assert child.returncode == -signal.SIGKILL
        assert not (tmp_path / "cut" / "summary.json").exists()
    with start(tmp_path / "cut") as child:
        child.communicate()
    assert child.returncode == 0
    assert _results(tmp_path / "cut") == _results(tmp_path / "whole")
    assert json.loads((tmp_path / "cut" / "timing.json").read_text())["resumed_at"] > 0


class _Stop(Exception):
    pass


def _stop_at(n: int):
    def progress(record) -> None:
        if record.stage.value == "pretrain" and record.round == n:
            raise _Stop

    return progress


def _start(out: Path, stop: int | None = None):
    scenario = small_scenario()
    plan = hand_plan(scenario)
    progress = None if stop is None else _stop_at(stop)
    return run(plan, scenario, out=out, task=tiny_task(), checkpoint_every=4, checkpoint_s=1e9, progress=progress)


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[bytes]:
    out = tmp_path_factory.mktemp("whole") / "run"
    _start(out)
    return _results(out)


@pytest.fixture
def stopped(tmp_path) -> Path:
    """A run stopped after 15 rounds, with checkpoints after 8 and 12."""
    out = tmp_path / "run"
    with pytest.raises(_Stop):
        _start(out, stop=15)
    assert [int(file.stem.split("-")[1]) for file in checkpoint_files(out)] == [12, 8]
    return out


def test_an_exception_leaves_a_run_that_goes_on(stopped, expected):
    _start(stopped)
    assert _results(stopped) == expected


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "head"])
def test_a_damaged_checkpoint_falls_back_on_the_one_before(stopped, expected, damage):
    newest = checkpoint_files(stopped)[0]
    data = bytearray(newest.read_bytes())
    if damage == "cut":
        data = data[: len(data) // 2]
    elif damage == "flipped":
        data[-100] ^= 1
    elif damage == "empty":
        data = bytearray()
    else:
        data[70] ^= 1
    newest.write_bytes(data)
    result = _start(stopped)
    assert _results(stopped) == expected
    assert json.loads((stopped / "timing.json").read_text())["resumed_at"] == 9  # the start and eight rounds
    assert len(result.ledger) == 31


def test_two_damaged_checkpoints_are_told(stopped):
    for file in checkpoint_files(stopped):
        file.write_bytes(file.read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    with pytest.raises(RunFailed, match="no checkpoint can be used, start again in another folder") as caught:
        _start(stopped)
    assert "\n" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in stopped.iterdir()} == before


def test_a_ledger_cut_behind_the_last_checkpoint_falls_back(stopped, expected):
    ledger = stopped / "ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(lines[:11]) + lines[11][:20])
    _start(stopped)
    assert _results(stopped) == expected


def test_a_ledger_damaged_in_its_beginning_is_told(stopped):
    ledger = stopped / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"round": 3,', '"round": 4,'))
    with pytest.raises(RunFailed, match=r"ledger\.jsonl: does not agree with the checkpoint after 12 rounds"):
        _start(stopped)
    ledger.unlink()
    with pytest.raises(RunFailed, match="can't be read"):
        _start(stopped)


def test_without_any_checkpoint_it_begins_anew(stopped, expected):
    for file in checkpoint_files(stopped):
        file.unlink()
    _start(stopped)
    assert _results(stopped) == expected


def test_an_ended_run_is_read_back_and_not_done_again(tmp_path, expected):
    first = _start(tmp_path / "run")
    times = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    again = _start(tmp_path / "run")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()} == times
    assert again.ledger == first.ledger == load_ledger(tmp_path / "run")
    assert again.summary == first.summary
    assert (again.test_accuracy, again.test_loss) == (first.test_accuracy, first.test_loss)
    for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize("name", ["summary.json", "model.safetensors", "run.json"])
def test_a_damaged_result_is_told(tmp_path, name):
    _start(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(b"{")
    with pytest.raises(RunFailed, match="damaged") as caught:
        _start(tmp_path / "run")
    assert "\n" not in str(caught.value)
    shutil.rmtree(tmp_path / "run")
