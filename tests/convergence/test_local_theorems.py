"""The bounds with local steps, on quadratics that differ from device to device and whose moments are known exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pretune.constants import Convergence
from pretune.convergence import criteria, drift
from pretune.convergence.theorems import LOCAL_THEOREMS, THEOREMS, Crowd, Quadratic
from pretune.convergence.theorems.crowd import moments
from pretune.errors import InputError


def draw(seed: int, local_steps: int) -> Crowd:
    """Devices that differ a little or by orders of magnitude; some without noise, or with one minimum for all."""
    rng = np.random.default_rng(seed)
    d, count = int(rng.integers(1, 5)), int(rng.integers(1, 7))
    curvature = 10 ** rng.uniform(-2, 1, d) * 10 ** (rng.uniform(-1, 1, (count, d)) * rng.choice([0.0, 0.3, 1.0]))
    largest = (1.0 - 1e-12) / curvature.max()
    return Crowd(
        weights=rng.dirichlet(np.full(count, rng.choice([0.5, 5.0]))),
        curvature=curvature,
        centre=rng.normal(size=(count, d)) * 10 ** rng.uniform(-2, 1) * (rng.random() < 0.85),
        device_noise=10 ** rng.uniform(-3, 1, (count, d)) * (rng.random() < 0.7),
        start=rng.normal(size=d) * 10 ** rng.uniform(-1, 1),
        shift=rng.normal(size=d) * 10 ** rng.uniform(-2, 1) * (rng.random() < 0.5),
        server_noise=10 ** rng.uniform(-3, 1, d) * (rng.random() < 0.7),
        pretrain_step=float(largest * rng.choice([rng.uniform(0.01, 1.0), 1.0])),
        finetune_step=float(largest * rng.choice([10 ** rng.uniform(-2, 0), 1.0])),
        pretrain_rounds=int(rng.integers(0, 2) * rng.integers(0, 20)),
        finetune_rounds=int(rng.integers(1, 25)),
        local_steps=local_steps,
    )


@pytest.mark.parametrize("local_steps", [1, 2, 4, 8])
@pytest.mark.parametrize("name", LOCAL_THEOREMS)
def test_both_bounds_hold_on_hundreds_of_quadratics(name: str, local_steps: int) -> None:
    for seed in range(120):
        computed, bound = LOCAL_THEOREMS[name](draw(seed, local_steps))
        assert computed >= 0.0
        assert computed <= bound * (1 + 1e-9) + 1e-12, (seed, computed, bound)


def test_one_local_step_is_the_bound_of_federated_sgd_to_the_bit() -> None:
    c = Convergence(
        smoothness=9.53, initial_gap=2.35, shift=0.805, pretrain_step=0.05, finetune_step=0.05,
        pretrain_variance=23.2, finetune_variance=22.9, pl_constant=0.21, heterogeneity=3.0,
    )  # fmt: skip
    found = criteria.trajectory(c)
    assert (found.finetune_weight, found.device_noise, found.drift_cost) == (
        0.05 * (2.0 - 9.53 * 0.05),
        9.53 * 0.05**2,
        0.0,
    )
    assert criteria.final(c).drift_floor == 0.0
    assert criteria.drift_share(c) == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_devices_that_are_all_alike_are_one_quadratic(seed: int) -> None:
    """One local step of equal devices: the moments and both bounds are those of `Quadratic`."""
    q = draw(seed, 1)
    q = replace(q, curvature=np.tile(q.curvature[:1], (len(q.weights), 1)), centre=np.zeros_like(q.centre))
    same = Quadratic(
        curvature=q.curvature[0], start=q.start, shift=q.shift, server_noise=q.server_noise,
        device_noise=q.weights**2 @ q.device_noise, pretrain_step=q.pretrain_step, finetune_step=q.finetune_step,
        pretrain_rounds=q.pretrain_rounds, finetune_rounds=q.finetune_rounds,
    )  # fmt: skip
    for local, single in (("local_average", "trajectory"), ("local_final", "final_gap")):
        assert LOCAL_THEOREMS[local](q) == pytest.approx(THEOREMS[single](same), rel=1e-9, abs=1e-12)


def test_the_moments_are_those_of_simulated_runs() -> None:
    q = replace(draw(6, 3), pretrain_rounds=2, finetune_rounds=4)
    rng, runs = np.random.default_rng(0), 40_000
    w = np.tile(q.start, (runs, 1))
    for _ in range(2):
        noise = rng.normal(size=w.shape) * np.sqrt(q.server_noise)
        w = w - q.pretrain_step * (q.mean_curvature * (w - q.minimum) + q.shift + noise)
    for _ in range(4):
        own = np.repeat(w[:, None, :], len(q.weights), axis=1)
        for _ in range(3):
            noise = rng.normal(size=own.shape) * np.sqrt(q.device_noise)
            own = own - q.finetune_step * (q.curvature * (own - q.centre) + noise)
        w = np.einsum("k,rki->ri", q.weights, own)
    found = moments(q)
    away = (w - q.minimum) ** 2
    assert found.gap[-1] == pytest.approx(float((0.5 * away @ q.mean_curvature).mean()), rel=0.03)
    assert found.gradient_sq[-1] == pytest.approx(float((away @ q.mean_curvature**2).mean()), rel=0.03)


def test_the_drift_is_bounded_and_its_first_step_is_exact() -> None:
    """Mean square distance of the devices from their average, devices of one curvature, against a_e and t_e."""
    weights, eta, h, noise = np.array([0.2, 0.3, 0.5]), 0.4, 1.0, np.array([0.3, 0.1, 2.0])
    centre = np.array([3.0, -1.0, 0.5])
    apart = h**2 * float(weights @ (centre - weights @ centre) ** 2)
    spread = float((weights * (1 - weights)) @ noise)
    away, variance = np.zeros(3), np.zeros((3, 3))
    for one in list(drift.local_steps(h, eta, 6))[1:]:
        away = (1 - eta * h) * away + eta * h * centre
        variance = (1 - eta * h) ** 2 * variance + eta**2 * np.diag(noise)
        mean = weights @ away
        square = float(weights @ ((away - mean) ** 2 + np.diag(variance))) - float(weights @ variance @ weights)
        off = eta * (eta * h + (1 - eta * h) / drift.SHARE) * h**2
        bound = (one.drift * apart + one.spread * spread) / off
        assert square <= bound * (1 + 1e-12)
        if np.allclose(away, eta * h * centre):
            assert square == pytest.approx(bound, rel=1e-12)


def test_a_bound_without_the_drift_would_be_caught() -> None:
    """The check can fail: with no heterogeneity in the bound some quadratic is above it (T shows in none)."""
    worse = 0
    for seed in range(100):
        q = draw(seed, 8)
        q = replace(q, start=q.minimum, pretrain_rounds=0, device_noise=np.zeros_like(q.device_noise))
        c = criteria.trajectory(q.constants(0.0))
        bound = criteria.objective(c, q.noise(0.0), 0, q.finetune_rounds, 1.0, np.ones(len(q.weights)))
        worse += LOCAL_THEOREMS["local_average"](q)[0] > bound + 1e-9
    assert worse > 0


@pytest.mark.parametrize("share", [drift.SHARE, 1.0])
def test_the_constants_get_worse_with_the_smoothness(share: float) -> None:
    """What `convergence.robust` relies on: less weight and more of every cost at a larger L, at any step up to 1/L."""
    for eta_l in np.linspace(0.001, 1.0, 40):
        low, high = (list(drift.local_steps(x, 1.0, 12, share)) for x in (eta_l * 0.97, eta_l))
        for a, b in zip(low, high, strict=True):
            assert b.weight <= a.weight * (1 + 1e-12)
            assert b.noise >= a.noise
            assert b.spread >= a.spread
            assert b.drift >= a.drift


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"local_steps": 0}, "local_steps: holds 0, should hold a whole number from 1 to 100"),
        ({"local_steps": []}, "local_steps: holds [], should hold"),
        ({"local_steps": [2, 2]}, "local_steps: holds [2, 2], should hold"),
        ({"local_steps": 101}, "local_steps: holds 101, should hold"),
        ({"local_steps": 1.5}, "local_steps: holds 1.5, should hold"),
        ({"local_steps": True}, "local_steps: holds true, should hold"),
        ({"local_steps": list(range(1, 18))}, "different ones to choose from"),
        ({"local_steps": 2}, "heterogeneity: is missing, should hold what more than one local step needs"),
        ({"local_steps": 2, "heterogeneity": -1}, "heterogeneity: holds -1, should hold"),
        ({"local_steps": 2, "heterogeneity": 1, "finetune_step": 0.2}, "finetune_step: holds 0.2, should hold a step"),
    ],
)
def test_bad_values_get_one_line(given: dict[str, object], line: str) -> None:
    good = {
        "smoothness": 10, "initial_gap": 2, "shift": 1, "pretrain_step": 0.1, "finetune_step": 0.1,
        "pretrain_variance": 1, "finetune_variance": 1,
    }  # fmt: skip
    with pytest.raises(InputError) as caught:
        Convergence(**{**good, **given})
    assert len(caught.value.problems) == 1
    assert line in caught.value.problems[0]


def test_a_list_of_one_is_that_one_and_the_order_does_not_matter() -> None:
    c = Convergence(
        smoothness=10, initial_gap=2, shift=1, pretrain_step=0.1, finetune_step=0.1, pretrain_variance=1,
        finetune_variance=1, heterogeneity=1, local_steps=[4, 1],
    )  # fmt: skip
    assert c.choices == (1, 4)
    assert c.settled(4).local_steps == 4
    assert Convergence(**{**{k: getattr(c, k) for k in c.model_fields_set}, "local_steps": [3]}).local_steps == 3
    with pytest.raises(InputError, match="one number here"):
        criteria.trajectory(c)
