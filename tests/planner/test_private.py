"""Plans with private fine-tuning: what the noise costs, against exhaustive search, and the proof done again."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from brute import exhaustive
from draws import draw
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune.api import admit, plan
from pretune.bounds import bound
from pretune.certify import check
from pretune.convergence.criteria import Final, Trajectory, criterion_of, device_noise
from pretune.corners import _private_line
from pretune.errors import CheckFailed, InputError
from pretune.figures import system_of
from pretune.planner.kernels.priced import Region, most_batches, price
from pretune.planner.kernels.rounds import bound_over, coefficients
from pretune.planner.problem import build
from pretune.planner.reference import joint
from pretune.plans import Status, plan_from_dict
from pretune.price_sets import priced
from pretune.privacy import Privacy, delta_of, largest_shift
from pretune.private_claim import claim_of, integrated_delta
from pretune.report.sentences import privacy as privacy_sentence
from pretune.scenario import Scenario
from test_bounds import box, entry_at, random_entry, random_plan, with_sides


def private(scenario: Scenario, rounds: int, share: float, epsilon: float = 2.0) -> Scenario:
    """The scenario with privacy whose noise, at these rounds, is `share` of the gradients' own at one sample each."""
    noise = share * float(device_noise(scenario).sum()) / max(rounds, 1)
    heaviest = float(scenario.devices.weight.max())
    clip = math.sqrt(noise / 500.0) * largest_shift(epsilon, 1e-5) / heaviest
    return scenario.replace(privacy={"epsilon": epsilon, "delta": 1e-5, "clip": clip, "parameters": 500})


def drawn_private(seed: int, **asked: object) -> tuple[Scenario, tuple[int, int]]:
    drawn = draw(seed, **asked)
    share = 10 ** np.random.default_rng(seed).uniform(-1.5, 1.0)
    return private(drawn.scenario, drawn.rounds[1], share), drawn.rounds


# ---------------------------------------------------------------- how much noise privacy takes


def hockey_stick(epsilon: float, mu: float) -> float:
    """The same delta from its definition: the positive part of N(mu, 1) over exp(epsilon) N(0, 1), integrated."""
    x = np.linspace(-12.0, mu + 12.0, 400_001)
    p, q = (np.exp(-0.5 * (x - c) ** 2) / math.sqrt(2 * math.pi) for c in (mu, 0.0))
    return float(np.trapezoid(np.maximum(p - math.exp(epsilon) * q, 0.0), x))


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("mu", [0.3, 1.0, 3.0])
def test_delta_by_its_definition(epsilon: float, mu: float) -> None:
    assert delta_of(epsilon, mu) == pytest.approx(hockey_stick(epsilon, mu), rel=1e-5, abs=1e-12)
    assert delta_of(epsilon, mu) == pytest.approx(integrated_delta(epsilon, mu), rel=1e-8, abs=1e-18)


@given(epsilon=st.floats(0.01, 50.0), log_delta=st.floats(-12.0, -1.0))
@settings(max_examples=50)
def test_the_largest_shift_is_private_and_no_larger_one_is(epsilon: float, log_delta: float) -> None:
    mu, delta = largest_shift(epsilon, 10**log_delta), 10**log_delta
    assert delta_of(epsilon, mu) <= delta < delta_of(epsilon, mu * (1.0 + 1e-6))
    assert integrated_delta(epsilon, mu) == pytest.approx(delta, rel=5e-8)


def test_noise_grows_with_the_root_of_the_rounds() -> None:
    asked = Privacy(epsilon=2.0, delta=1e-5, clip=0.5, parameters=100)
    assert asked.noise_std(400, 0.3) == pytest.approx(2.0 * asked.noise_std(100, 0.3))
    assert 100 * asked.noise_std(50, 0.3) ** 2 == pytest.approx(50 * asked.variance_per_round(0.3))


# ---------------------------------------------------------------- the criterion


@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_the_criterion_is_its_recursion(criterion: str) -> None:
    """phi with private noise, from one round after the other: noise N v is one more variance beside S(b)."""
    scenario, _ = drawn_private(7, criterion=criterion, stages="both")
    c, asked = scenario.convergence, scenario.privacy
    assert asked is not None
    rounds, found = 23, criterion_of(scenario)
    noise = rounds * asked.variance_per_round(float(scenario.devices.weight.max()))
    bare = criterion_of(scenario.replace(privacy=None))
    smooth, step = c.smoothness, c.finetune_step
    if criterion == "trajectory":
        added = rounds * smooth * step**2 * noise
    else:
        added = 0.0
        for _ in range(rounds):
            added = (1.0 - c.pl_constant * step * (2.0 - smooth * step)) * added + 0.5 * smooth * step**2 * noise
    assert found.at(11, rounds).phi - bare.at(11, rounds).phi == pytest.approx(added, rel=1e-9)
    assert found.at(11, 0).phi == bare.at(11, 0).phi
    compiled = coefficients(np.array(found.numbers()), 11.0, float(rounds))
    own = found.at(11, rounds)
    assert compiled == pytest.approx((own.weight, own.phi, own.psi0, own.psi), rel=1e-12)


@given(rate=st.floats(1e-4, 5.0), first=st.integers(0, 300), width=st.integers(0, 300))
@settings(max_examples=80)
def test_the_line_is_below_the_noise(rate: float, first: int, width: int) -> None:
    numbers = {"gap": 1.0, "shift_floor": 0.1, "server_noise": 1.0, "device_noise": 1.0, "log_r": -0.1}
    criterion = Final(**numbers, log_q=-rate, private_noise=0.7)
    n1, n2 = float(first), float(first + width)
    at1, at2, line2 = (float(v[0]) for v in _private_line(criterion, np.array([n1]), np.array([n2])))
    n = np.linspace(n1, n2, 50)
    noise = 0.7 * n * -np.expm1(-rate * n)
    line = at1 + (line2 - at1) * (n - n1) / max(n2 - n1, 1.0)
    assert np.all(line <= noise * (1 + 1e-12) + 1e-12)
    assert (at1, at2) == pytest.approx((noise[0], noise[-1]))


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize("seed", [102, 109, 110, 115])
def test_small_problems_exhaustively(seed: int) -> None:
    scenario, _ = drawn_private(seed, small=True)
    best, tried = exhaustive(scenario)
    assert tried
    answer = plan(scenario)
    assert check(answer, scenario).lower_bound_proven
    assert answer.lower_bound <= best <= answer.objective * (1.0 + 1e-12)
    assert answer.relative_gap <= 1e-4


@pytest.mark.parametrize("seed", [0, 1, 3])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_plans_are_proven_and_checked(seed: int, criterion: str) -> None:
    scenario, _ = drawn_private(seed, criterion=criterion, stages="both", batteries=seed % 3 == 0, count=5)
    answer = plan(scenario, tolerance=1e-3)
    assert answer.status is Status.OPTIMAL
    assert check(answer, scenario).lower_bound_proven
    assert plan_from_dict(answer.to_dict()).privacy == answer.privacy == claim_of(scenario, answer.finetune.rounds)


def test_check_catches_false_claims() -> None:
    scenario, _ = drawn_private(3, criterion="final", stages="both", batteries=False, count=5)
    answer = plan(scenario)
    assert answer.privacy is not None
    assert "private over all fine-tuning rounds; noise multiplier" in privacy_sentence(answer, scenario)
    for change, line in (
        (
            {"noise_multiplier": 0.98 * answer.privacy["noise_multiplier"]},
            "delta: claims 1e-05, its noise leaves",
        ),
        ({"epsilon": 2.1}, "privacy.epsilon: claims 2.1, the scenario allows 2.0"),
        ({"epsilon": 1.0}, "privacy.delta: claims"),
        ({"noise_std": 1.0}, "privacy.noise_std: claims 1.0"),
        ({"delta": -1.0}, "privacy: should hold the positive numbers"),
    ):
        false = dataclasses.replace(answer, privacy={**answer.privacy, **change})
        with pytest.raises(CheckFailed, match=line):
            check(false, scenario)
    with pytest.raises(CheckFailed, match="should hold the positive numbers"):
        check(dataclasses.replace(answer, privacy=None), scenario)


@pytest.mark.parametrize("seed", range(6))
def test_no_decision_beats_a_bound(seed: int) -> None:
    """Weak duality with private noise: any prices, any box, any decision in it; and both twins agree."""
    scenario, rounds = drawn_private(seed, small=seed % 2 == 0, stages="both")
    system, (problem, _) = system_of(scenario), build(scenario)
    rng = np.random.default_rng(seed)
    like, tried = entry_at(scenario, *rounds), 0
    for _ in range(60):
        m, n = (int(rng.integers(0, 2 * r + 1)) for r in rounds)
        found = random_plan(rng, scenario, m, n) if m + n else None
        if found is None:
            continue
        value, _span = found
        entry = like if rng.random() < 0.3 else random_entry(rng, scenario, like)
        prices = priced(system, with_sides(rng, scenario, entry) if rng.random() < 0.5 else entry)
        spread = [int(v) for v in rng.integers(0, 20, 4)]
        around = [max(m - spread[0], 0), m + spread[1], max(n - spread[2], 0), n + spread[3]]
        for area in (box(m, m, n, n), box(*around)):
            assert bound(system, prices, area)[0] <= value * (1.0 + 1e-9)
            tried += 1
        compiled = price(problem, entry["energy"], entry["omega"], np.array(entry["shares"]), np.array(entry["ratios"]))
        region = Region(*map(float, box(*around)[0]))
        theirs = bound_over(problem, compiled, region, most_batches(problem, region))
        ours = bound(system, priced(system, entry), box(*around))[0]
        scale = abs(ours) + prices.budget if math.isfinite(ours) else 1.0
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * scale) or (math.isinf(ours) and math.isinf(theirs))
    assert tried >= 3


def test_a_large_fleet() -> None:
    scenario, _ = drawn_private(12, criterion="final", access="fdma", stages="both", batteries=False, count=1001)
    answer = plan(scenario, tolerance=5e-2)
    assert check(answer, scenario).lower_bound_proven
    assert answer.relative_gap <= 5e-2


@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_privacy_costs_more_the_smaller_epsilon_is(criterion: str) -> None:
    drawn = draw(3, criterion=criterion, access="fdma", stages="both", batteries=False, count=5)
    tree = {"delta": 1e-5, "clip": 1.0, "parameters": 2000}
    plans = [plan(drawn.scenario)]
    for epsilon in (50.0, 8.0, 2.0, 0.5):
        plans.append(plan(drawn.scenario.replace(privacy={**tree, "epsilon": epsilon})))
    for cheaper, dearer in itertools.pairwise(plans):
        assert dearer.objective >= cheaper.lower_bound
    assert plans[-1].lower_bound > plans[0].objective
    assert plans[-1].finetune.rounds <= plans[0].finetune.rounds


# ---------------------------------------------------------------- scenarios


def test_a_scenario_without_privacy_is_what_it_was() -> None:
    scenario = draw(3).scenario
    assert "privacy" not in scenario.to_dict()
    assert scenario.replace(privacy=None).sha256 == scenario.sha256
    assert isinstance(criterion_of(scenario), Trajectory | Final)
    kept = private(scenario, 10, 1.0)
    assert Scenario(**kept.to_dict()).sha256 == kept.sha256 != scenario.sha256


def test_what_is_refused() -> None:
    scenario = private(draw(3, batteries=False).scenario, 10, 1.0)
    with pytest.raises(InputError, match="schedule: holds 2, should hold 1 with privacy"):
        scenario.replace(schedule=2)
    with pytest.raises(InputError, match="privacy: holds 'a section', should hold null: admission"):
        admit(scenario)
    with pytest.raises(InputError, match=r"privacy\.epsilon: holds 0.0, should hold a positive number"):
        scenario.replace(privacy={"epsilon": 0.0, "delta": 1e-5, "clip": 1.0, "parameters": 9})
    same = private(draw(3, criterion="trajectory").scenario, 10, 1.0)
    with pytest.raises(InputError, match="privacy: holds 'a section', should hold null: the joint program"):
        joint(same)


@pytest.mark.parametrize("seed", [101, 103])
def test_slack_energy_leaves_no_gap(seed: int) -> None:
    """Where privacy leaves pre-training alone and energy is free, a warm start's price of time proved nothing."""
    scenario, _ = drawn_private(seed, small=True)
    answer = plan(scenario)
    assert answer.finetune.rounds == 0
    assert answer.relative_gap <= 1e-4
