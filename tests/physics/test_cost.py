"""Rounds and runs: what a whole round costs, put together by hand from its parts."""

from __future__ import annotations

import numpy as np
import pytest

from pretune.physics import compute, cost, link
from pretune.scenario import Scenario


def scenario(access: str = "fdma", **device: float) -> Scenario:
    """Two devices, the second twice as capable; the first has the worse channel."""
    common = {"capacitance": 1e-28, "max_power_w": 0.2, "bandwidth_hz": 1e6, "samples": 100, **device}
    return Scenario(
        name="two",
        workload={"flops_per_sample": 1e7, "upload_bits": 1e6, "download_bits": 3e6},
        server={
            "capacitance": 1e-27,
            "flops_per_cycle": 1000.0,
            "max_clock_hz": 1e9,
            "static_power_w": 2.0,
            "samples": 1000,
            "transmit_power_w": 10.0,
        },
        radio={"access": access, "noise_psd_w_per_hz": 4e-21, "broadcast_bandwidth_hz": 1e7},
        devices=[
            {**common, "flops_per_cycle": 4.0, "max_clock_hz": 1e9, "gain": 1e-12},
            {**common, "flops_per_cycle": 8.0, "max_clock_hz": 1e9, "gain": 1e-10},
        ],
        budget={"energy_j": 100.0, "delay_s": 100.0},
        convergence={
            "smoothness": 10.0,
            "initial_gap": 1.0,
            "shift": 0.5,
            "pretrain_step": 0.01,
            "finetune_step": 0.01,
            "pretrain_variance": 10.0,
            "finetune_variance": 10.0,
        },
    )


def test_pretraining_by_hand() -> None:
    # 50 samples of 1e4 cycles at 500 MHz: 1 ms, 1e-27 * 5e5 * 2.5e17 J, and 2 W for 1 ms
    one = cost.pretrain_round(scenario(), 50, 5e8)
    assert one.time_s == pytest.approx(1e-3, rel=1e-14)
    assert one.energy_j == pytest.approx(1.25e-4 + 2e-3, rel=1e-14)


def test_the_broadcast_reaches_the_worst_device() -> None:
    down = cost.broadcast(scenario())
    assert down.time_s == pytest.approx(link.airtime(3e6, 10.0, 1e-12, 1e7, 4e-21), rel=1e-15)
    assert down.energy_j == pytest.approx(10.0 * down.time_s, rel=1e-15)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
def test_a_round_is_the_sum_of_its_parts(access: str) -> None:
    case = scenario(access, static_power_w=0.1, circuit_power_w=0.05)
    batch, clock, power = np.array([5.0, 20.0]), np.array([4e8, 9e8]), np.array([0.2, 0.03])
    each = cost.finetune_round(case, batch, clock, power)
    seconds, joules, sent = [], [], []
    for k, device in enumerate(case.devices):
        seconds.append(compute.compute_time(batch[k], clock[k], 1e7, device.flops_per_cycle))
        sent.append(link.airtime(1e6, power[k], device.gain, 1e6, 4e-21))
        joules.append(
            compute.compute_energy(batch[k], clock[k], 1e7, device.flops_per_cycle, 1e-28, 0.1)
            + (power[k] + 0.05) * sent[k]
        )
    assert each.compute_s == pytest.approx(seconds, rel=1e-14)
    assert each.upload_s == pytest.approx(sent, rel=1e-14)
    assert each.device_j == pytest.approx(joules, rel=1e-14)
    down = cost.broadcast(case)
    side_by_side = max(u + t for u, t in zip(seconds, sent, strict=True))
    span = side_by_side if access == "fdma" else max(seconds) + sum(sent)
    assert each.time_s == pytest.approx(down.time_s + span, rel=1e-14)
    assert each.energy_j == pytest.approx(down.energy_j + sum(joules), rel=1e-14)


def test_taking_turns_is_never_faster() -> None:
    """Each device has its whole bandwidth either way, so TDMA can't beat FDMA."""
    batch, clock, power = np.array([5.0, 20.0]), np.array([4e8, 9e8]), np.array([0.2, 0.03])
    fdma, tdma = (cost.finetune_round(scenario(access), batch, clock, power) for access in ("fdma", "tdma"))
    assert tdma.time_s > fdma.time_s
    assert tdma.energy_j == fdma.energy_j
