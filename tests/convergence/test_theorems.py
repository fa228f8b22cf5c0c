"""The bounds on quadratics whose constants and moments are known exactly: equal where tight, above everywhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretune.convergence.theorems import THEOREMS, young_family
from pretune.convergence.theorems.quadratic import Quadratic, moments


def draw(seed: int, *, isotropic: bool = False) -> Quadratic:
    """A quadratic whose scales differ by orders of magnitude; some have no shift, or no noise, at all."""
    rng = np.random.default_rng(seed)
    d = int(rng.integers(1, 6))
    curvature = 10 ** rng.uniform(-2, 1, d)
    if isotropic:
        curvature = np.full(d, curvature[0])
    largest = 1.0 / curvature.max()
    return Quadratic(
        curvature=curvature,
        start=rng.normal(size=d) * 10 ** rng.uniform(-1, 1),
        shift=rng.normal(size=d) * 10 ** rng.uniform(-2, 1) * (rng.random() < 0.8),
        server_noise=10 ** rng.uniform(-3, 1, d) * (rng.random() < 0.8),
        device_noise=10 ** rng.uniform(-3, 1, d) * (rng.random() < 0.8),
        pretrain_step=float(largest * rng.choice([rng.uniform(0.01, 1.0), 1.0])),
        finetune_step=float(largest * rng.choice([rng.uniform(0.01, 1.0), 1.0])),
        pretrain_rounds=int(rng.integers(0, 40)),
        finetune_rounds=int(rng.integers(1, 40)),
    )


def below(computed: float, bound: float) -> bool:
    return computed <= bound * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize("name", THEOREMS)
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1), isotropic=st.booleans())
def test_every_bound_holds_on_every_quadratic(name: str, seed: int, isotropic: bool) -> None:
    computed, bound = THEOREMS[name](draw(seed, isotropic=isotropic))
    assert computed >= 0.0
    assert below(computed, bound), (computed, bound)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rho=st.floats(0.01, 1.0))
def test_the_whole_family_holds_and_ends_in_the_trajectory(seed: int, rho: float) -> None:
    q = draw(seed)
    assert below(*young_family.check(q, rho))
    assert young_family.check(q, 1.0) == pytest.approx(THEOREMS["trajectory"](q), rel=1e-9)


def isotropic(seed: int, **changes: object) -> Quadratic:
    q = draw(seed, isotropic=True)
    at_most = 1.0 / q.smoothness
    return replace(q, **{"pretrain_step": at_most, "finetune_step": at_most, "pretrain_rounds": 7, **changes})


SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_steps_are_tight_on_an_isotropic_quadratic(seed: int) -> None:
    q = isotropic(seed)
    for name, each in (("descent_pretrain", q), ("descent_finetune", replace(q, finetune_step=0.3 * q.finetune_step))):
        computed, bound = THEOREMS[name](each)
        assert computed == pytest.approx(bound, rel=1e-9, abs=1e-12), name
    # a pre-training step below 1/L is not tight where there is a shift or a noise to lose
    short = replace(q, pretrain_step=0.3 * q.pretrain_step, shift=np.ones_like(q.start))
    computed, bound = THEOREMS["descent_pretrain"](short)
    assert computed < bound


@pytest.mark.parametrize("seed", SEEDS)
def test_the_averages_are_tight_where_no_gap_is_left(seed: int) -> None:
    """Noise and shift in pre-training; fine-tuning without noise ends at the minimum."""
    q = isotropic(seed)
    q = replace(q, device_noise=np.zeros_like(q.start))
    assert moments(q).gap[-1] == pytest.approx(0.0, abs=1e-12)
    for name in ("trajectory", "finetune_average", "young_family"):
        computed, bound = THEOREMS[name](q)
        assert computed == pytest.approx(bound, rel=1e-9), name


@pytest.mark.parametrize("seed", SEEDS)
def test_all_that_the_trajectory_loses_there_is_the_final_gap(seed: int) -> None:
    q = isotropic(seed)
    q = replace(q, finetune_step=0.5 * q.finetune_step)
    computed, bound = THEOREMS["trajectory"](q)
    weight = 7 * q.pretrain_step + q.finetune_rounds * q.finetune_step * 1.5
    assert computed + 2.0 * moments(q).gap[-1] / weight == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_final_gap_is_tight_on_an_isotropic_quadratic(seed: int) -> None:
    q = isotropic(seed, pretrain_rounds=3)
    for step in (1.0, 0.7, 0.05):
        computed, bound = THEOREMS["final_gap"](replace(q, finetune_step=step * q.finetune_step, finetune_rounds=5))
        assert computed == pytest.approx(bound, rel=1e-9, abs=1e-14), step


@pytest.mark.parametrize("rho", [0.1, 0.5, 1.0])
def test_the_family_is_tight_where_the_shift_opposes_the_gradient(rho: float) -> None:
    """One pre-training step from a start where z = -rho g, and nothing lost after it."""
    q = isotropic(3, pretrain_rounds=1, finetune_rounds=1)
    q = replace(q, pretrain_step=0.4 * q.pretrain_step, device_noise=np.zeros_like(q.start))
    q = replace(q, shift=-rho * q.curvature * q.start)
    computed, bound = young_family.check(q, rho)
    assert computed == pytest.approx(bound, rel=1e-9)
    assert young_family.check(q, 0.7 * rho)[0] < young_family.check(q, 0.7 * rho)[1] * (1 - 1e-6)


def test_the_moments_are_those_of_simulated_runs() -> None:
    q = replace(draw(5), pretrain_rounds=6, finetune_rounds=5)
    rng, runs = np.random.default_rng(0), 40_000
    w = np.tile(q.start, (runs, 1))
    for round_ in range(11):
        first = round_ < 6
        noise = rng.normal(size=w.shape) * np.sqrt(q.server_noise if first else q.device_noise)
        slope = q.curvature * w + (q.shift if first else 0.0) + noise
        w = w - (q.pretrain_step if first else q.finetune_step) * slope
    found = moments(q)
    assert found.gap[-1] == pytest.approx(float((0.5 * w**2 @ q.curvature).mean()), rel=0.03)
    assert found.gradient_sq[-1] == pytest.approx(float((w**2 @ q.curvature**2).mean()), rel=0.03)


def test_a_bound_without_one_of_its_terms_would_be_caught() -> None:
    """The checks can fail: with no shift, or half the noise, in the bound some quadratic is above it."""
    for change in ({"shift": 0.0}, {"server_noise": 0.5}, {"device_noise": 0.5}):
        worse = 0
        for seed in SEEDS:
            q = replace(isotropic(seed), shift=np.ones(len(draw(seed).start)))
            told = replace(q, **{key: getattr(q, key) * factor for key, factor in change.items()})
            worse += THEOREMS["final_gap"](q)[0] > THEOREMS["final_gap"](told)[1] * (1 + 1e-6)
            worse += THEOREMS["trajectory"](q)[0] > THEOREMS["trajectory"](told)[1] * (1 + 1e-6)
        assert worse > 0, change
