"""Runs: started, followed, interrupted and taken up again, listed after a restart, compared; all from their folders."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from studio_server import Studio, ask, problem, serving

from pretune.ledger import load_ledger
from pretune.studio import process
from pretune.studio.answers import Refused
from pretune.studio.describe_run import series
from pretune.studio.follow import Tail, events
from pretune.studio.jobs import Jobs
from pretune.studio.run_models import RunInfo, RunResult, Runs, RunsCompared
from pretune.studio.settings import Limits, Settings
from sample_run import folder as made_run
from sample_run import tree as made_tree

GET = "/api/v1/runs"
needs_torch = pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch, in another process")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


def stream(job: Any, known: int = 0, looks: int = 1000) -> list[tuple[str, Any, int]]:
    """The events of a run until its stream ends (or after so many looks): kind, data, id."""

    async def collect() -> bytes:
        left = iter(range(looks))

        async def gone() -> bool:
            return next(left, None) is None

        return b"".join([event async for event in events(lambda: job, known, gone, 0.0)])

    found = []
    for block in asyncio.run(collect()).decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            found.append((lines["event"], json.loads(lines["data"]), int(lines["id"])))
    return found


def test_runs_of_the_command_line_are_listed_and_shown(settings: Settings) -> None:
    made_run(settings.folder / "1")
    made_run(settings.folder / "2", done=30)
    (settings.folder / "notes").mkdir()
    (settings.folder / ".hidden").mkdir()
    (settings.folder / "link").symlink_to(settings.folder / "1")
    listed = Runs.model_validate(ask(settings, "GET", GET).json()).runs
    assert {run.id: run.status for run in listed} == {"1": "finished", "2": "interrupted"}
    whole = RunInfo.model_validate(ask(settings, "GET", f"{GET}/1").json())
    assert whole.rounds_done == whole.rounds_planned
    assert not whole.can_cancel
    found = RunResult.model_validate(ask(settings, "GET", f"{GET}/2/result").json())
    assert found.run.rounds_done is not None
    assert found.run.rounds_done.pretrain == 30
    assert found.series is not None
    ledger = load_ledger(settings.folder / "2")
    assert found.series.realised_j == [record.elapsed_j for record in ledger]
    assert found.series.planned_s[-1] == pytest.approx(ledger.table()[-1].planned_s)
    both = ask(settings, "GET", f"{GET}/compare", params={"a": "1", "b": "2"}).json()
    rows = {row.name: (row.a, row.b) for row in RunsCompared.model_validate(both).differences}
    assert rows["pre-training rounds"] == (40, 30)
    assert rows["status"] == ("finished", "interrupted")


def test_unknown_runs_and_what_they_have_not(settings: Settings) -> None:
    made_run(settings.folder / "1", done=30)
    for path in ("/none", "/none/result", "/none/events", "/none/report", "/link"):
        assert problem(ask(settings, "GET", GET + path), 404)[0] == "id"
    problem(ask(settings, "GET", f"{GET}/compare", params={"a": "1", "b": "none"}), 404)
    problem(ask(settings, "GET", f"{GET}/compare", params={"a": "1"}), 422)
    for action in ("cancel", "resume"):
        problem(ask(settings, "POST", f"{GET}/none/{action}"), 404)
        field, _ = problem(ask(settings, "POST", f"{GET}/1/{action}"), 409)
        assert field == "id"
    (settings.folder / "1" / "ledger.jsonl").unlink()
    problem(ask(settings, "GET", f"{GET}/1/result"), 409)
    problem(ask(settings, "GET", f"{GET}/1/report"), 409)


def test_too_many_streams_get_429(tmp_path: Path) -> None:
    made_run(tmp_path / "1")
    full = Settings(folder=tmp_path, limits=Limits(streams=0))
    answer = ask(full, "GET", f"{GET}/1/events")
    assert problem(answer, 429)[0] == "events"
    assert answer.headers["retry-after"] == "1"


def test_the_stream_of_a_run_that_has_ended(settings: Settings) -> None:
    made_run(settings.folder / "1")
    job = Jobs(settings=settings).find("1")
    records = load_ledger(settings.folder / "1").records
    kinds = stream(job)
    assert [kind for kind, _, _ in kinds] == ["records", "status", "end"]
    _, columns, number = kinds[0]
    assert number == len(records)
    assert columns["round"] == [record.round for record in records]
    assert kinds[-1][1] == {"status": "finished"}
    _, columns, _ = stream(job, known=10)[0]
    assert columns["round"] == [record.round for record in records[10:]]
    assert columns["planned_j"] == pytest.approx(kinds[0][1]["planned_j"][10:], rel=1e-12)
    assert [kind for kind, _, _ in stream(job, known=len(records))] == ["status", "end"]
    assert [kind for kind, _, _ in stream(job, known=10**6)] == ["reset", "records", "status", "end"]


def test_a_growing_ledger_is_read_line_by_line(tmp_path: Path) -> None:
    """Half a line waits for its other half; a ledger that was cut back is read anew."""
    whole = (made_run(tmp_path / "run") / "ledger.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "ledger.jsonl"
    tail = Tail(path=path)
    assert tail.look() == []
    path.write_bytes(b"".join(lines[:5]) + lines[5][:20])
    assert len(tail.look()) == 5
    path.write_bytes(b"".join(lines[:8]))
    assert [record.round for record in tail.look()] == [5, 6, 7]
    assert not tail.was_cut()
    path.write_bytes(b"".join(lines[:3]))
    assert tail.was_cut()
    assert len(tail.look()) == 3


def test_a_long_ledger_is_thinned_out(tmp_path: Path) -> None:
    records = load_ledger(made_run(tmp_path / "run", pretrain=900, finetune=300)).records
    found = series(records, 100)
    assert len(found.round) < 400
    tested = [record.round for record in records if record.test_loss is not None]
    assert [r for r, loss in zip(found.round, found.test_loss, strict=True) if loss is not None] == tested
    assert found.realised_j[-1] == records[-1].elapsed_j
    assert found.planned_j[-1] == pytest.approx(sum(record.planned_j for record in records))


def test_the_report_comes_with_a_policy_for_its_one_script(studio: Studio) -> None:
    made_run(studio.settings.folder / "reported")
    answer = studio.get("/runs/reported/report")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'")
    digest = policy.split("script-src '")[1].split("'")[0]
    assert digest in answer.text


def test_a_process_is_known_by_its_pid_and_birth() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert process.birth(child.pid) is not None
        assert process.birth(os.getpid()) != process.birth(child.pid)
    finally:
        child.kill()
        child.communicate()
    assert process.birth(child.pid) is None


def test_a_run_whose_code_is_not_granted_any_more_does_not_go_on(settings: Settings) -> None:
    own = settings.own / "jobs" / "mine"
    own.mkdir(parents=True)
    (own / "job.json").write_text(json.dumps({"kind": "run", "words": []}), encoding="utf-8")
    (own / "scenario.json").write_text(json.dumps(made_tree(task={"file": "/srv/own_task.py"})), encoding="utf-8")
    assert problem(ask(settings, "POST", f"{GET}/mine/resume"), 422)[0] == "task.file"
    granted = Settings(folder=settings.folder, task_files=(Path("/srv/own_task.py"),), limits=Limits(jobs=0))
    assert problem(ask(granted, "POST", f"{GET}/mine/resume"), 429)[0] == "jobs"


def test_no_more_jobs_than_allowed(tmp_path: Path) -> None:
    jobs = Jobs(settings=Settings(folder=tmp_path, limits=Limits(jobs=0)))
    with pytest.raises(Refused) as caught:
        jobs.start("run", {}, {}, [])
    assert caught.value.status == 429
    assert not (tmp_path / ".studio" / "jobs").exists()


@needs_torch
def test_a_scenario_without_a_task_starts_nothing(studio: Studio) -> None:
    for path in ("/runs", "/calibrate"):
        assert problem(studio.post(path, {"scenario_id": studio.example("campus")}), 422)[0] == "task"


def followed(studio: Studio, key: str, *, until: str, known: int = 0) -> Iterator[tuple[str, Any, int]]:
    """The events of a run over the wire, up to the first of a kind."""
    headers = {"last-event-id": str(known)}
    with studio.client.stream("GET", f"{GET}/{key}/events", headers=headers) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line and name:  # without a name it says that the run is still there
                event[name] = value
            elif event:
                yield event["event"], json.loads(event["data"]), int(event["id"])
                if event["event"] == until:
                    return
                event = {}


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder for runs; none of them outlives the test."""
    yield tmp_path
    for job in Jobs(settings=Settings(folder=tmp_path)).all():
        if (pid := job.own_process) is not None:
            os.kill(pid, signal.SIGKILL)
            while job.own_process is not None:
                process.reap()
    process.reap()


@needs_torch
def test_a_run_outlives_the_studio_and_goes_on_after_an_interrupt(runs: Path) -> None:
    """Started in one studio; another one finds it at work, interrupts it, takes it up again, and it ends well."""
    convergence = {**made_tree()["convergence"], "criterion": "trajectory"}  # always better with more rounds
    slow = made_tree(budget={"energy_j": 2000.0, "delay_s": 2000.0}, convergence=convergence)  # 150,000 of them
    with serving(runs) as studio:
        answer = studio.post("/runs", {"scenario": slow, "tolerance": 0.05})
        assert answer.status_code == 201, answer.text
        key = answer.json()["id"]
        assert answer.json()["can_cancel"]
        problem(studio.post(f"/runs/{key}/resume"), 409)
    with serving(runs) as studio:
        (listed,) = studio.get("/runs").json()["runs"]
        assert listed["id"] == key
        assert listed["status"] in ("planning", "running")
        *_, (_, columns, seen) = followed(studio, key, until="records")
        assert columns["planned_j"][-1] == pytest.approx(columns["realised_j"][-1], rel=0.5)
        assert studio.post(f"/runs/{key}/cancel").status_code == 202
        *_, (_, ended, _) = followed(studio, key, until="end", known=seen)
        assert ended == {"status": "interrupted"}
        found = studio.get(f"/runs/{key}").json()
        assert found["can_resume"]
        done = sum(found["rounds_done"].values())
        assert done > 0
        assert studio.post(f"/runs/{key}/resume").status_code == 202
        try:
            assert studio.get(f"/runs/{key}").json()["status"] == "running"
            for kind, _, number in followed(studio, key, until="never", known=10**9):
                if kind == "records" and number > done + 1:
                    break
        finally:
            assert studio.post(f"/runs/{key}/cancel").status_code == 202
        *_, (_, ended, _) = followed(studio, key, until="end")
        assert ended == {"status": "interrupted"}
