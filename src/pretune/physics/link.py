"""Rate, airtime and energy of the wireless links (math.md section 1).

Shannon rate at the device's bandwidth ``B``, channel power gain ``g`` and noise density ``N0``.
All functions are element-wise over NumPy arrays or floats; SI units throughout.
"""

from __future__ import annotations

import numpy as np

from pretune.physics.types import Real

LN2 = float(np.log(2.0))


def rate(power_w: Real, gain: Real, bandwidth_hz: Real, noise_psd: float) -> Real:
    """Bits per second: ``B log2(1 + p g / (N0 B))``; zero where the power is zero."""
    bits_per_second: Real = bandwidth_hz * np.log1p(power_w * gain / (noise_psd * bandwidth_hz)) / LN2
    return bits_per_second


def airtime(bits: float, power_w: Real, gain: Real, bandwidth_hz: Real, noise_psd: float) -> Real:
    """Seconds to send `bits`: ``S / r``. The power must be positive."""
    return bits / rate(power_w, gain, bandwidth_hz, noise_psd)


def power_for_airtime(bits: float, time_s: Real, gain: Real, bandwidth_hz: Real, noise_psd: float) -> Real:
    """The least transmit power that sends `bits` within `time_s`: ``(N0 B / g)(2^(S / (B t)) - 1)``."""
    power_w: Real = noise_psd * bandwidth_hz / gain * np.expm1(LN2 * bits / (bandwidth_hz * time_s))
    return power_w


def upload_energy(power_w: Real, circuit_power_w: Real, time_s: Real) -> Real:
    """Joules of a transmission: ``(p + P_circuit) t``."""
    return (power_w + circuit_power_w) * time_s
