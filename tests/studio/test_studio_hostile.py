"""Scenarios that somebody made to hurt: each gets a 4xx with one line, soon, and the studio goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from studio_server import Studio, problem, serving

from pretune.studio.examples import example_tree
from pretune.studio.settings import Limits

HUNDREDS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + k)}: &{chr(98 + k)} [{','.join(f'*{chr(97 + k)}' for _ in range(10))}]\n" for k in range(9)
)


def with_task(task: Any) -> dict[str, Any]:
    return {**example_tree("digits"), "task": task}


def with_devices(devices: Any) -> dict[str, Any]:
    return {**example_tree("digits"), "devices": devices}


DRAW = example_tree("campus")["devices"]["draw"]

TREES: dict[str, tuple[dict[str, Any], str]] = {
    "ten million devices": (with_devices({"count": 10**7, "draw": DRAW}), "devices.count"),
    "count as a text": (with_devices({"count": "1e9", "draw": DRAW}), "devices.count"),
    "many rows": (with_devices([{}] * 20_001), "devices"),
    "a fleet file": (with_devices({"file": "/etc/passwd"}), "devices.file"),
    "a fleet file upwards": (with_devices({"file": "../../secret.csv"}), "devices.file"),
    "a folder of devices": (with_devices({"folder": "/etc"}), "devices.folder"),
    "whatever else": (with_devices({"count": 1, "draw": DRAW, "url": "http://evil.example"}), "devices.url"),
    "a task file": (with_task({"file": "/etc/passwd"}), "task.file"),
    "a task file upwards": (with_task({"file": "../own_task.py"}), "task.file"),
    "a task file as a list": (with_task({"file": ["own_task.py"]}), "task.file"),
    "an importable function": (with_task({"function": "os:system"}), "task.function"),
    "a data folder": (with_task({"name": "mnist-usps", "folder": "/etc"}), "task.folder"),
    "no number": ({**example_tree("digits"), "budget": {"energy_j": "nan", "delay_s": 1}}, "budget.energy_j"),
    "infinite": ({**example_tree("digits"), "budget": {"energy_j": 1, "delay_s": "inf s"}}, "budget.delay_s"),
    "a huge integer": ({**example_tree("digits"), "budget": {"energy_j": 10**400, "delay_s": 1}}, "budget.energy_j"),
    "not a scenario": ({"x": 1}, ""),
}


@pytest.mark.parametrize("name", TREES)
def test_a_tree_is_refused_in_one_line(studio: Studio, name: str) -> None:
    tree, field = TREES[name]
    for path in ("/scenario", "/plan"):
        found, message = problem(studio.post(path, {"scenario": tree}), 422)
        assert found == field, message


@pytest.mark.parametrize(
    ("text", "form", "said"),
    [
        (HUNDREDS, "yaml", "alias"),
        ("a: !!python/object/apply:os.system ['true']\n", "yaml", "tag"),
        ("[" * 5000, "yaml", "nested"),
        ("{\n" * 40 + '"a":1' + "}" * 40, "yaml", "nested"),
        ("[" * 100_000, "json", "nested too deeply"),
        ('{"a": NaN}', "json", "NaN"),
        ('{"a": 1, "a": 2}', "json", "twice"),
        ("a." * 50 + "b = 1", "toml", "parts"),
        ("\x00", "yaml", ""),
        ("", "json", "empty"),
    ],
)
def test_a_text_is_refused_in_one_line(studio: Studio, text: str, form: str, said: str) -> None:
    _, message = problem(studio.post("/scenario", {"text": text, "format": form}), 422)
    assert said in message


@pytest.mark.parametrize(
    "body",
    [
        b'{"scenario_id": "../../../../etc/passwd"}',
        b'{"scenario_id": "..%2f"}',
        b'{"scenario_id": ["x"]}',
        b'{"scenario_id": "' + b"0" * 31 + b'"}',
        b'{"energy_j": NaN}',
        b'{"energy_j": 1e999}',
        b'{"tolerance": NaN}',
        b'{"tolerance": 0}',
        b'{"time_limit_s": 1e9}',
        b'{"scenario": {}, "unknown": 1}',
        b"{}",
        b"[]",
        b"null",
        b'"\\ud800"',
        b'{"scenario": {"\\ud800": "\\ud800"}}',
    ],
)
def test_a_body_is_refused(studio: Studio, body: bytes) -> None:
    answer = studio.client.post("/api/v1/plan", content=body, headers={"content-type": "application/json"})
    problem(answer, 422)


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 200_000, b"\xff\xfe", b"{'a': 1}", b"1e5" * 3])
def test_what_is_no_json_is_refused(studio: Studio, body: bytes) -> None:
    answer = studio.client.post("/api/v1/plan", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    problem(answer, answer.status_code)


def test_an_unknown_scenario_gets_404(studio: Studio) -> None:
    assert problem(studio.post("/plan", {"scenario_id": "0" * 32}), 404)[0] == "scenario_id"


def test_the_granted_task_file_is_taken_by_its_name(studio: Studio) -> None:
    answer = studio.post("/scenario", {"scenario": with_task({"file": "own_task.py"})})
    assert answer.status_code == 200
    assert answer.json()["tree"]["task"]["file"] == str(studio.settings.task_files[0])


def test_no_request_runs_code_or_reads_files(studio: Studio, tmp_path: Path) -> None:
    """A file outside is not even looked at: one that exists is refused with the words for one that does not."""
    there = tmp_path / "fleet.csv"
    there.write_text("gain\n1\n", encoding="utf-8")
    messages = {
        problem(studio.post("/scenario", {"scenario": with_devices({"file": str(path)})}), 422)[1].replace(
            str(path), ""
        )
        for path in (there, tmp_path / "none.csv")
    }
    assert len(messages) == 1


def test_what_takes_too_long_is_ended_and_the_next_is_served(tmp_path: Path) -> None:
    """The solver that is at it is replaced: a text that takes minutes to read costs one 422."""
    slow = "pretune: 1\n" + "".join(f"k{i}: {{a: 1, b: [2, 3]}}\n" for i in range(60_000))
    with serving(tmp_path, limits=Limits(solve_s=0.5, waiting=1)) as studio:
        field, message = problem(studio.post("/scenario", {"text": slow}), 422)
        assert field == "time_limit"
        assert "0.5 s" in message
        assert (
            studio.post("/scenario", {"text": json.dumps(example_tree("digits")), "format": "json"}).status_code == 200
        )
