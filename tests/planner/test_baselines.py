"""Baselines: every plan keeps every limit, and none is better than what the joint plan proves."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from draws import draw

import pretune
from pretune.cli import main
from pretune.errors import InputError, MissingExtra
from pretune.planner.baselines import JOINT, NAMES, Options, Outcome, SuccessiveOptions, compare
from pretune.planner.baselines.restricted import fixed_batches, fixed_clocks, fixed_powers
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.problem import build
from pretune.plans import Status
from pretune.scenario import Scenario

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.yaml"
QUICK = [name for name in NAMES if name not in ("equal-bandwidth", "successive")]
TOLERANCE = 5e-3


def outcomes(scenario: Scenario, only: list[str] = QUICK, **options: object) -> dict[str, Outcome]:
    found = compare(scenario, only=only, tolerance=TOLERANCE, options=Options(**options))  # type: ignore[arg-type]
    return {outcome.name: outcome for outcome in found}


@pytest.mark.parametrize("criterion", ["trajectory", "final"])
@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("seed", [1, 7])
def test_no_baseline_beats_the_joint_plan(seed: int, access: str, criterion: str) -> None:
    drawn = draw(seed, access=access, criterion=criterion, count=2, energy="tight", idle_power=seed % 2 == 0)
    found = outcomes(drawn.scenario)
    joint = found[JOINT].plan
    assert joint is not None
    assert joint.status is Status.OPTIMAL
    assert set(found) == {JOINT, *QUICK}
    for outcome in found.values():
        plan = outcome.plan
        if plan is None:
            assert outcome.note.startswith("infeasible: ")
            continue
        checked = pretune.check(plan, drawn.scenario)
        assert checked.lower_bound_proven
        # the bound is the joint plan's, and not because it was cut down to fit
        assert plan.lower_bound == joint.lower_bound <= plan.objective
        assert joint.objective <= plan.objective * (1.0 + joint.relative_gap * 1.001)
        if not math.isnan(outcome.restricted_bound):
            assert outcome.restricted_bound <= plan.objective


def test_each_baseline_does_what_its_name_says() -> None:
    scenario = pretune.load_scenario(EXAMPLE)
    found = outcomes(scenario, batch=35)
    fleet = scenario.devices
    plans = {name: outcome.plan for name, outcome in found.items()}
    assert all(plan is not None for plan in plans.values())
    assert plans["pretrain-only"].finetune.rounds == 0  # type: ignore[union-attr]
    assert plans["finetune-only"].pretrain.rounds == 0  # type: ignore[union-attr]
    held = plans["fixed-batch"]
    np.testing.assert_array_equal(held.finetune.batch, np.minimum(fleet.samples, 35))  # type: ignore[union-attr]
    assert held.pretrain.batch in (0, 35)  # type: ignore[union-attr]
    clocks = plans["fixed-clock"]
    np.testing.assert_allclose(clocks.finetune.clock_hz, fleet.max_clock_hz, rtol=1e-12)  # type: ignore[union-attr]
    assert clocks.pretrain.clock_hz == scenario.server.max_clock_hz  # type: ignore[union-attr]
    powers = plans["fixed-power"]
    np.testing.assert_allclose(powers.finetune.power_w, fleet.max_power_w, rtol=1e-12)  # type: ignore[union-attr]
    for stage in ("pretrain", "finetune"):
        part = getattr(plans["equal-split"], stage)
        assert part.rounds * part.round_s <= 0.5 * scenario.budget.delay_s


@pytest.mark.parametrize("seed", range(4))
def test_restricted_problems_are_exact(seed: int) -> None:
    """At fixed rounds the changed problem's figures are those of the true cost model at the fixed clocks or powers."""
    drawn = draw(seed, criterion="final", stages="both", energy="tight")
    problem, criterion = build(drawn.scenario)
    m, n = 1.0, 1.0
    c = criterion.at(m, n)
    d = problem.devices
    for change in (fixed_clocks, fixed_powers):
        point = new_point(d.cycles.size)
        if solve_fixed(change(problem), problem.batches, m, n, float(c.psi0), float(c.psi), point) != SOLVED:
            continue
        if change is fixed_clocks:
            np.testing.assert_allclose(point.clock, d.clock_max, rtol=1e-12)
        else:
            np.testing.assert_allclose(point.exponent, d.exponent_max, rtol=1e-12)
        cycles, t = d.cycles * point.batch, d.span / point.exponent
        joules = cycles * (d.capacitance * point.clock**2 + d.static / point.clock)
        joules += t * (d.noise * np.expm1(point.exponent) + d.circuit)
        server, b0, f0 = problem.server, point.scalars[4], point.scalars[5]
        own = server.cycles * b0 * (server.capacitance * f0**2 + server.static / f0)
        total = m * own + n * (joules.sum() + problem.limits.down_j)
        assert total == pytest.approx(point.scalars[6], rel=1e-9)
        assert total <= problem.limits.energy * (1.0 + 1e-9)


def test_a_batch_is_capped_at_the_data_set() -> None:
    problem, _ = build(draw(2, small=True).scenario)
    held = fixed_batches(problem, 1000).batches
    np.testing.assert_array_equal(held.low, problem.batches.high)
    assert held.server_low == held.server_high == problem.batches.server_high
    with pytest.raises(InputError, match="batch"):
        fixed_batches(problem, 0)


def test_random_is_seeded() -> None:
    scenario = draw(3, count=2, energy="tight").scenario
    first, again, other = (outcomes(scenario, ["random"], seed=seed)["random"].plan for seed in (5, 5, 6))
    assert first is not None and other is not None  # noqa: PT018
    assert first.to_json() == again.to_json()  # type: ignore[union-attr]
    assert first.objective != other.objective


@pytest.mark.parametrize(("seed", "criterion"), [(1, "final"), (3, "trajectory")])
def test_the_literature_finds_much_the_same(seed: int, criterion: str) -> None:
    pytest.importorskip("cvxpy")
    scenario = draw(seed, criterion=criterion, count=2, energy="tight", stages="both").scenario
    way = SuccessiveOptions(points=5, spacing=0.05)
    found = outcomes(scenario, ["successive"], successive=way)
    joint, plan = found[JOINT].plan, found["successive"].plan
    assert joint is not None and plan is not None  # noqa: PT018
    pretune.check(plan, scenario)
    assert joint.objective <= plan.objective * (1.0 + joint.relative_gap * 1.001)
    assert plan.objective <= 1.02 * joint.objective


@pytest.mark.parametrize(("seed", "criterion"), [(0, "trajectory"), (1, "final")])
def test_the_literature_exhaustively(seed: int, criterion: str) -> None:
    """On a grid small enough for all pairs of rounds it finds what the joint plan finds."""
    pytest.importorskip("cvxpy")
    options = {"count": 2, "stages": "both", "energy": "tight", "batteries": False}
    scenario = draw(seed, small=True, criterion=criterion, **options).scenario  # type: ignore[arg-type]
    way = SuccessiveOptions(search="exhaustive")
    found = outcomes(scenario, ["successive"], successive=way)
    joint, plan = found[JOINT].plan, found["successive"].plan
    assert joint is not None and plan is not None  # noqa: PT018
    pretune.check(plan, scenario)
    assert joint.lower_bound <= plan.objective
    assert plan.objective == pytest.approx(joint.objective, rel=1e-9)
    # every second round of either stage: fewer pairs, and no better
    fewer = outcomes(scenario, ["successive"], successive=SuccessiveOptions(search="exhaustive", step=2))["successive"]
    assert fewer.plan is not None
    assert plan.objective <= fewer.plan.objective * (1.0 + 1e-12)
    pairs = [int(outcome.note.split(" pairs")[0]) for outcome in (fewer, found["successive"])]
    assert 1 < pairs[0] < pairs[1] / 2


def test_successive_approximation_meets_the_optimum_at_fixed_rounds() -> None:
    pytest.importorskip("cvxpy")
    from pretune.planner.successive import Successive

    problem, criterion = build(pretune.load_scenario(EXAMPLE))
    for start in ("most", "least", "middle"):
        method = Successive(problem=problem, start=start, tolerance=1e-5)
        for m, n in ((194, 123), (0, 100), (100, 0)):
            c = criterion.at(m, n)
            psi0, psi = float(c.psi0), float(c.psi)
            point = new_point(problem.devices.cycles.size)
            assert solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point) == SOLVED
            answer = method.solve(m, n, psi0, psi)
            assert answer.status == "converged"
            assert answer.noise == pytest.approx(point.scalars[8], rel=1e-4)
        assert method.solve(3000, 500, 1.0, 1.0).status == "infeasible"


def test_options_are_refused() -> None:
    for wrong in ({"start": "x"}, {"search": "x"}, {"points": 2}, {"tolerance": 0.0}, {"spacing": 1.0}):
        with pytest.raises(InputError, match="successive"):
            SuccessiveOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="one of pretrain-only"):
        list(compare(pretune.load_scenario(EXAMPLE), only=["nothing"]))


def test_missing_extra(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cvxpy", None)
    scenario = pretune.load_scenario(EXAMPLE)
    with pytest.raises(MissingExtra, match=r"pretune\[reference\]"):
        list(compare(scenario, only=["successive"], tolerance=TOLERANCE))
    assert main(["compare", str(EXAMPLE), "--only", "successive"]) == 1
    assert "pretune[reference]" in capsys.readouterr().err
    assert main(["compare", str(EXAMPLE), "--json", "--tolerance", "0.002"]) == 0
    rows = json.loads(capsys.readouterr().out)["compared"]
    assert rows[-1]["name"] == "successive"
    assert rows[-1]["status"] == "unavailable"
    assert rows[-1]["plan"] is None
    assert rows[0]["name"] == JOINT


def test_compare_on_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    words = ["compare", str(EXAMPLE), "--only", "pretrain-only", "--only", "fixed-clock", "--tolerance", "0.002"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[3:6]] == ["joint plan", "highest clocks", "pre-train only"]
    assert "Proven: no plan is below" in lines[7] + lines[6]
    assert main(["compare", str(EXAMPLE), "--only", "nothing"]) == 2
    assert "--only" in capsys.readouterr().err


def test_what_does_not_fit_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = pretune.load_scenario(EXAMPLE)
    tight = scenario.with_budget(energy_j=2e-3, delay_s=2.5)
    found = outcomes(tight, ["finetune-only", "equal-split"])
    assert found["finetune-only"].plan is None
    assert found["finetune-only"].status == "infeasible"
    assert found["equal-split"].plan is not None
    path = tmp_path / "s.json"
    path.write_text(json.dumps(scenario.with_budget(energy_j=1e-12, delay_s=1e-9).to_dict()), encoding="utf-8")
    assert main(["compare", str(path)]) == 3
    assert "infeasible" in capsys.readouterr().out
