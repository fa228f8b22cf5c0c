"""The planning problem as the kernels see it: plain arrays and numbers, everything physical already divided out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pretune.convergence.criteria import ConvergenceCriterion, criterion_of, device_noise
from pretune.errors import InputError
from pretune.physics import cost, link
from pretune.physics.types import Floats
from pretune.planning import Under
from pretune.scenario import Access, Scenario
from pretune.uncertainty import planned_under


class Devices(NamedTuple):
    """The fleet as columns of shape (K,); SI units.

    A device computes ``b`` samples in ``u = cycles b / f`` seconds for ``capacitance f^2 cycles b + static u`` joules,
    and uploads in ``t = span / x`` seconds for ``noise t (e^x - 1) + circuit t`` joules, where the upload exponent
    ``x = ln(1 + p g / (N0 B)) = S ln2 / (B t)`` is at most `exponent_max`. Where the band is shared, that is at an
    equal share of it.
    """

    cycles: Floats
    """E Phi / C: clock cycles per sample of a batch, over all local steps of a round."""
    capacitance: Floats
    clock_max: Floats
    static: Floats
    noise: Floats
    """N0 B / g: the transmit power that makes the signal as strong as the noise, in watts."""
    span: Floats
    """S ln2 / B: seconds per unit of 1/x."""
    exponent_max: Floats
    circuit: Floats
    variance: Floats
    """A_k = alpha_k^2 sigma_k^2."""
    battery: Floats
    """Joules over the whole run; infinity where there is no limit."""


class Server(NamedTuple):
    """The server's compute model, in the same terms."""

    cycles: float
    capacitance: float
    clock_max: float
    static: float


class Limits(NamedTuple):
    """Budgets and the fixed cost of a broadcast."""

    energy: float
    delay: float
    down_s: float
    down_j: float
    tdma: bool
    band: float = 0.0
    """The band that the devices share, in equal shares (K of them); 0 where each has a bandwidth of its own."""
    shortest: float = 0.0
    """Shared band: no span is shorter, whatever the batches and batteries; zero where that is not known."""


class Batches(NamedTuple):
    """The range each batch may take: the server's two numbers and two arrays of shape (K,); and the least span."""

    server_low: float
    server_high: float
    low: Floats
    high: Floats
    span: float = 0.0
    """Seconds that the span of a fine-tuning round (tau for FDMA, v for TDMA) takes at the least."""


class Problem(NamedTuple):
    """All that a solve needs; `criterion` are the numbers of `ConvergenceCriterion.numbers`."""

    devices: Devices
    server: Server
    limits: Limits
    batches: Batches
    criterion: Floats


def build(scenario: Scenario) -> tuple[Problem, ConvergenceCriterion]:
    """The planning problem of a scenario, and the criterion it minimises.

    Raises:
        InputError: it is to hold under something else than its own figures, and whoever asks does not know how.
    """
    under = planned_under(scenario)
    if under is not Under.MEAN:
        raise InputError.field(
            "planning.under",
            under.value,
            "mean, or no planning: only plan, check, compare, run and pareto know the others",
        )
    fleet, work, radio, server = scenario.devices, scenario.workload, scenario.radio, scenario.server
    criterion = criterion_of(scenario)
    down = cost.broadcast(scenario)
    noise = radio.noise_psd_w_per_hz * fleet.bandwidth_hz / fleet.gain
    # who is asked with a probability costs joules in the mean, and seconds for sure
    asked = 1.0 if fleet.asked is None else fleet.asked
    devices = Devices(
        cycles=_column(scenario.finetune_flops / fleet.flops_per_cycle),
        capacitance=_column(asked * fleet.capacitance),
        clock_max=_column(fleet.max_clock_hz),
        static=_column(asked * fleet.static_power_w),
        noise=_column(asked * noise),
        span=_column(work.upload_bits * link.LN2 / fleet.bandwidth_hz),
        exponent_max=_column(np.log1p(fleet.max_power_w / noise)),
        circuit=_column(asked * fleet.circuit_power_w),
        variance=_column(device_noise(scenario)),
        battery=_column(fleet.battery_j),
    )
    problem = Problem(
        devices=devices,
        server=Server(
            cycles=float(work.flops_per_sample / server.flops_per_cycle),
            capacitance=float(server.capacitance),
            clock_max=float(server.max_clock_hz),
            static=float(server.static_power_w),
        ),
        limits=Limits(
            energy=float(scenario.budget.energy_j),
            delay=float(scenario.budget.delay_s),
            down_s=float(down.time_s),
            down_j=float(down.energy_j),
            tdma=radio.access is Access.TDMA,
            band=float(len(fleet)) if radio.shares_decided else 0.0,
        ),
        batches=Batches(
            server_low=1.0,
            server_high=float(server.samples),
            low=np.ones(len(fleet)),
            high=_column(fleet.samples),
            span=0.0,
        ),
        criterion=np.array(criterion.numbers()),
    )
    return problem, criterion


def _column(values: object) -> Floats:
    """A contiguous, writable float column, the one layout the kernels are compiled for."""
    return np.array(values, dtype=np.float64, order="C")
