"""Compute time and energy against numbers worked out by hand, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.physics.compute import compute_energy, compute_time

positive = st.floats(1e-3, 1e3)


def test_a_batch_by_hand() -> None:
    # 10 samples of 8e6 FLOPs at 8 FLOPs a cycle are 1e7 cycles: 0.02 s at 500 MHz
    assert compute_time(10.0, 5e8, 8e6, 8.0) == pytest.approx(0.02, rel=1e-15)
    # kappa 1e-28 * 1e7 cycles * (5e8)^2 = 2.5e-4 J, and 0.1 W for 0.02 s
    assert compute_energy(10.0, 5e8, 8e6, 8.0, 1e-28, 0.1) == pytest.approx(2.5e-4 + 2e-3, rel=1e-15)


def test_energy_is_power_times_time() -> None:
    clock, capacitance, static = 7e8, 3e-28, 0.25
    seconds = compute_time(3.0, clock, 1e7, 4.0)
    joules = compute_energy(3.0, clock, 1e7, 4.0, capacitance, static)
    assert joules == pytest.approx((capacitance * clock**3 + static) * seconds, rel=1e-14)


@given(batch=positive, clock=positive, factor=positive)
def test_scaling(batch: float, clock: float, factor: float) -> None:
    def at(b: float, f: float) -> tuple[float, float]:
        return compute_time(b, f, 1.0, 1.0), compute_energy(b, f, 1.0, 1.0, 1.0, 0.0)

    seconds, joules = at(batch, clock)
    assert at(factor * batch, clock) == pytest.approx((factor * seconds, factor * joules), rel=1e-12)
    assert at(batch, factor * clock) == pytest.approx((seconds / factor, joules * factor**2), rel=1e-12)


@given(batch=positive, clock=positive, static=st.floats(0.0, 1e3))
def test_no_clock_beats_the_best(batch: float, clock: float, static: float) -> None:
    """With static power the least energy is at ``2 kappa f^3 = P_static``."""
    if static > 0.0:
        best = (static / 2.0) ** (1.0 / 3.0)
        least = compute_energy(batch, best, 1.0, 1.0, 1.0, static)
        assert compute_energy(batch, clock, 1.0, 1.0, 1.0, static) >= least * (1.0 - 1e-12)


def test_columns() -> None:
    clocks = np.array([1e8, 2e8])
    assert compute_time(np.array([1.0, 4.0]), clocks, 1e8, np.array([1.0, 2.0])) == pytest.approx([1.0, 1.0])
    assert compute_energy(
        np.array([1.0, 4.0]), clocks, 1e8, np.array([1.0, 2.0]), np.array([1e-24, 0.0]), np.array([0.0, 3.0])
    ) == pytest.approx([1.0, 3.0])
