"""Steered runs in the studio: how they are started, and what they plan anew, in answers and in the stream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studio_server import Studio, ask, problem
from test_studio_runs import GET, needs_torch, stream

from pretune.studio.describe_run import result
from pretune.studio.follow import Anew
from pretune.studio.jobs import Jobs
from pretune.studio.replans import MOST
from pretune.studio.run_models import RunInfo, RunResult
from pretune.studio.settings import Settings
from sample_run import folder as made_run
from sample_run import tree as made_tree

STEERING = {"control": "rounds", "replan": "auto", "outage": 0.1}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


def line(after: tuple[int, int], **changes: Any) -> dict[str, Any]:
    """A line of replans.jsonl."""
    side = {"ratio": 0.41, "low": 0.35, "high": 0.48, "looks": 12, "used": 0.41}
    unknown = {"ratio": None, "low": None, "high": None, "looks": 0, "used": 1.0}
    return {
        "after_pretrain": after[0],
        "after_finetune": after[1],
        "cause": "constants: the server's gradient variance is 0.41 of the scenario's",
        "taken": True,
        "effect": "taken",
        "rounds_before": [40, 20],
        "rounds_after": [30, 25],
        "batch_before": 145,
        "batch_after": 120,
        "objective_before": 1.4,
        "objective_after": None,
        "energy_left_j": 1.0,
        "delay_left_s": 1.5,
        "solves": 12,
        "constants": {"server": side, "devices": unknown},
        **changes,
    }


def steered(path: Path, lines: list[dict[str, Any]], more: str = "") -> Path:
    made_run(path)
    identity = path / "run.json"
    tree = json.loads(identity.read_text()) if identity.is_file() else {}
    identity.write_text(json.dumps({**tree, **STEERING}))
    (path / "replans.jsonl").write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in lines) + more)
    return path


def test_what_was_planned_anew_is_in_the_answers(settings: Settings) -> None:
    no = {"taken": False, "effect": "not better by enough", "constants": None}
    steered(settings.folder / "1", [line((0, 0)), line((12, 0)), line((40, 3), **no)], more='{"half')
    found = RunInfo.model_validate(ask(settings, "GET", f"{GET}/1").json())
    assert found.steering is not None
    assert found.steering.model_dump() == STEERING
    assert found.replanned is not None
    assert found.replanned.model_dump() == {"made": 3, "taken": 2}
    whole = RunResult.model_validate(ask(settings, "GET", f"{GET}/1/result").json())
    assert [(one.number, one.after_pretrain, one.after_finetune) for one in whole.replans] == [
        (1, 0, 0),
        (2, 12, 0),
        (3, 40, 3),
    ]
    second = whole.replans[1]
    assert second.cause.startswith("constants: ")
    assert (second.rounds_after.pretrain, second.rounds_after.finetune) == (30, 25)
    assert second.objective_after is None
    assert second.constants is not None
    assert second.constants.server.high == 0.48
    assert whole.replans[2].constants is None


def test_a_run_that_is_not_steered_says_so(settings: Settings) -> None:
    made_run(settings.folder / "1")
    found = ask(settings, "GET", f"{GET}/1").json()
    assert found["steering"] is None
    assert found["replanned"] is None
    assert ask(settings, "GET", f"{GET}/1/result").json()["replans"] == []
    assert "replans" not in [kind for kind, _, _ in stream(Jobs(settings=settings).find("1"))]


def test_a_damaged_line_is_left_out_and_long_files_are_cut_to_their_end(settings: Settings) -> None:
    folder = steered(settings.folder / "1", [line((0, 0))], more='{"cause": 3}\n[]\n')
    with (folder / "replans.jsonl").open("a") as file:
        file.writelines(json.dumps(line((40, n))) + "\n" for n in range(1, MOST + 11))
    found = ask(settings, "GET", f"{GET}/1/result").json()
    assert found["run"]["replanned"]["made"] == MOST + 13
    assert [one["number"] for one in found["replans"]] == list(range(14, MOST + 14))


def test_the_stream_brings_new_plans_after_the_records_they_belong_to(settings: Settings) -> None:
    steered(settings.folder / "1", [line((0, 0)), line((12, 0))])
    job = Jobs(settings=settings).find("1")
    kinds = stream(job)
    assert [kind for kind, _, _ in kinds] == ["records", "replans", "status", "end"]
    assert [one["number"] for one in kinds[1][1]["replans"]] == [1, 2]
    assert kinds[1][2] == kinds[0][2]  # an event's id is the number of records, for those who come back
    assert kinds[2][1]["steering"] == STEERING
    again = stream(job, known=kinds[0][2])  # who comes back gets all new plans again, by their numbers
    assert [kind for kind, _, _ in again] == ["replans", "status", "end"]


def test_new_plans_are_read_as_they_come_and_again_where_the_file_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "replans.jsonl"
    tail = Anew(path=path)
    assert tail.look() == []
    whole = [json.dumps(line((n, 0))) + "\n" for n in range(4)]
    path.write_text("".join(whole[:2]) + whole[2][:9])
    assert [one.number for one in tail.look()] == [1, 2]
    path.write_text("".join(whole))
    assert [(one.number, one.after_pretrain) for one in tail.look()] == [(3, 2), (4, 3)]
    path.write_text(whole[0])
    assert [one.number for one in tail.look()] == [1]
    path.write_text("".join(whole[:2]))
    assert [one.number for one in tail.look()] == [2]


def test_a_calibration_does_not_say_where_the_studio_keeps_its_files(settings: Settings) -> None:
    own = settings.own / "jobs" / "mine"
    own.mkdir(parents=True)
    (own / "job.json").write_text(json.dumps({"kind": "calibration", "words": []}))
    (own / "calibrated.json").write_text("{}")
    told = {"scenario": str(own / "calibrated.json"), "measured": {"smoothness": {"value": 9.5}}}
    (own / "out").write_text(json.dumps(told))
    found = result(Jobs(settings=settings).find("mine"))
    assert found.calibration == {"measured": told["measured"]}
    assert str(settings.folder) not in found.model_dump_json()


@needs_torch
@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"replan": "auto"}, "control"),
        ({"control": "rounds", "outage": 0.7}, "outage"),
        ({"control": "always"}, "control"),
    ],
)
def test_steering_that_can_t_be_is_refused(studio: Studio, options: dict[str, Any], field: str) -> None:
    assert problem(studio.post("/runs", {"scenario": made_tree(), **options}), 422)[0] == field
