"""Time and energy of computing one batch (math.md section 1).

Source: the usual CMOS model, dynamic power ``kappa f^3``, as in Lyu et al. (arXiv:2404.00836); static
power is charged only while computing.
All functions are element-wise over NumPy arrays or floats; SI units throughout.
"""

from __future__ import annotations

import numpy as np

from pretune.physics.types import Real


def compute_time(batch: Real, clock_hz: Real, flops_per_sample: float, flops_per_cycle: Real) -> Real:
    """Seconds to process `batch` samples: ``Phi b / (C f)``. The clock must be positive."""
    return flops_per_sample * batch / (flops_per_cycle * clock_hz)


def compute_energy(
    batch: Real,
    clock_hz: Real,
    flops_per_sample: float,
    flops_per_cycle: Real,
    capacitance: Real,
    static_power_w: Real,
) -> Real:
    """Joules to process `batch` samples: ``kappa (Phi b / C) f^2 + P_static * time``."""
    cycles = flops_per_sample * batch / flops_per_cycle
    joules: Real = capacitance * cycles * np.square(clock_hz) + static_power_w * cycles / clock_hz
    return joules
