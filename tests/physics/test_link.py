"""Rate, airtime and upload energy against known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.physics.link import LN2, airtime, power_for_airtime, rate, upload_energy


def test_a_rate_by_hand() -> None:
    # a signal three times as strong as the noise carries two bits a second and hertz
    noise, bandwidth, gain = 4e-21, 1e6, 1e-10
    power = 3.0 * noise * bandwidth / gain
    assert rate(power, gain, bandwidth, noise) == pytest.approx(2e6, rel=1e-14)
    assert airtime(1e7, power, gain, bandwidth, noise) == pytest.approx(5.0, rel=1e-14)
    assert upload_energy(power, 0.5, 5.0) == pytest.approx(5.0 * (power + 0.5), rel=1e-15)


def test_no_power_no_rate() -> None:
    assert rate(0.0, 1e-10, 1e6, 4e-21) == 0.0


@given(
    power=st.floats(1e-6, 1e2),
    gain=st.floats(-16.0, -6.0),
    bandwidth=st.floats(3.0, 9.0),
    bits=st.floats(1.0, 10.0),
)
def test_power_and_airtime_are_inverses(power: float, gain: float, bandwidth: float, bits: float) -> None:
    g, b, s = 10.0**gain, 10.0**bandwidth, 10.0**bits
    seconds = airtime(s, power, g, b, 4e-21)
    assert power_for_airtime(s, seconds, g, b, 4e-21) == pytest.approx(power, rel=1e-11)


@given(power=st.floats(1e-3, 10.0), more=st.floats(1.01, 100.0))
def test_more_power_sends_faster_and_costs_more(power: float, more: float) -> None:
    times = [airtime(1e7, p, 1e-11, 1e6, 4e-21) for p in (power, more * power)]
    assert times[1] < times[0]
    assert upload_energy(more * power, 0.0, times[1]) > upload_energy(power, 0.0, times[0])


def test_the_least_energy_of_an_upload() -> None:
    """Given all the time in the world, an upload still takes ``N0 S ln2 / g`` joules (Shannon's limit)."""
    gain, noise, bits = 1e-11, 4e-21, 1e7
    limit = noise * bits * LN2 / gain
    for seconds, close in ((1e3, 1e-2), (1e6, 1e-5), (1e9, 1e-8)):
        power = power_for_airtime(bits, seconds, gain, 1e6, noise)
        assert power * seconds == pytest.approx(limit, rel=close)
        assert power * seconds >= limit


def test_more_bandwidth_never_hurts() -> None:
    bandwidths = np.logspace(3, 12, 200)
    rates = rate(0.2, 1e-11, bandwidths, 4e-21)
    assert np.all(np.diff(rates) >= 0.0)
    assert rates[-1] == pytest.approx(0.2 * 1e-11 / 4e-21 / math.log(2.0), rel=1e-2)
    assert rates[-1] <= 0.2 * 1e-11 / 4e-21 / math.log(2.0)
