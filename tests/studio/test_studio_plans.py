"""What the page asks for: scenarios, plans, checks, comparisons, fronts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from studio_server import Studio, problem

from pretune.cli import main
from pretune.errors import InputError
from pretune.planner import plan
from pretune.planner.nearby import plan_nearby
from pretune.plans import plan_from_dict
from pretune.scenario import load_scenario, scenario_from_dict
from pretune.studio.describe import text_of
from pretune.studio.examples import TITLES, example_tree
from pretune.studio.responses import CompareAnswer, ParetoAnswer, PlanAnswer, ScenarioAnswer
from pretune.studio.words import STEP, price_of

CSV = "site,path loss,bandwidth_hz,max_clock_hz,capacitance,flops_per_cycle,max_power_w,samples,note\n" + "".join(
    f"s{k},-{95 + k},1 MHz,1e9,1e-27,2,0.2,{50 + k},x\n" for k in range(4)
)
COLUMNS: dict[str, Any] = {
    "site": {"key": "name"},
    "path loss": {"key": "gain", "unit": "dB"},
    **{key: {"key": key} for key in ("bandwidth_hz", "max_clock_hz", "capacitance", "flops_per_cycle")},
    "max_power_w": {"key": "max_power_w"},
    "samples": {"key": "samples"},
}


def answered(studio: Studio, path: str, body: Any) -> Any:
    answer = studio.post(path, body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def planned(studio: Studio, **body: Any) -> PlanAnswer:
    return PlanAnswer.model_validate(answered(studio, "/plan", body), strict=True)


@pytest.mark.parametrize("name", TITLES)
def test_every_example_is_a_scenario(name: str) -> None:
    assert scenario_from_dict(example_tree(name)).devices


@pytest.mark.parametrize("name", ["digits", "fading"])
def test_an_example_is_the_one_of_the_repository(name: str) -> None:
    file = Path(__file__).parents[2] / "examples" / f"{name}.yaml"
    assert load_scenario(file) == scenario_from_dict(example_tree(name))


def test_a_plan_says_what_it_promises_and_so_do_its_baselines(studio: Studio) -> None:
    key = studio.example("fading")
    assert planned(studio, scenario_id=key, tolerance=0.01).promise.startswith("energy kept with a probability of 0.95")
    assert planned(studio, scenario_id=studio.example("digits")).promise == ""
    body = {"scenario_id": key, "tolerance": 0.01, "only": ["finetune-only", "fixed-batch"]}
    compared = answered(studio, "/compare", body)["compared"]
    with_plan = {one["name"] for one in compared if one["objective"] is not None}
    assert with_plan == {"joint", "finetune-only", "fixed-batch"}


def test_a_scenario_is_read_and_described(studio: Studio) -> None:
    text = json.dumps(example_tree("digits"))
    found = ScenarioAnswer.model_validate(answered(studio, "/scenario", {"text": text, "format": "json"}))
    assert found.devices.count == 10
    assert found.can_run
    assert found.budget.energy_j == 0.5
    fields = {field.path: field for field in found.fields}
    assert fields["server.max_clock_hz"].text == "1.5 GHz"
    assert fields["radio.access"].choices == ["fdma", "tdma"]
    assert found.energy_range_j.low < 0.5 < found.energy_range_j.high
    assert scenario_from_dict(found.tree).sha256 == found.sha256 == scenario_from_dict(example_tree("digits")).sha256


def test_values_can_be_typed_in_as_they_are_shown(studio: Studio) -> None:
    """Every field's text, sent back as a change, gives its value again (to the seven digits that are shown)."""
    key = studio.example("campus")
    before = answered(studio, "/scenario", {"scenario_id": key})
    changes = {
        field["path"]: field["text"]
        for field in before["fields"]
        if field["unit"] and field["value"] is not None and not isinstance(field["value"], list)
    }
    assert len(changes) > 10
    after = answered(studio, "/scenario", {"scenario_id": key, "changes": changes})
    values = {field["path"]: field["value"] for field in before["fields"]}
    for field in after["fields"]:
        if field["path"] in changes:
            assert field["value"] == pytest.approx(values[field["path"]], rel=1e-6), field["path"]


@pytest.mark.parametrize(
    ("value", "unit", "text"), [(1.2e9, "Hz", "1.2 GHz"), (600.0, "s", "600 s"), (True, "", "true")]
)
def test_text_of(value: Any, unit: str, text: str) -> None:
    assert text_of(value, unit) == text


def test_changes_make_another_scenario(studio: Studio) -> None:
    key = studio.example("digits")
    found = answered(
        studio, "/scenario", {"scenario_id": key, "changes": {"devices[2].gain": "-100 dB", "radio.access": "tdma"}}
    )
    assert found["scenario_id"] != key
    assert found["access"] == "tdma"
    assert found["tree"]["devices"][2]["gain"] == pytest.approx(1e-10)
    for path in ("devices[99].gain", "server..x", "", "name.x"):
        problem(studio.post("/scenario", {"scenario_id": key, "changes": {path: 1}}), 422)
    field, message = problem(studio.post("/scenario", {"scenario_id": key, "changes": {"server.clock": 1}}), 422)
    assert field == "server.clock"
    assert "is not a known key" in message


def test_a_fleet_is_read_from_csv_with_other_columns_and_units(studio: Studio) -> None:
    found = answered(studio, "/scenario", {"example": "digits", "fleet": {"csv": CSV, "columns": COLUMNS}})
    assert found["devices"]["count"] == 4
    first = found["tree"]["devices"][0]
    assert first["name"] == "s0"
    assert first["gain"] == pytest.approx(10**-9.5)
    assert first["bandwidth_hz"] == 1e6
    for csv, said in (("", "holds no devices"), ("a,a\n1,2\n", "more than once"), ("a,b\n1\n", "has 1 cells")):
        _, message = problem(studio.post("/scenario", {"example": "digits", "fleet": {"csv": csv}}), 422)
        assert said in message


def test_a_plan_says_what_the_page_shows(studio: Studio) -> None:
    key = studio.example("campus")
    found = planned(studio, scenario_id=key, energy_j="2.9 kJ")
    assert found.has_plan
    assert found.budget.energy_j == 2900.0
    assert found.relative_gap is not None
    assert found.relative_gap <= 1e-3
    assert found.pretrain is not None
    assert found.finetune is not None
    assert found.pretrain.rounds > 0
    assert found.finetune.rounds > 0
    assert found.energy_j == pytest.approx(sum(one.energy_j for one in found.spending), rel=1e-9)
    assert found.delay_s == pytest.approx(sum(one.delay_s for one in found.spending), rel=1e-9)
    assert found.energy_j == pytest.approx(found.pretrain.energy_j + found.finetune.energy_j, rel=1e-9)
    assert {one.cause for one in found.spending} >= {"server compute", "broadcast", "device compute", "upload"}
    devices = found.devices
    assert devices is not None
    assert {len(column) for column in vars(devices).values()} == {100}
    assert min(devices.slack_s) == 0.0
    slowest = devices.slack_s.index(0.0)
    assert "deadline" in devices.binds[slowest]
    assert planned(studio, scenario_id=key, devices=False).devices is None


def test_dragging_gives_the_plan_of_a_search_from_nothing() -> None:
    """Within the tolerance, whatever the rounds it begins at; and its proof holds."""
    scenario = scenario_from_dict(example_tree("digits"))
    best = plan(scenario, tolerance=1e-4)
    for rounds in ((1, 1), (100, 0), (0, 10**6), (200, 130)):
        found = plan_nearby(scenario, rounds, tolerance=1e-3)
        assert found.relative_gap <= 1e-3
        assert found.objective <= best.objective * (1.0 + 2e-3)
        assert found.lower_bound <= best.objective


def test_the_words_about_a_price_hold_when_planned_again() -> None:
    """A step of a hundredth of the budget lowers the bound by what the sentence says, to a tenth of it."""
    scenario = scenario_from_dict(example_tree("campus"))
    before = plan(scenario, tolerance=2e-5)
    for name, value in before.multipliers.items():
        said = price_of(before, name, value)
        assert 0.2 * STEP <= said.step / getattr(scenario.budget, name) <= STEP
        more = scenario.with_budget(**{name: getattr(scenario.budget, name) + said.step})
        after = plan_nearby(more, (before.pretrain.rounds, before.finetune.rounds), tolerance=2e-5)
        share = 1.0 - after.objective / before.objective
        assert share == pytest.approx(said.share, rel=0.1)
        assert f"lower the bound by {100 * said.share:.2g} %." in said.sentence
        assert said.sentence.startswith(("20 more joules", "10 more seconds"))


def test_an_infeasible_scenario_says_what_would_do(studio: Studio) -> None:
    key = studio.example("tight")
    found = planned(studio, scenario_id=key)
    why = found.infeasible
    assert found.status == "infeasible"
    assert why is not None
    assert {"energy", "delay"} <= set(why.clash)
    assert why.min_energy_j is not None
    assert why.min_energy_j > found.budget.energy_j
    assert len(why.suggestions) == 2
    for one in why.suggestions:
        applied = planned(studio, scenario_id=key, energy_j=one.energy_j, delay_s=one.delay_s)
        assert applied.has_plan
    assert why.suggestions[0].energy_j <= 1.01 * why.min_energy_j


def test_what_is_exported_runs_through_the_checker(studio: Studio) -> None:
    target = {"scenario_id": studio.example("digits"), "energy_j": 0.45}
    plan_file = studio.post("/plan/file", target)
    assert 'filename="plan.json"' in plan_file.headers["content-disposition"]
    scenario_tree = answered(studio, "/scenario/file", target)
    assert scenario_from_dict(scenario_tree).budget.energy_j == 0.45
    tree = plan_file.json()
    assert plan_from_dict(tree).scenario_sha256 == scenario_from_dict(scenario_tree).sha256
    assert answered(studio, "/check", {"plan": tree, **target})["holds"]
    tree["energy_j"] *= 1.01
    found = answered(studio, "/check", {"plan": tree, **target})
    assert not found["holds"]
    assert found["problems"]
    field, _ = problem(studio.post("/check", {"plan": tree, "scenario_id": target["scenario_id"]}), 422)
    assert field == "plan.scenario_sha256" or "scenario" in field


def test_the_baselines_stand_beside_the_joint_plan(studio: Studio) -> None:
    found = CompareAnswer.model_validate(answered(studio, "/compare", {"scenario_id": studio.example("digits")}))
    names = [row.name for row in found.compared]
    assert names[0] == "joint"
    assert "successive" not in names
    assert {"pretrain-only", "fixed-batch", "equal-split", "random"} <= set(names)
    assert all(row.ratio is None or row.ratio >= 1.0 - 1e-3 for row in found.compared)
    only = answered(studio, "/compare", {"scenario_id": studio.example("digits"), "only": ["random"]})
    assert [row["name"] for row in only["compared"]] == ["joint", "random"]
    alone = answered(studio, "/compare", {"scenario_id": studio.example("digits"), "only": []})
    assert [row["name"] for row in alone["compared"]] == ["joint"]
    field, _ = problem(studio.post("/compare", {"scenario_id": studio.example("digits"), "only": ["best"]}), 422)
    assert field == "baseline"


def test_fronts_fall_along_their_budget(studio: Studio) -> None:
    body = {"scenario_id": studio.example("digits"), "points": 4, "delay_range": ["1 s", 4]}
    found = ParetoAnswer.model_validate(answered(studio, "/pareto", body))
    for axis in ("energy", "delay"):
        values = [point.objective for point in found.points if point.axis == axis]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)  # type: ignore[type-var]
    assert next(point.delay_s for point in found.points if point.axis == "delay") == 1.0
    field, _ = problem(studio.post("/pareto", {**body, "delay_range": [4, 1]}), 422)
    assert field == "delay_range"


def test_errors_are_the_command_lines_own(studio: Studio) -> None:
    """The same line for the same mistake."""
    tree = {**example_tree("digits"), "budget": {"energy_j": -5, "delay_s": 1}}
    with pytest.raises(InputError) as caught:
        scenario_from_dict(tree)
    field, message = problem(studio.post("/plan", {"scenario": tree}), 422)
    assert field == "budget.energy_j"
    assert message == caught.value.problems[0]


def test_status_and_examples(studio: Studio) -> None:
    names = {one["name"]: one for one in studio.get("/examples").json()["examples"]}
    assert set(names) == set(TITLES)
    assert names["digits"]["can_run"]
    assert not names["campus"]["can_run"]
    assert names["factory"]["devices"] == 10000
    found = studio.get("/status").json()
    assert found["ready"]
    assert found["task_files"] == ["own_task.py"]


def test_the_examples_of_the_documentation_work(studio: Studio, tmp_path: Path) -> None:
    """The requests of docs/studio.md, as a shell sends them; what they leave behind passes `pretune check`."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("needs curl and bash")
    page = (Path(__file__).parents[2] / "docs" / "studio.md").read_text(encoding="utf-8")
    (script,) = (block for block in re.findall(r"```sh\n(.*?)```", page, re.S) if "curl" in block)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "STUDIO": studio.url, "no_proxy": "*"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert PlanAnswer.model_validate_json(done.stdout).budget.delay_s == 2.0
    assert main(["check", str(tmp_path / "plan.json"), str(tmp_path / "scenario.json"), "--quiet"]) == 0
