"""Fronts: more of a budget never hurts, every point is a plan that passes its check."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from draws import draw

import pretune
from pretune.cli import main
from pretune.errors import InputError
from pretune.planner import pareto

TOLERANCE = 1e-2
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"


@pytest.mark.parametrize("criterion", ["trajectory", "final"])
@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("axis", ["energy", "delay"])
def test_more_never_hurts(axis: str, access: str, criterion: str) -> None:
    scenario = draw(1, access=access, criterion=criterion, count=2, energy="tight", idle_power=False).scenario
    low, high = pareto.default_range(scenario, axis)
    last = float("inf")
    points = list(pareto.front(scenario, axis, pareto.budgets(low, high, 4), tolerance=TOLERANCE))
    assert len(points) == 4
    for point in points:
        assert point.plan is not None
        at = scenario.with_budget(energy_j=point.energy_j, delay_s=point.delay_s)
        pretune.check(point.plan, at)
        assert point.plan.objective <= last * (1.0 + 1e-12)
        last = point.plan.objective
        alone = pretune.plan(at, tolerance=TOLERANCE)
        slack = 1.001 * (alone.relative_gap + point.plan.relative_gap)
        assert abs(alone.objective / point.plan.objective - 1.0) <= slack


def test_a_grid_falls_both_ways() -> None:
    scenario = pretune.load_scenario(EXAMPLE)
    points = list(pareto.grid(scenario, [0.2, 0.4, 0.8], [1.0, 2.0]))
    value = {(p.energy_j, p.delay_s): p.plan.objective for p in points if p.plan is not None}
    assert len(value) == 6
    for (energy, delay), here in value.items():
        for (more, longer), there in value.items():
            assert more < energy or longer < delay or there <= here * (1.0 + pareto.TOLERANCE)


def test_budgets_below_the_least_are_infeasible() -> None:
    scenario = pretune.load_scenario(EXAMPLE)
    points = list(pareto.front(scenario, "delay", [1e-9, 1.0]))
    assert points[0].plan is None
    assert points[1].plan is not None
    low, high = pareto.default_range(scenario.with_budget(delay_s=1e-9), "delay")
    found = list(pareto.front(scenario, "delay", [low, high]))
    assert all(point.plan is not None for point in found)


def test_ranges_are_refused() -> None:
    for low, high, points in ((1.0, 1.0, 5), (0.0, 1.0, 5), (1.0, float("inf"), 5), (1.0, 2.0, 1)):
        with pytest.raises(InputError):
            pareto.budgets(low, high, points)
    with pytest.raises(InputError):
        list(pareto.front(pretune.load_scenario(EXAMPLE), "power", [1.0]))
    spread = pareto.budgets(1.0, 100.0, 3)
    assert spread[0] == 1.0
    assert spread[1] == pytest.approx(10.0)
    assert spread[-1] == 100.0


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    target = tmp_path / "front.svg"
    words = ["pareto", str(EXAMPLE), "--points", "3", "--energy", "200 mJ:0.8", "--plot", str(target)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "More energy, the same delay" in shown
    assert "More time" not in shown
    svg = target.read_text(encoding="utf-8")
    assert "<svg" in svg
    assert "<text" not in svg
    assert "mathdefault" not in svg
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--json"]) == 0
    assert target.read_text(encoding="utf-8") == svg
    tree = json.loads(capsys.readouterr().out)
    assert [point["budget"]["energy_j"] for point in tree["points"]] == pytest.approx([0.2, 0.4, 0.8])
    assert all(point["status"] == "optimal" for point in tree["points"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--energy", "1"], 2, "--energy"),
        (["--energy", "x:2"], 2, "--energy"),
        (["--delay", "2:1"], 2, "the smaller first"),
        (["--plot", "front.png"], 2, ".svg"),
        (["--delay", "1e-9:2e-9", "--points", "2"], 3, "infeasible"),
        (["--grid", "--points", "2", "--tolerance", "0.01", "--json"], 0, ""),
    ],
)
def test_command_line_errors(words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pareto", str(EXAMPLE), *words]) == code
    assert said in capsys.readouterr().err
