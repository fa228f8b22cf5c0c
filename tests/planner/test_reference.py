"""The kernel's fixed-rounds optimum, and whole plans, against the conic oracle."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from draws import Drawn, draw, odd

from pretune.errors import InputError, MissingExtra
from pretune.planner import plan, reference
from pretune.planner.kernels.fixed import DELAY_SHORT, ENERGY_SHORT, SOLVED, least_seconds, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import build

pytest.importorskip("cvxpy")
pytest.importorskip("clarabel")

KINDS = list(
    itertools.product(
        ("fdma", "tdma"), (False, True), (False, True), ("trajectory", "final"), ("both", "pretrain", "finetune")
    )
)


def kernel(drawn: Drawn) -> tuple[int, float]:
    """Status and noise part of the kernel's optimum at the drawn rounds."""
    m, n = map(float, drawn.rounds)
    problem, _ = build(drawn.scenario)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    point = new_point(len(drawn.scenario.devices))
    status = solve_fixed(problem, problem.batches, m, n, psi0, psi, point)
    return int(status), float(point.scalars[8])


@pytest.mark.parametrize("energy", ["tight", "slack"])
@pytest.mark.parametrize(("access", "idle_power", "batteries", "criterion", "stages"), KINDS)
def test_the_kernel_finds_the_conic_optimum(
    access: str, idle_power: bool, batteries: bool, criterion: str, stages: str, energy: str
) -> None:
    drawn = draw(
        KINDS.index((access, idle_power, batteries, criterion, stages)) + 1000,
        access=access,
        idle_power=idle_power,
        batteries=batteries,
        criterion=criterion,
        stages=stages,
        energy=energy,
    )
    answer = reference.fixed_rounds(drawn.scenario, *drawn.rounds)
    assert answer.status == "solved"
    assert answer.violation <= reference.VIOLATION
    assert answer.bound <= answer.value * (1.0 + 1e-9)
    status, noise = kernel(drawn)
    assert status == SOLVED
    assert noise == pytest.approx(answer.noise, rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_joint_program_bounds_the_plan(seed: int) -> None:
    """``conic optimum <= objective``, and the plan's proven bound is no further below than its gap."""
    drawn = draw(
        seed + 2000,
        criterion="trajectory",
        access=("fdma", "tdma")[seed % 2],
        idle_power=seed % 3 == 0,
        batteries=seed % 3 == 1,
        count=3,
    )
    relaxed = reference.joint(drawn.scenario)
    assert relaxed.status == "solved"
    found = plan(drawn.scenario, time_limit=5.0)
    assert found.objective >= relaxed.value * (1.0 - 1e-6)
    assert found.lower_bound <= found.objective
    # the bound knows that rounds and batches are whole, so it may lie above the conic optimum, but not far below
    assert found.lower_bound >= relaxed.value * (1.0 - 1.1e-4) or found.status.value == "time_limit"


@pytest.mark.parametrize("seed", range(8))
def test_least_energy_at_given_batches(seed: int) -> None:
    """What decides whether whole batches fit, in joules."""
    drawn = draw(seed + 3000, stages="both")
    m, n = drawn.rounds
    problem, _ = build(drawn.scenario)
    rng = np.random.default_rng(seed)
    batches = np.minimum(rng.integers(1, 4, len(drawn.scenario.devices)), drawn.scenario.devices.samples).astype(float)
    server = float(rng.integers(1, 20))
    fixed = problem.batches._replace(server_low=server, server_high=server, low=batches, high=batches.copy())
    rich = problem._replace(limits=problem.limits._replace(energy=1e300))
    point = new_point(len(batches))
    status = solve_fixed(rich, fixed, float(m), float(n), 0.0, 0.0, point)
    answer = reference.least_energy(drawn.scenario, m, n, server, batches)
    if answer.status == "infeasible":
        assert status != SOLVED
    else:
        assert answer.status == "solved"
        assert status == SOLVED
        assert point.scalars[6] == pytest.approx(answer.value, rel=1e-7)


def test_what_does_not_fit_is_said_so() -> None:
    drawn = draw(4000, stages="both", batteries=False, energy="tight")
    m, n = drawn.rounds
    problem, _ = build(drawn.scenario)
    seconds = least_seconds(problem, problem.batches, float(m), float(n))
    hasty = Drawn(scenario=drawn.scenario.with_budget(delay_s=0.99 * seconds), rounds=drawn.rounds, label="hasty")
    assert kernel(hasty)[0] == DELAY_SHORT
    assert reference.fixed_rounds(hasty.scenario, m, n).status == "infeasible"
    joules = reference.least_energy(drawn.scenario, m, n, 1, np.ones(len(drawn.scenario.devices))).value
    poor = Drawn(scenario=drawn.scenario.with_budget(energy_j=0.99 * joules), rounds=drawn.rounds, label="poor")
    assert kernel(poor)[0] == ENERGY_SHORT
    assert reference.fixed_rounds(poor.scenario, m, n).status == "infeasible"


@pytest.mark.parametrize("seed", [5, 8])
def test_batteries_that_taking_turns_cannot_keep(seed: int) -> None:
    """TDMA: a battery ties computing and uploading together, so the least delay is no sum of least times."""
    drawn = draw(seed, access="tdma", batteries=True)
    m, n = 0, 60 * drawn.rounds[1]
    beyond = Drawn(scenario=drawn.scenario, rounds=(m, n), label=drawn.label)
    assert reference.fixed_rounds(drawn.scenario, m, n).status == "infeasible"
    assert kernel(beyond)[0] != SOLVED


def test_an_answer_that_cannot_be_trusted_has_no_numbers() -> None:
    answer = reference.fixed_rounds(odd("no noise", 0), 3, 3)  # nothing to minimise: no gap can be told
    assert answer.status == "inaccurate"
    assert np.isnan(answer.value)
    assert answer.point is None


def test_only_trajectory_has_a_joint_program() -> None:
    with pytest.raises(InputError, match="criterion"):
        reference.joint(draw(0, criterion="final").scenario)


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    with pytest.raises(MissingExtra, match=r"pretune\[reference\]"):
        reference.fixed_rounds(draw(0).scenario, 1, 1)
