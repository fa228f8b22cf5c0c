"""The run's folder: nothing is overwritten, one writer at a time, files whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from runtime_helpers import hand_plan, small_scenario, tiny_task

from pretune.errors import InputError
from pretune.runtime import checkpoint as module
from pretune.runtime.checkpoint import Checkpoint, checkpoint_files, load_checkpoint, save_checkpoint, write_whole
from pretune.runtime.folder import RunFolder
from pretune.runtime.run import run


def _run(out: Path, **options):
    scenario = small_scenario()
    return run(hand_plan(scenario, rounds=(3, 2)), scenario, out=out, **{"task": tiny_task(), **options})


def _refused(out: Path, **options) -> str:
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} if out.is_dir() else None
    with pytest.raises(InputError) as caught:
        _run(out, **options)
    if before is not None:
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"sun")
    assert "holds other files, and nothing is overwritten" in _refused(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("text")
    assert "should hold a folder, not a file" in _refused(tmp_path / "run")


def test_an_empty_folder_will_do_and_parents_are_made(tmp_path):
    (tmp_path / "empty").mkdir()
    _run(tmp_path / "empty")
    _run(tmp_path / "a" / "b" / "c", resume=False)


def test_no_resume_no_second_start(tmp_path):
    _run(tmp_path / "run")
    assert "this one is not empty, and nothing is overwritten" in _refused(tmp_path / "run", resume=False)


@pytest.mark.parametrize(
    ("change", "says"),
    [({"seed": 1}, "seed 0, this one 1"), ({"evaluate_every": 2}, "evaluate_every 1, this one 2")],
)
def test_another_run_is_not_mixed_in(tmp_path, change, says):
    _run(tmp_path / "run")
    assert says in _refused(tmp_path / "run", **change)


def test_another_plan_or_other_data_are_not_mixed_in(tmp_path):
    _run(tmp_path / "run")
    scenario = small_scenario()
    with pytest.raises(InputError, match="has plan_sha256"):
        run(hand_plan(scenario, rounds=(3, 3)), scenario, out=tmp_path / "run", task=tiny_task(), evaluate_every=1)
    task = tiny_task()
    task.test.x[0, 0, 0, 0] += 1.0
    assert "has task_sha256" in _refused(tmp_path / "run", task=task)


def test_threads_are_those_of_the_first_start(tmp_path):
    _run(tmp_path / "run", threads=1)
    _run(tmp_path / "run", threads=2)  # asked for in vain: it would change the last bits
    assert '"threads": 1' in (tmp_path / "run" / "run.json").read_text()


def test_one_writer_at_a_time(tmp_path):
    pytest.importorskip("fcntl")
    identity = {"pretune": 1, "threads": 1}
    first = RunFolder.open(tmp_path / "run", identity, {}, True)
    with pytest.raises(InputError, match="no other run is writing to"):
        RunFolder.open(tmp_path / "run", identity, {}, True)
    first.close()
    RunFolder.open(tmp_path / "run", identity, {}, True).close()


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"


def _checkpoint(done: int) -> Checkpoint:
    return Checkpoint(
        done=done, ledger_bytes=5, ledger_sha256="ab", state={"w": torch.arange(6.0), "n": torch.tensor(done)}
    )


def test_checkpoints_read_back_and_two_are_kept(tmp_path):
    for done in (1, 2, 10):
        save_checkpoint(tmp_path, _checkpoint(done))
    files = checkpoint_files(tmp_path)
    assert [load_checkpoint(file).done for file in files] == [10, 2]
    found = load_checkpoint(files[0])
    assert (found.ledger_bytes, found.ledger_sha256, int(found.state["n"])) == (5, "ab", 10)
    assert torch.equal(found.state["w"], torch.arange(6.0))


def test_any_changed_byte_and_any_cut_is_noticed(tmp_path):
    save_checkpoint(tmp_path, _checkpoint(3))
    (file,) = checkpoint_files(tmp_path)
    data = file.read_bytes()
    for i in range(len(data)):
        file.write_bytes(data[:i] + bytes([data[i] ^ 4]) + data[i + 1 :])
        with pytest.raises(InputError, match="is not a whole checkpoint"):
            load_checkpoint(file)
        file.write_bytes(data[:i])
        with pytest.raises(InputError, match="is not a whole checkpoint"):
            load_checkpoint(file)
    file.unlink()
    with pytest.raises(InputError, match="No such file"):
        load_checkpoint(file)


def test_an_unwritable_place_is_an_os_error_not_a_half_run(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission denied"):
        _run(tmp_path / "run")
