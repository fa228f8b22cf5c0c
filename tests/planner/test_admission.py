"""Admission: against every subset of small fleets, its bound against random subsets, and what it says."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from draws import draw, odd

import pretune
from pretune.cli import main
from pretune.planner import admission
from pretune.planner.admission_candidates import Candidates
from pretune.planner.admission_fleet import Choice
from pretune.planner.admission_node import server_batch
from pretune.planner.kernels.admission import Cell, Part, offered, prove, subset_batches
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.priced import Region
from pretune.planner.kernels.rounds import coefficients
from pretune.plans import load_plan
from pretune.scenario import Scenario

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"
TOLERANCE = 1e-3


def of_rows(scenario: Scenario, kept: tuple[int, ...]) -> Scenario:
    """The scenario of some of the devices, written down from its rows."""
    tree: dict[str, Any] = scenario.to_dict()
    rows = [tree["devices"][k] for k in kept]
    total = math.fsum(row["weight"] for row in rows)
    tree["devices"] = [{**row, "weight": row["weight"] / total} for row in rows]
    if isinstance(tree["convergence"]["finetune_variance"], list):
        given = tree["convergence"]["finetune_variance"]
        tree["convergence"]["finetune_variance"] = [given[k] for k in kept]
    return Scenario(**{key: value for key, value in tree.items() if value is not None})


def best_of_all(scenario: Scenario, min_weight: float = 0.0) -> float:
    """The objective of the best plan of any subset, each planned by itself."""
    best, weight = math.inf, scenario.devices.weight
    for size in range(1, len(weight) + 1):
        for kept in itertools.combinations(range(len(weight)), size):
            if float(weight[list(kept)].sum()) < min_weight - 1e-12:
                continue
            plan = pretune.plan(of_rows(scenario, kept), tolerance=0.1 * TOLERANCE, throw=False)
            best = min(best, plan.objective if plan.status.has_plan else math.inf)
    return best


def holds(found: admission.Admission, best: float) -> None:
    """The admission is as good as the best subset, its bound is below it, and its plan passes the checker."""
    assert found.objective <= best * (1.0 + TOLERANCE)
    assert found.lower_bound <= best * (1.0 + 1e-9)
    assert found.lower_bound <= found.objective
    assert pretune.check(found.plan, found.scenario)


@pytest.mark.parametrize("batteries", [False, True])
@pytest.mark.parametrize("idle_power", [False, True])
@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_small_fleets_against_every_subset(criterion: str, access: str, idle_power: bool, batteries: bool) -> None:
    how: dict[str, Any] = {"criterion": criterion, "access": access, "idle_power": idle_power, "batteries": batteries}
    scenario = draw(11, count=4, stages="finetune", energy="tight", **how).scenario
    found = pretune.admit(scenario, tolerance=TOLERANCE)
    holds(found, best_of_all(scenario))
    # whole batches may leave a plan a gap of its own
    assert found.relative_gap <= max(TOLERANCE, found.plan.relative_gap + TOLERANCE)


@pytest.mark.parametrize("seed", [3, 4])
def test_eight_devices_against_every_subset(seed: int) -> None:
    criterion = "final" if seed % 2 else "trajectory"
    how: dict[str, Any] = {"idle_power": False, "batteries": False, "stages": "both", "energy": "tight"}
    scenario = draw(seed, count=8, access="fdma", criterion=criterion, **how).scenario
    holds(pretune.admit(scenario, tolerance=TOLERANCE), best_of_all(scenario))


@pytest.mark.parametrize("seed", range(6))
def test_the_search_for_large_fleets_against_every_subset(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Branch and bound on fleets small enough to look at every subset."""
    monkeypatch.setattr(admission, "EXACT", 0)
    scenario = draw(30 + seed, count=5, idle_power=bool(seed % 2), batteries=seed % 3 == 0, stages="finetune").scenario
    found = pretune.admit(scenario, tolerance=TOLERANCE)
    best = best_of_all(scenario)
    holds(found, best)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_any_prices_bound_every_subset(criterion: str, access: str) -> None:
    """Weak duality of the kernel: random boxes, random prices, random subsets with a plan inside."""
    compared = close = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drawn = draw(seed, count=6, access=access, criterion=criterion, stages="both")
        choice = Choice.of(drawn.scenario)
        mask = rng.random(6) < 0.6
        if not mask.any():
            continue
        part = choice.subset(mask)
        m, n = map(float, drawn.rounds)
        at = coefficients(part.criterion, m, n)
        point = new_point(int(mask.sum()))
        if solve_fixed(part, part.batches, m, n, at[2], at[3], point) != SOLVED:
            continue
        best = float(point.scalars[0]), float(point.scalars[1])
        # the bound speaks of whole batches
        whole, server = np.floor(point.batch), max(float(np.floor(point.scalars[4])), 1.0)
        pinned = part.batches._replace(low=whole, high=whole, server_low=server, server_high=server)
        if solve_fixed(part, pinned, m, n, at[2], at[3], point) != SOLVED:
            continue
        value = (at[1] + float(point.scalars[8])) / at[0]
        span, weight = float(point.scalars[2]), float(choice.alpha[mask].sum())
        problem = choice.problem._replace(limits=choice.limits(float(choice.down_s[mask].max())))
        for noise in (0.0, 0.3, 1.5):
            wide = 1.0 + rng.exponential(0.5 * noise, 6)
            region = Region(
                float(math.floor(m / wide[0])), float(math.ceil(m * wide[1])),
                float(max(math.floor(n / wide[2]), 1)), float(math.ceil(n * wide[3])),
                span / wide[4], span * wide[5],
            )  # fmt: skip
            cell = Cell(region.s1, region.s2, weight / wide[0], min(weight * wide[1], 1.0))
            lam, omega = np.array(best) * np.exp(noise * rng.normal(size=2))
            if not lam > 0.0:
                continue
            caps = subset_batches(problem, region, 0.0)
            inside = np.zeros(6, dtype=np.bool_)
            certain = mask & (rng.random(6) < 0.3)
            small = problem._replace(batches=problem.batches._replace(high=caps))
            boxes = Part(small, choice.alpha, certain, region, cell, server_batch(problem, region, inside))
            spans = region.s1 * (region.s2 / region.s1) ** rng.random(6)
            offer = offered(boxes, float(lam), float(omega), spans, np.zeros(6))
            bound, with_it, without_it = prove(boxes, offer, True)
            forced = np.where(mask, with_it, without_it)
            assert bound <= value * (1.0 + 1e-9), (seed, noise)
            assert np.all(forced <= value * (1.0 + 1e-9)), (seed, noise)
            assert np.all(forced >= bound - 1e-9 * abs(bound)), (seed, noise)
            compared, close = compared + 1, close + (bound > 0.9 * value)
    assert compared > 30
    assert close > 3


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_large_fleets_have_a_small_gap(criterion: str, access: str) -> None:
    for count, seed in ((30, 3), (30, 5), (100, 3)):
        how: dict[str, Any] = {"idle_power": False, "batteries": False, "stages": "both", "energy": "tight"}
        scenario = draw(seed, count=count, access=access, criterion=criterion, **how).scenario
        found = pretune.admit(scenario, tolerance=1e-2)
        assert found.status is pretune.Status.OPTIMAL
        assert found.relative_gap <= 1e-2
        assert found.lower_bound <= found.objective
        assert found.whole_objective is None or found.objective <= found.whole_objective
        assert len(found.admitted) + len(found.dropped) == count
        assert pretune.check(found.plan, found.scenario)


def test_batteries_leave_a_small_gap_too() -> None:
    """A fleet on which devices that can hardly pay their rounds once left 23 %."""
    how: dict[str, Any] = {"idle_power": False, "batteries": True, "stages": "both", "energy": "tight"}
    scenario = draw(3, count=30, access="fdma", criterion="trajectory", **how).scenario
    found = pretune.admit(scenario, tolerance=1e-2)
    assert found.status is pretune.Status.OPTIMAL
    assert found.relative_gap <= 1e-2
    assert found.certificate is not None


def test_a_hopeless_device_is_left_out() -> None:
    scenario = odd(
        "a hopeless device", 8, count=4, criterion="final", access="fdma", stages="finetune", batteries=False
    )
    found = pretune.admit(scenario)
    assert scenario.devices.names[0] not in found.admitted
    by_name = {device.name: device for device in found.dropped}
    assert by_name[scenario.devices.names[0]].limited_by == "airtime"


def test_least_weight() -> None:
    scenario = pretune.load_scenario(EXAMPLE)
    free = pretune.admit(scenario, tolerance=3e-3)
    held = pretune.admit(scenario, tolerance=3e-3, min_weight=0.8)
    everyone = pretune.admit(scenario, tolerance=3e-3, min_weight=1.0)
    assert free.weight < 0.8 <= held.weight <= everyone.weight == pytest.approx(1.0)
    assert free.objective <= held.objective * (1.0 + 3e-3)
    assert held.objective <= everyone.objective * (1.0 + 3e-3)
    assert everyone.objective == pytest.approx(everyone.whole_objective)
    assert not everyone.dropped
    for bad in (-0.1, 1.5, math.nan):
        with pytest.raises(pretune.InputError, match="min_weight"):
            pretune.admit(scenario, min_weight=bad)


def test_nothing_fits() -> None:
    scenario = pretune.load_scenario(EXAMPLE).with_budget(delay_s=1e-9)
    with pytest.raises(pretune.Infeasible):
        pretune.admit(scenario)
    found = pretune.admit(scenario, throw=False)
    assert found.status is pretune.Status.INFEASIBLE
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["admitted"] == []


def test_swaps_and_scans_find_what_the_orders_miss() -> None:
    """The candidates alone, without the proof, come near the best subset."""
    scenario = pretune.load_scenario(EXAMPLE)
    candidates = Candidates(Choice.of(scenario))
    candidates.look_around(np.ones(10, dtype=np.bool_))
    assert candidates.value <= pretune.admit(scenario, tolerance=3e-3).objective * 1.02


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    target = tmp_path / "plan.json"
    words = ["admit", str(EXAMPLE), "--tolerance", "0.01", "-o", str(target)]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "of 10 devices admitted" in shown
    assert "airtime" in shown
    beside = tmp_path / "plan.scenario.json"
    assert main(["check", str(target), str(beside), "-q"]) == 0
    assert len(pretune.load_scenario(beside).devices) < 10
    assert main(words) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*words, "--force", "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["plan"]["objective"] == load_plan(target).objective
    assert tree["bound_provable_from_file"] is True
    assert {device["limited_by"] for device in tree["dropped"]} <= {"airtime", "clock", "battery", "worth"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--min-weight", "2"], "--min-weight"),
        (["--tolerance", "0"], "--tolerance"),
        (["--scenario-out", "x.yaml"], ".json"),
        (["-o", "x.json", "--scenario-out", "x.json"], "another file"),
    ],
)
def test_command_line_errors(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["admit", str(EXAMPLE), *words]) == 2
    assert said in capsys.readouterr().err
