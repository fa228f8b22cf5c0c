"""Segments of rounds: their lengths, and their noise against the recursion of the criteria."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.constants import Convergence
from pretune.convergence.criteria import final, objective, trajectory
from pretune.convergence.schedule import lengths, objective_of_segments, segment_coefficients
from pretune.planner.kernels.segment_bounds import parts_at

rounds = st.integers(0, 90)
segments = st.integers(1, 12)


def constants(step: float = 0.05, mu: float = 0.7) -> Convergence:
    return Convergence(
        smoothness=10.0,
        initial_gap=2.0,
        shift=0.6,
        pretrain_step=step,
        finetune_step=0.8 * step,
        pretrain_variance=50.0,
        finetune_variance=1.0,
        pl_constant=mu,
    )


@given(rounds=rounds, segments=segments)
def test_lengths_are_nearly_equal_and_add_up(rounds: int, segments: int) -> None:
    found = lengths(rounds, segments)
    assert found.sum() == rounds
    assert found.max() - found.min() <= 1.0
    if rounds:
        assert found[-1] >= 1.0


def by_recursion(
    c: Convergence, server: list[tuple[int, float]], fleet: list[tuple[int, np.ndarray]], noise: np.ndarray
) -> float:
    """Criterion `final`, one step at a time, with the batches of each segment."""
    mu, gap, step0, step = c.pl_constant or 0.0, c.initial_gap, c.pretrain_step, c.finetune_step
    for length, batch in server:
        for _ in range(length):
            gap = (1.0 - step0 * mu) * gap + step0 / 2.0 * c.shift**2
            gap += c.smoothness * step0**2 * c.pretrain_variance / (2.0 * batch)
    for length, batches in fleet:
        for _ in range(length):
            gap = (1.0 - mu * step * (2.0 - c.smoothness * step)) * gap
            gap += c.smoothness * step**2 * float((noise / batches).sum()) / 2.0
    return gap


@given(m=rounds, n=rounds, segments=segments, seed=st.integers(0, 1000))
def test_final_is_its_recursion_whatever_the_batches(m: int, n: int, segments: int, seed: int) -> None:
    if m + n == 0:
        return
    rng = np.random.default_rng(seed)
    c, noise = constants(), rng.uniform(0.0, 3.0, 3)
    length0, length1 = (lengths(r, segments).astype(int).tolist() for r in (m, n))
    server = [(length, float(rng.integers(1, 50))) for length in length0 if length]
    fleet = [(length, rng.integers(1, 50, 3).astype(float)) for length in length1 if length]
    found = objective_of_segments(final(c), noise, (m, n), segments, [b for _, b in server], [b for _, b in fleet])
    assert found == pytest.approx(by_recursion(c, server, fleet, noise), rel=1e-9)


@pytest.mark.parametrize("make", [final, trajectory])
@given(m=rounds, n=rounds, segments=segments)
def test_equal_batches_are_worth_what_a_constant_plan_is(make, m: int, n: int, segments: int) -> None:
    if m + n == 0:
        return
    noise, batches = np.array([1.0, 2.0]), np.array([7.0, 3.0])
    used0, used1 = (int((lengths(r, segments) > 0).sum()) for r in (m, n))
    criterion = make(constants())
    found = objective_of_segments(criterion, noise, (m, n), segments, [11.0] * used0, [batches] * used1)
    assert found == pytest.approx(objective(criterion, noise, m, n, 11.0, batches), rel=1e-12)


@pytest.mark.parametrize("make", [final, trajectory])
def test_the_kernels_coefficients_are_the_same(make) -> None:
    for (m, n), count in itertools.product([(0, 7), (30, 0), (41, 29), (3, 2)], (1, 2, 5, 8)):
        criterion = make(constants())
        found = segment_coefficients(criterion, m, n, count)
        twin = parts_at(np.array(criterion.numbers()), float(m), float(n), count)
        for mine, other in zip(
            (found.pretrain_rounds, found.finetune_rounds, found.psi0, found.psi), twin, strict=True
        ):
            np.testing.assert_allclose(mine, other, rtol=1e-13)


def test_a_step_that_forgets_everything() -> None:
    """``r = 0``: only the very last round counts."""
    found = segment_coefficients(final(constants(step=0.1, mu=10.0)), 12, 0, 3)
    assert found.psi0[:2].tolist() == [0.0, 0.0]
    assert found.psi0[2] == found.psi0.sum() > 0.0
