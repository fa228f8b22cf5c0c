"""A criterion from mid-run, and with devices that answer only sometimes."""

from __future__ import annotations

import dataclasses
import itertools
import math

import control_samples as samples
import numpy as np
import pytest

from pretune.control.rules import Rules
from pretune.convergence.criteria import Final, Trajectory, criterion_of, device_noise, final, trajectory
from pretune.convergence.laws import Calibrated
from pretune.convergence.participation import Known, spread_of, with_participation
from pretune.convergence.progress import Progress
from pretune.errors import InputError
from pretune.law import Law

CRITERIA = ("trajectory", "final", "calibrated")
LAW = Law(family="product", values=(0.2, 2.0, 20.0, 0.7, 30.0, 0.5, 0.4, 0.3, 1.0, 4e3, 3e3), measure="loss")


def criterion(name: str) -> Known:
    tree = samples.scenario().convergence.model_dump(exclude_unset=True)
    if name == "calibrated":
        return Calibrated(law=LAW)
    return criterion_of(samples.scenario(convergence={**tree, "criterion": name}))


@pytest.mark.parametrize("name", CRITERIA)
@pytest.mark.parametrize("done", [(0, 0), (7, 0), (20, 3)])
def test_rounds_done_and_rounds_to_come_make_the_whole_criterion(name: str, done: tuple[int, int]) -> None:
    found, (all_m, all_n), b0, noise = criterion(name), (20, 9), 12.0, 0.07
    progress = Progress.start(found)
    for _ in range(done[0]):
        progress = progress.pretrained(found, b0)
    for _ in range(done[1]):
        progress = progress.finetuned(found, noise)
    whole = found.at(all_m, all_n)
    expected = (float(whole.phi) + float(whole.psi0) / b0 + float(whole.psi) * noise) / float(whole.weight)
    weight, phi, psi0, psi = progress.ahead(found, all_m - done[0], all_n - done[1])
    assert (phi + psi0 / b0 + psi * noise) / weight == pytest.approx(expected, rel=1e-12)
    if done == (20, 3):
        at_end = progress
        for _ in range(all_n - 3):
            at_end = at_end.finetuned(found, noise)
        assert at_end.value(found) == pytest.approx(expected, rel=1e-12)
        assert Progress(**at_end.to_dict()) == at_end


def test_before_the_first_round_of_trajectory_nothing_is_known() -> None:
    assert math.isinf(Progress.start(criterion("trajectory")).value(criterion("trajectory")))


def test_weights_one_over_the_probability_leave_the_average_where_it_is() -> None:
    """All 2^K outcomes, each with its probability: the mean is exact, and the variance is the formula's."""
    rng = np.random.default_rng(0)
    gradients, weight = rng.normal(size=(4, 3)), np.array([0.1, 0.2, 0.3, 0.4])
    p = np.array([0.3, 0.9, 0.5, 1.0])
    mean, second = np.zeros(3), 0.0
    for here in itertools.product((0.0, 1.0), repeat=4):
        answered = np.array(here)
        chance = float(np.prod(np.where(answered > 0.0, p, 1.0 - p)))
        average = (answered * weight / p) @ gradients
        mean += chance * average
        second += chance * float(average @ average)
    np.testing.assert_allclose(mean, weight @ gradients, rtol=1e-12)
    variance = second - float(mean @ mean)
    formula = float((weight**2 * (1.0 - p) / p * (gradients**2).sum(axis=1)).sum())
    assert variance == pytest.approx(formula, rel=1e-12)


@pytest.mark.parametrize("name", ["trajectory", "final"])
def test_the_bound_with_absent_devices_holds_on_quadratics(name: str) -> None:
    """Exact second moments of SGD on isotropic quadratics whose devices disagree: the bound is above them."""
    one = samples.scenario()
    c = one.convergence.model_copy(update={"smoothness": 1.0, "pl_constant": 1.0, "finetune_step": 0.4, "shift": 0.0})
    weight, p = np.full(4, 0.25), np.array([0.4, 0.6, 0.8, 1.0])
    centres = np.array([-1.0, -0.5, 0.5, 1.0])  # F_k(w) = (w - c_k)^2/2: gradients differ by |c_k - mean| <= 1
    sigma, batch, start, rounds, eta = 0.8, 3.0, 2.0, 25, 0.4
    made = trajectory(c) if name == "trajectory" else final(c)
    gap = 0.5 * start**2
    made = dataclasses.replace(made, gap=gap)
    found = with_participation(made, weight, p, heterogeneity=1.0, pl_constant=1.0)
    assert isinstance(found, Trajectory | Final)
    noise = float((weight**2 * sigma**2 / p / batch).sum())
    first, second, norms = start, start**2, []
    for _ in range(rounds):
        norms.append(second)
        # w+ = w - eta sum_k (alpha_k 1_k / p_k)(w - c_k + noise): moments of the random slope and offset
        extra = weight**2 * (1.0 - p) / p
        spread = float(extra.sum()) * second - 2.0 * float((extra * centres).sum()) * first
        spread += float((extra * centres**2).sum())
        second = (1.0 - eta) ** 2 * second + eta**2 * (spread + noise)
        first = (1.0 - eta) * first
    progress = Progress.start(found)
    for _ in range(rounds):
        progress = progress.finetuned(found, noise)
    true = float(np.mean(norms)) if name == "trajectory" else 0.5 * second
    assert true <= progress.value(found)
    alone = Progress.start(made)
    for _ in range(rounds):
        alone = alone.finetuned(made, noise)
    assert progress.value(found) > alone.value(made)


def test_everybody_always_there_changes_nothing() -> None:
    made = criterion("final")
    assert with_participation(made, np.full(3, 1 / 3), np.ones(3), heterogeneity=2.0, pl_constant=0.5) is made
    assert spread_of(np.full(2, 0.5), np.array([0.5, 1.0])) == 0.25


def test_too_few_answers_are_refused_in_one_line() -> None:
    made = criterion("trajectory")
    with pytest.raises(InputError, match="probabilities with which devices answer") as caught:
        with_participation(made, np.full(2, 0.5), np.full(2, 1e-4))
    assert "\n" not in str(caught.value)


def test_device_noise_is_divided_by_the_probability() -> None:
    one, plan = samples.within(samples.scenario({"availability": {"mean_up_s": 3.0, "mean_down_s": 1.0}}))
    seen = samples.outlook(one, plan, Rules())
    np.testing.assert_allclose(seen.probability, 0.75)
    alive = np.ones(10, dtype=np.bool_)
    np.testing.assert_allclose(seen.noise_of(alive), device_noise(one) / 0.75)
    alive[:5] = False
    left = float(one.devices.weight[5:].sum())
    np.testing.assert_allclose(seen.noise_of(alive)[5:], device_noise(one)[5:] / 0.75 / left**2)
    assert seen.weights_of(alive).sum() == pytest.approx(1.0)
