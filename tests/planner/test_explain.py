"""The sentences about a plan say what its multipliers and a re-plan say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from draws import draw

import pretune
from pretune.cli import main
from pretune.planner.explain import explain

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"


def rate(sentences: tuple[str, ...], start: str) -> float:
    line = next(line for line in sentences if line.startswith(start))
    return float(line.partition(" objective by ")[2].partition(";")[0])


def test_rates_are_the_multipliers() -> None:
    scenario = pretune.load_scenario(EXAMPLE)
    plan = pretune.plan(scenario, tolerance=1e-3)
    said = explain(plan, scenario)
    assert said[1] == "What binds: the energy budget; the delay budget."
    assert rate(said, "One more joule") == pytest.approx(-plan.multipliers["energy_j"], rel=0.02)
    assert rate(said, "One more second") == pytest.approx(-plan.multipliers["delay_s"], rel=0.02)
    assert any(line.startswith("The bottleneck is cam-") for line in said)
    assert any(line.startswith("Without cam-") for line in said)


def test_the_band_binds_and_buys() -> None:
    scenario = draw(11, access="fdma", count=3, energy="tight", shares="optimal").scenario
    plan = pretune.plan(scenario, tolerance=1e-3)
    assert plan.finetune is not None
    assert plan.finetune.rounds > 0
    said = explain(plan, scenario)
    assert "the band" in said[1]
    assert rate(said, "One more megahertz of band") == pytest.approx(-1e6 * plan.multipliers["bandwidth_hz"], rel=0.02)


@pytest.mark.parametrize("seed", range(4))
def test_every_kind_of_plan_is_explained(seed: int) -> None:
    scenario = draw(seed, count=1 + seed % 3, energy="tight" if seed % 2 else "slack").scenario
    plan = pretune.plan(scenario, tolerance=2e-2)
    said = explain(plan, scenario)
    assert len(said) >= 4
    assert all(line.endswith(".") for line in said)


def test_nothing_fits() -> None:
    scenario = pretune.load_scenario(EXAMPLE).with_budget(delay_s=1e-9)
    plan = pretune.plan(scenario, throw=False)
    assert explain(plan, scenario) == (plan.message,)


def test_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    words = ["plan", str(EXAMPLE), "--tolerance", "0.005", "--explain"]
    assert main(words) == 0
    assert "- What binds: the energy budget" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["status"] == "optimal"
    assert "- What binds" in captured.err
