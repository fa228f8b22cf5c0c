"""Root finding and upload costs of the checker, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

from pretune.bracket import falling_root
from pretune.uploads import energy_slope, upload_cost


def test_roots_of_many_brackets() -> None:
    """Each element has its own root; ends stand for elements without one."""
    root = np.array([0.1, 0.5, 1.7, -3.0, 9.0])
    left, right = np.zeros(5), np.full(5, 2.0)
    found = falling_root(lambda x: root**3 - x**3, left, right)
    assert found == pytest.approx([0.1, 0.5, 1.7, 0.0, 2.0], abs=1e-12)


def test_steep_and_flat_functions_end() -> None:
    """Steps and flat stretches end within the trials, with a point where the sign changes."""
    step = falling_root(lambda x: np.where(x < 0.3, 1.0, -1.0), np.zeros(2), np.ones(2))
    assert step == pytest.approx(0.3, abs=1e-12)
    flat = falling_root(lambda x: np.where(x < 0.3, 1.0, 0.0), np.zeros(2), np.ones(2))
    assert np.all((flat >= 0.3 - 1e-12) & (flat <= 1.0))


def test_the_slope_is_one_function_on_both_sides_of_its_series() -> None:
    x = np.array([1e-9, 1e-4, 0.049999, 0.050001, 1.0, 30.0])
    exact = np.array([5e-19, 5.000333e-09, 1.2924e-03, 1.29250e-03, 1.0, 29.0 * np.exp(30.0) + 1.0])
    assert energy_slope(x) == pytest.approx(exact, rel=1e-4)
    assert np.all(np.diff(energy_slope(np.linspace(0.0499, 0.0501, 101))) > 0.0)


def test_upload_costs_touch_the_least_over_all_times() -> None:
    """No upload time costs less, and the times near the best cost hardly more."""
    rng = np.random.default_rng(0)
    noise, span = 10.0 ** rng.uniform(-4, 1, 50), 10.0 ** rng.uniform(-2, 1, 50)
    paid, most = 10.0 ** rng.uniform(-9, 4, 50), rng.uniform(0.05, 20.0, 50)
    least = upload_cost(paid, noise, span, most)
    x = np.exp(np.linspace(np.log(1e-7), 0.0, 20_001))[:, None] * most
    tried = span * (noise * np.expm1(x) + paid) / x
    assert np.all(tried.min(axis=0) >= least * (1.0 - 1e-12))
    assert tried.min(axis=0) == pytest.approx(least, rel=1e-6)
