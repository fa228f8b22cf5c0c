"""The criteria against their recursions: the closed forms of math.md section 2 are sums and powers of one step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.constants import Convergence
from pretune.convergence.criteria import LOG_ZERO, Final, Trajectory, final, objective, trajectory
from pretune.planner.kernels.rounds import coefficients

SMOOTH = 10.0


def zero_to(most: float) -> st.SearchStrategy[float]:
    """Zero, or a number that a scenario takes."""
    return st.one_of(st.just(0.0), st.floats(1e-6, most))


rounds = st.integers(0, 60)
constants = st.fixed_dictionaries(
    {
        "initial_gap": zero_to(5.0),
        "shift": zero_to(3.0),
        "pretrain_step": st.floats(1e-4, 0.1),
        "finetune_step": st.floats(1e-4, 0.1),
        "pretrain_variance": zero_to(1e3),
        "finetune_variance": st.just(1.0),
        "pl_constant": st.floats(1e-3, 10.0),
    }
).map(lambda values: Convergence(smoothness=SMOOTH, **values))
noises = st.lists(zero_to(100.0), min_size=1, max_size=4).map(np.array)


def by_recursion(c: Convergence, m: int, n: int, b0: float, scatter: float) -> float:
    """Criterion `final`, one step at a time: ``D <- (1 - mu a) D + noise of the step``."""
    mu, gap = c.pl_constant or math.nan, c.initial_gap
    step0, step = c.pretrain_step, c.finetune_step
    for _ in range(m):
        gap = (1.0 - step0 * mu) * gap + step0 / 2.0 * c.shift**2 + SMOOTH * step0**2 * c.pretrain_variance / (2 * b0)
    for _ in range(n):
        gap = (1.0 - mu * step * (2.0 - SMOOTH * step)) * gap + SMOOTH * step**2 * scatter / 2.0
    return gap


@given(c=constants, m=rounds, n=rounds, b0=st.floats(1.0, 1e3), noise=noises)
def test_final_is_its_recursion(c: Convergence, m: int, n: int, b0: float, noise: np.ndarray) -> None:
    batches = 1.0 + np.arange(len(noise))
    found = objective(final(c), noise, m, n, b0, batches) if m + n else final(c).gap
    assert found == pytest.approx(by_recursion(c, m, n, b0, float((noise / batches).sum())), rel=1e-9, abs=1e-12)


@given(c=constants, m=rounds, n=rounds, b0=st.floats(1.0, 1e3), noise=noises)
def test_trajectory_is_the_average_of_the_steps(c: Convergence, m: int, n: int, b0: float, noise: np.ndarray) -> None:
    if m + n == 0:
        return
    batches = 1.0 + np.arange(len(noise))
    step0, step, scatter = c.pretrain_step, c.finetune_step, float((noise / batches).sum())
    total = 2.0 * c.initial_gap
    total += m * (step0 * c.shift**2 + SMOOTH * step0**2 * c.pretrain_variance / b0)
    total += n * SMOOTH * step**2 * scatter
    weight = m * step0 + n * step * (2.0 - SMOOTH * step)
    assert objective(trajectory(c), noise, m, n, b0, batches) == pytest.approx(total / weight, rel=1e-12)


@given(c=constants, m=st.floats(0.0, 1e6), n=st.floats(0.0, 1e6))
def test_the_compiled_twin_is_the_same(c: Convergence, m: float, n: float) -> None:
    for criterion in (trajectory(c), final(c)):
        twin = coefficients(np.array(criterion.numbers()), m, n)
        found = criterion.at(m, n)
        assert twin == pytest.approx((found.weight, found.phi, found.psi0, found.psi), rel=1e-12, abs=1e-300)


@given(c=constants, m1=rounds, n1=rounds, dm=rounds, dn=rounds)
def test_coefficients_over_a_box_are_least_at_a_corner(c: Convergence, m1: int, n1: int, dm: int, dn: int) -> None:
    """The claim of math.md section 2; the corner (0, 0) is left out."""
    for criterion in (trajectory(c), final(c)):
        m, n = np.meshgrid(np.arange(m1, m1 + dm + 1.0), np.arange(n1, n1 + dn + 1.0))
        inside = (m > 0) | (n > 0)
        ends = {(a, b) for a in (m1, m1 + dm) for b in (n1, n1 + dn)} - {(0, 0)}
        if (m1, n1) == (0, 0):
            ends |= {(1, 0)} if dm else set()
            ends |= {(0, 1)} if dn else set()
        if not ends:
            continue
        whole = criterion.at(m[inside], n[inside])
        corners = [criterion.at(float(a), float(b)) for a, b in ends]
        for key in ("phi", "psi0", "psi"):
            values = np.asarray(getattr(whole, key)) / whole.weight
            least = min(float(getattr(corner, key)) / float(corner.weight) for corner in corners)
            assert values.min() >= least * (1.0 - 1e-9) - 1e-300


def test_no_rounds_of_a_stage_need_no_batch() -> None:
    c = Convergence(
        smoothness=SMOOTH,
        initial_gap=1.0,
        shift=0.1,
        pretrain_step=0.01,
        finetune_step=0.01,
        pretrain_variance=1.0,
        finetune_variance=1.0,
        pl_constant=1.0,
    )
    for criterion in (trajectory(c), final(c)):
        alone = objective(criterion, np.ones(2), 5, 0, 3.0, np.array([7.0, 7.0]))
        assert alone == objective(criterion, np.ones(2), 5, 0, 3.0, np.array([1.0, 9.0]))
        alone = objective(criterion, np.ones(2), 0, 5, 1.0, np.array([7.0, 7.0]))
        assert alone == objective(criterion, np.ones(2), 0, 5, 8.0, np.array([7.0, 7.0]))


def test_steps_that_forget_everything() -> None:
    """``mu = L`` and ``eta = 1/L``: one step of fine-tuning leaves nothing but its own noise."""
    c = Convergence(
        smoothness=2.0,
        initial_gap=7.0,
        shift=0.0,
        pretrain_step=0.5,
        finetune_step=0.5,
        pretrain_variance=0.0,
        finetune_variance=1.0,
        pl_constant=2.0,
    )
    criterion = final(c)
    assert (criterion.log_r, criterion.log_q) == (LOG_ZERO, LOG_ZERO)
    assert objective(criterion, np.array([3.0]), 0, 1, 1.0, np.array([2.0])) == pytest.approx(2 * 0.25 * 1.5 / 2)
    assert objective(criterion, np.array([3.0]), 1, 0, 1.0, np.array([2.0])) == 0.0


def test_the_shift_decides_what_pretraining_can_reach() -> None:
    """Without noise, pre-training for ever ends at ``zeta^2 / (2 mu)`` (final) and at ``zeta^2`` (trajectory)."""
    c = Convergence(
        smoothness=SMOOTH,
        initial_gap=1.0,
        shift=0.3,
        pretrain_step=0.05,
        finetune_step=0.05,
        pretrain_variance=0.0,
        finetune_variance=1.0,
        pl_constant=0.5,
    )
    ends = [objective(kind, np.ones(1), 10**9, 0, 1.0, np.ones(1)) for kind in (final(c), trajectory(c))]
    assert ends == pytest.approx([0.09, 0.09], rel=1e-6)


def test_the_trajectory_bound_holds_on_quadratics() -> None:
    """SGD on ``F(w) = w' H w / 2`` with exact moments: the average squared gradient norm stays below the bound.

    The general objective is ``G(w) = F(w - s)`` with ``||H s|| = zeta``, so the shift of the gradients is exactly zeta.
    """
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(200):
        size, smooth = int(rng.integers(1, 4)), 2.0
        hessian = rng.uniform(0.05, smooth, size)
        start, shift = rng.normal(size=size), rng.normal(size=size) * 0.3
        step0, step = rng.uniform(0.05, 1.0, 2) / smooth
        var0, var = rng.uniform(0.0, 2.0, 2)
        m, n, b0, b = (int(v) for v in rng.integers(1, 12, 4))
        mean, second = start.copy(), np.zeros(size)  # E w, and the variance of each coordinate
        total, weight = 0.0, 0.0
        for stage, count in ((0, m), (1, n)):
            for _ in range(count):
                w = step0 if stage == 0 else step * (2.0 - smooth * step)
                total += w * float((hessian**2 * (mean**2 + second)).sum())
                weight += w
                a = step0 if stage == 0 else step
                target = shift if stage == 0 else np.zeros(size)
                noise = var0 / b0 if stage == 0 else var / b
                mean = mean - a * hessian * (mean - target)
                second = (1.0 - a * hessian) ** 2 * second + a**2 * noise / size
        c = Convergence(
            smoothness=smooth,
            initial_gap=float((hessian * start**2).sum() / 2.0),
            shift=float(np.linalg.norm(hessian * shift)),
            pretrain_step=step0,
            finetune_step=step,
            pretrain_variance=var0,
            finetune_variance=var,
        )
        bound = objective(trajectory(c), np.array([var]), m, n, b0, np.array([float(b)]))
        ratios.append(total / weight / bound)
    assert max(ratios) <= 1.0 + 1e-12
    assert max(ratios) > 0.5  # and it is not idle


@pytest.mark.parametrize("kind", [Trajectory, Final])
def test_names(kind: type) -> None:
    assert kind.name in ("trajectory", "final")
