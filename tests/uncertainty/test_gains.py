"""Quantiles and inverse means: against closed forms, against other formulas, and on the promise's side."""

from __future__ import annotations

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretune.uncertainty.gains import CERTAIN, figures_of
from pretune.uncertainty.rice import rice_cdf
from pretune.uncertainty.verify import chance_below, inverse_mean_above


def e1(x: float) -> float:
    """The exponential integral, by its series (x below 2)."""
    return -math.log(x) - 0.5772156649015329 + sum(-((-x) ** n) / (n * math.factorial(n)) for n in range(1, 60))


@pytest.mark.parametrize("chance", [1e-6, 0.01, 0.05, 0.5])
def test_rayleigh_is_known_in_closed_form(chance: float) -> None:
    found = figures_of(0.0, 0.0, chance)
    assert found.quantile == pytest.approx(-math.log1p(-chance), rel=1e-7)
    assert 1.0 <= found.inverse_mean / e1(found.quantile) < 1.003
    second = math.exp(-found.quantile) / found.quantile - e1(found.quantile)  # E[x^-2; x >= q], by parts
    variance = second - e1(found.quantile) ** 2
    assert 1.0 <= found.inverse_variance / variance < (1.02 if chance < 0.5 else 1.1)


@pytest.mark.parametrize("chance", [0.001, 0.05, 0.3])
def test_shadowing_alone_is_known_in_closed_form(chance: float) -> None:
    s = 6.0 * math.log(10.0) / 10.0
    quantile = math.exp(s * NormalDist().inv_cdf(chance) - 0.5 * s * s)
    found = figures_of(math.inf, 6.0, chance)
    assert 0.99 < found.quantile / quantile <= 1.0
    # E[1/x; x >= q] = e^(s^2) P(n > ln q / s + 3 s/2)
    mean = math.exp(s * s) * NormalDist().cdf(-(math.log(found.quantile) / s + 1.5 * s))
    assert 1.0 <= found.inverse_mean / mean < 1.02


def test_what_does_not_vary_is_certain() -> None:
    assert figures_of(math.inf, 0.0, 0.05) == CERTAIN


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from([0.0, 0.1, 3.0, 10.0, 200.0, 5000.0, math.inf]),
    st.sampled_from([0.0, 0.3, 2.0, 8.0]),
    st.sampled_from([1e-6, 1e-3, 0.02, 0.05, 0.2, 0.5]),
)
def test_other_formulas_agree_and_find_every_figure_on_the_right_side(k: float, std_db: float, chance: float) -> None:
    found = figures_of(k, std_db, chance)
    if found == CERTAIN:
        return
    below = float(chance_below(np.array([found.quantile]), k, std_db)[0])
    assert below <= chance * (1.0 + 1e-6)
    if k <= 40.0 or math.isinf(k):  # in the narrower laws a step of the grid is more
        assert below >= chance * 0.93
    inverse = inverse_mean_above(found.quantile, k, std_db)
    assert 0.94 < inverse / found.inverse_mean <= 1.0 + 1e-6
    # by Cauchy and Schwarz E[1/x] E[x] >= P^2 above the quantile, and E[x] <= 1
    assert found.inverse_mean >= (1.0 - chance) ** 2 * (1.0 - 1e-9)


@pytest.mark.parametrize(("k", "std_db"), [(0.0, 0.0), (4.0, 0.0), (4.0, 6.0), (math.inf, 6.0), (30.0, 3.0)])
def test_a_million_draws_agree(k: float, std_db: float) -> None:
    rng, count, chance = np.random.default_rng(1), 1_000_000, 0.05
    z = rng.standard_normal((count, 2)) * math.sqrt(0.5)
    direct, spread = (1.0, 0.0) if math.isinf(k) else (math.sqrt(k / (k + 1)), 1 / math.sqrt(k + 1))
    s = std_db * math.log(10.0) / 10.0
    x = (direct + spread * z[:, 0]) ** 2 + (spread * z[:, 1]) ** 2
    x *= np.exp(s * rng.standard_normal(count) - 0.5 * s * s)
    found = figures_of(k, std_db, chance)
    error = 4.0 * math.sqrt(chance * (1 - chance) / count)
    assert 0.98 * chance - error <= (x < found.quantile).mean() <= chance + error
    inverse = np.where(x >= found.quantile, 1.0 / x, 0.0)
    assert inverse.mean() - 4.0 * inverse.std() / 1000.0 <= found.inverse_mean <= inverse.mean() * 1.02
    assert inverse.var() * 0.97 <= found.inverse_variance <= inverse.var() * 1.10


def test_a_smaller_chance_takes_a_lower_gain() -> None:
    chances = [0.4, 0.05, 1e-4, 1e-9]
    for law in ((0.0, 0.0), (10.0, 0.0), (1.0, 8.0), (1e3, 0.0), (0.0, 30.0)):
        quantiles = [figures_of(*law, chance).quantile for chance in chances]
        assert all(later < earlier for earlier, later in itertools.pairwise(quantiles))


@pytest.mark.parametrize("k", [1e-3, 0.5, 30.0, 1e3])
def test_the_distribution_function_rises_from_zero_to_one(k: float) -> None:
    x = np.geomspace(1e-6, 40.0, 400)
    values = rice_cdf(x, k)
    assert (np.diff(values) >= -1e-12).all()
    assert values[-1] == pytest.approx(1.0, abs=1e-12)
    assert values[0] == pytest.approx(1e-6 * (k + 1) * math.exp(-k), rel=1e-6 * (k + 1) ** 2, abs=1e-300)
    assert np.abs(values - chance_below(x, k, 0.0)).max() < 1e-7
