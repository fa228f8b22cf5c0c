"""Path loss and shadowing of a cell, and the gains of devices dropped into it.

UMa and UMi - Street Canyon are those of 3GPP TR 38.901 V16.1.0: path loss from Table 7.4.1-1, probability of
line of sight from Table 7.4.2-1. Distances are in metres, the carrier in Hz; losses are in dB, as a positive number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pretune.physics.types import Floats

LIGHT_M_PER_S = 3.0e8
"""The speed of light that TR 38.901 calculates breakpoints with."""


@dataclass(frozen=True, kw_only=True)
class Street:
    """The parameters of a line in Table 7.4.1-1.

    Line of sight, up to the breakpoint: ``los_db + los_slope log10(d3D) + 20 log10(fc)``; beyond it
    ``los_db + 40 log10(d3D) + 20 log10(fc) - bend log10(d_BP^2 + (h_BS - h_UT)^2)``.
    No line of sight: the larger of that and
    ``nlos_db + nlos_slope log10(d3D) + nlos_carrier log10(fc) - nlos_height (h_UT - 1.5)``; fc in GHz.
    """

    los_db: float
    los_slope: float
    bend: float
    nlos_db: float
    nlos_slope: float
    nlos_carrier: float
    nlos_height: float
    los_shadowing_db: float
    nlos_shadowing_db: float
    los_range_m: float


UMA = Street(
    los_db=28.0,
    los_slope=22.0,
    bend=9.0,
    nlos_db=13.54,
    nlos_slope=39.08,
    nlos_carrier=20.0,
    nlos_height=0.6,
    los_shadowing_db=4.0,
    nlos_shadowing_db=6.0,
    los_range_m=63.0,
)
UMI = Street(
    los_db=32.4,
    los_slope=21.0,
    bend=9.5,
    nlos_db=22.4,
    nlos_slope=35.3,
    nlos_carrier=21.3,
    nlos_height=0.3,
    los_shadowing_db=4.0,
    nlos_shadowing_db=7.82,
    los_range_m=36.0,
)
LOG_DISTANCE_SHADOWING_DB = 8.0


def breakpoint_distance(carrier_hz: float, base_height_m: float, device_height_m: float) -> float:
    """``d'_BP = 4 h'_BS h'_UT fc / c`` with the effective heights ``h' = h - 1 m`` (Table 7.4.1-1, note 1).

    The environment height is 1 m for UMi, and for UMa with devices up to 13 m high.
    """
    return 4.0 * (base_height_m - 1.0) * (device_height_m - 1.0) * carrier_hz / LIGHT_M_PER_S


def los_loss(
    street: Street, distance_m: Floats, *, carrier_hz: float, base_height_m: float, device_height_m: float
) -> Floats:
    """Path loss with line of sight at horizontal distances of shape (K,), dB (Table 7.4.1-1)."""
    climb = base_height_m - device_height_m
    bend_m = breakpoint_distance(carrier_hz, base_height_m, device_height_m)
    log_d3: Floats = 0.5 * np.log10(np.square(distance_m) + climb**2)
    common: float = street.los_db + 20.0 * np.log10(carrier_hz / 1e9)
    near: Floats = common + street.los_slope * log_d3
    far: Floats = common + 40.0 * log_d3 - street.bend * np.log10(bend_m**2 + climb**2)
    return np.where(distance_m <= bend_m, near, far)


def nlos_loss(
    street: Street, distance_m: Floats, *, carrier_hz: float, base_height_m: float, device_height_m: float
) -> Floats:
    """Path loss without line of sight at horizontal distances of shape (K,), dB (Table 7.4.1-1)."""
    clear = los_loss(
        street, distance_m, carrier_hz=carrier_hz, base_height_m=base_height_m, device_height_m=device_height_m
    )
    log_d3: Floats = 0.5 * np.log10(np.square(distance_m) + (base_height_m - device_height_m) ** 2)
    blocked: Floats = (
        street.nlos_db
        + street.nlos_slope * log_d3
        + street.nlos_carrier * np.log10(carrier_hz / 1e9)
        - street.nlos_height * (device_height_m - 1.5)
    )
    return np.maximum(clear, blocked)


def los_probability(street: Street, distance_m: Floats) -> Floats:
    """Probability of line of sight (Table 7.4.2-1), for devices up to 13 m high.

    One up to 18 m; beyond, ``18/d + exp(-d/r) (1 - 18/d)`` with r = 63 m (UMa) or 36 m (UMi).
    """
    ratio = 18.0 / np.maximum(distance_m, 18.0)
    return ratio + np.exp(-distance_m / street.los_range_m) * (1.0 - ratio)


def log_distance_loss(distance_m: Floats) -> Floats:
    """``128.1 + 37.6 log10(d / km)`` dB: macro cell, urban, 2 GHz (3GPP TR 36.942, section 4.5.2)."""
    return 128.1 + 37.6 * np.log10(distance_m / 1000.0)


def drop_in_annulus(rng: np.random.Generator, count: int, inner_m: float, outer_m: float) -> Floats:
    """Distances of points spread evenly over the area between two radii, shape (K,)."""
    return np.sqrt(rng.uniform(inner_m**2, outer_m**2, count))


def draw_los(rng: np.random.Generator, street: Street, distance_m: Floats) -> NDArray[np.bool_]:
    """Which devices have line of sight, drawn from its probability, each on its own."""
    sight: NDArray[np.bool_] = rng.random(len(distance_m)) < los_probability(street, distance_m)
    return sight


def gain_of(loss_db: Floats) -> Floats:
    """Power gain of a loss in dB: ``10^(-loss/10)``."""
    return np.power(10.0, -loss_db / 10.0)
