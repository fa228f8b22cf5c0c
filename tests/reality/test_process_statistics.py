"""The processes against theory. Seeds are fixed; a tolerance is four standard errors of what is estimated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pretune.reality.processes import LN10_10, bessel_j0
from reality_samples import AVAILABILITY, crowd, gains, met

COUNT = 40_000
ERROR = 4.0 / math.sqrt(COUNT)
"""Four standard errors of the mean of COUNT values of variance one."""


def correlation(x: Any, y: Any) -> float:
    return float(np.corrcoef(x, y)[0, 1])


@pytest.mark.parametrize("k_factor", [None, 0.5, 4.0, 30.0])
def test_fading_has_the_moments_of_its_law(k_factor: float | None) -> None:
    kind = {"kind": "rayleigh"} if k_factor is None else {"kind": "rician", "k_factor": k_factor}
    power = gains(crowd(COUNT, fading=kind), 1)[0]
    k = k_factor or 0.0
    variance = (1 + 2 * k) / (1 + k) ** 2
    assert power.mean() == pytest.approx(1.0, abs=ERROR * math.sqrt(variance))
    fourth = float(((power - 1.0) ** 4).mean())
    assert power.var() == pytest.approx(variance, abs=ERROR * math.sqrt(fourth - variance**2))


@pytest.mark.parametrize("level", [0.01, 0.1, 1.0])
def test_rayleigh_is_below_a_level_as_often_as_it_should(level: float) -> None:
    share = (gains(crowd(COUNT, fading={"kind": "rayleigh"}), 1)[0] < level).mean()
    chance = -math.expm1(-level)
    assert share == pytest.approx(chance, abs=ERROR * math.sqrt(chance * (1 - chance)))


def test_block_fading_is_new_each_round() -> None:
    power = gains(crowd(COUNT, fading={"kind": "rayleigh"}), 2)
    assert abs(correlation(power[0], power[1])) < ERROR


@pytest.mark.parametrize(
    ("how", "step"),
    [
        ({"correlation": "gauss_markov", "coherence_s": 3.0}, math.exp(-2.0 / 3.0)),
        ({"correlation": "jakes", "doppler_hz": 0.1}, float(bessel_j0(np.array([0.4 * math.pi]))[0])),
        ({"correlation": "jakes", "doppler_hz": 0.3}, float(bessel_j0(np.array([1.2 * math.pi]))[0])),
    ],
)
def test_fading_goes_with_the_round_before(how: dict[str, Any], step: float) -> None:
    power = gains(crowd(COUNT, fading={"kind": "rayleigh", **how}), 4)
    # of the powers the correlation is the square of that of the amplitudes
    for lag in (1, 2, 3):
        assert correlation(power[0], power[lag]) == pytest.approx(step ** (2 * lag), abs=1.5 * ERROR)
    assert power[3].mean() == pytest.approx(1.0, abs=ERROR)
    assert power[3].var() == pytest.approx(1.0, abs=ERROR * math.sqrt(8.0))


def test_gauss_markov_does_not_mind_how_long_rounds_are() -> None:
    scenario = crowd(
        COUNT, fading={"kind": "rician", "k_factor": 2.0, "correlation": "gauss_markov", "coherence_s": 3.0}
    )
    short, long = gains(scenario, 5, 0.5), gains(scenario, 2, 2.0)
    assert correlation(short[0], short[4]) == pytest.approx(correlation(long[0], long[1]), abs=2 * ERROR)


def test_j0_is_that_of_the_tables() -> None:
    zeros = np.array([2.404825557695773, 5.520078110286311, 8.653727912911013, 30.634606468431975])
    assert np.abs(bessel_j0(zeros)).max() < 1e-12
    known = bessel_j0(np.array([0.0, 1.0, 10.0, 100.0, math.inf]))
    assert known == pytest.approx([1.0, 0.7651976865579666, -0.2459357644513483, 0.01998585030422312, 0.0], abs=1e-13)
    edge = bessel_j0(np.array([999.999999, 1000.000001]))
    assert edge[0] == pytest.approx(edge[1], abs=1e-5)


def test_shadowing_is_normal_in_decibels_and_of_mean_one() -> None:
    power = gains(crowd(COUNT, shadowing={"std_db": 6.0, "correlation_s": 5.0}), 3)
    level = 10.0 * np.log10(power)
    assert level[0].std() == pytest.approx(6.0, abs=6.0 * ERROR / math.sqrt(2.0))
    assert level[2].std() == pytest.approx(6.0, abs=6.0 * ERROR / math.sqrt(2.0))
    spread = math.exp((6.0 * LN10_10) ** 2) - 1.0
    assert power[0].mean() == pytest.approx(1.0, abs=ERROR * math.sqrt(spread))
    standard = (level[0] - level[0].mean()) / level[0].std()
    assert (standard**3).mean() == pytest.approx(0.0, abs=ERROR * math.sqrt(6.0))
    assert (standard**4).mean() == pytest.approx(3.0, abs=ERROR * math.sqrt(24.0))
    for lag in (1, 2):
        assert correlation(level[0], level[lag]) == pytest.approx(math.exp(-0.4 * lag), abs=ERROR)


def test_fading_and_shadowing_know_nothing_of_each_other() -> None:
    both = gains(crowd(COUNT, fading={"kind": "rayleigh"}, shadowing={"std_db": 4.0, "correlation_s": 5.0}), 1)[0]
    alone = gains(crowd(COUNT, shadowing={"std_db": 4.0, "correlation_s": 5.0}), 1)[0]
    assert abs(correlation(both / alone, alone)) < ERROR


def test_availability_is_a_chain_with_its_shares_and_stays() -> None:
    up = np.array([one.available for one in met(crowd(4000, availability=AVAILABILITY), 200)])
    share = 30.0 / 40.0
    decay = math.exp(-2.0 * (1 / 30 + 1 / 10))
    for row in (up[0], up[-1]):  # stationary from the first round on
        assert row.mean() == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / 4000))
    left, came = (1 - share) * (1 - decay), share * (1 - decay)
    before, after = up[:-1], up[1:]
    for state, chance in ((True, left), (False, came)):
        count = (before == state).sum()
        moved = ((before == state) & (after != state)).sum() / count
        assert moved == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / count))
    # how long it stays, in rounds, is geometric: mean 1/p, variance (1 - p)/p^2. Counted are stays that begin in the
    # first half: two in a thousand of them last until the end and are cut there
    changed = np.diff(up.astype(np.int8), axis=0)
    for sign, state, chance in ((1, True, left), (-1, False, came)):
        stays = [
            int(np.argmax(np.append(up[first + 1 :, k] != state, True)))
            for first, k in zip(*np.nonzero(changed[:100] == sign), strict=True)
        ]
        expected, spread = 1 / chance, math.sqrt(1 - chance) / chance
        assert np.mean(stays) == pytest.approx(expected, abs=4 * spread / math.sqrt(len(stays)))


def test_jitter_has_mean_one_or_keeps_its_bounds() -> None:
    factor = met(crowd(COUNT, jitter={"kind": "lognormal", "sigma": 0.3}), 2)
    logs = np.log(factor[1].compute_factor)
    assert factor[0].compute_factor.mean() == pytest.approx(1.0, abs=ERROR * math.sqrt(math.expm1(0.09)))
    assert logs.std() == pytest.approx(0.3, abs=0.3 * ERROR / math.sqrt(2))
    assert abs(correlation(factor[0].compute_factor, factor[1].compute_factor)) < ERROR
    bounded = met(crowd(COUNT, jitter={"kind": "uniform", "least": 0.9, "most": 1.5}), 1)[0].compute_factor
    assert 0.9 <= bounded.min() < 0.901
    assert 1.499 < bounded.max() <= 1.5
    assert bounded.mean() == pytest.approx(1.2, abs=ERROR * 0.6 / math.sqrt(12))
