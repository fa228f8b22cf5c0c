"""Intervals: they cover what they claim, and grow when there is little to go by."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from pretune.convergence.constants import EstimateSettings
from pretune.convergence.estimate.distance import Cloud, Distances, class_distances, sides_apart, wasserstein
from pretune.convergence.estimate.interval import interval, signed_interval
from pretune.convergence.estimate.path import Look, path_rng, walk
from pretune.convergence.estimate.repeat import Repetition, conclude
from pretune.convergence.estimate.smoothness import secant
from pretune.convergence.estimate.subject import mean_gradient, subject_of
from pretune.convergence.estimate.variance import effective_rank, single_norms, two_batch_spread, variance


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize("spread", [0.1, 1.0])
def test_intervals_of_a_mean_cover_what_they_claim(count, spread):
    """Log-normal figures, whose median is 1: the interval of the logarithms' mean covers it in 95% of the cases."""
    rng = np.random.default_rng(count)
    hits = 0
    for _ in range(2000):
        low, high = interval(np.exp(spread * rng.normal(size=count)).tolist())
        hits += low <= 1.0 <= high
    assert 0.93 <= hits / 2000 <= 0.995  # a little above where the mean itself had to be taken in
    normal = [signed_interval(rng.normal(size=count).tolist()) for _ in range(2000)]
    assert sum(low <= 0.0 <= high for low, high in normal) / 2000 == pytest.approx(0.95, abs=0.02)


def test_intervals_grow_when_there_is_little_to_go_by():
    few, many = interval([9.0, 11.0]), interval([9.0, 11.0] * 5)
    assert few[0] < many[0] < 10.0 < many[1] < few[1]
    assert interval([9.0, 11.0], one_more=True)[1] > few[1]
    assert interval([5.0, 5.0]) == pytest.approx((5.0, 5.0))
    lucky, floored = interval([5.0, 5.01]), interval([5.0, 5.01], error=0.5)
    assert floored[0] < 3.0 < lucky[0] < lucky[1] < 7.0 < floored[1]
    low, high = interval([0.0, 1.0])  # a figure of zero has no logarithm
    assert low == 0.0
    assert high > 1.0
    assert math.isfinite(interval([1e-300, 1.0])[1])


class Line(nn.Module):
    """Loss ``1/2 |w - x|^2``: a gradient ``w - x`` in 3 dimensions, whose variance is that of the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        return self.w - x


def square(output, _y):
    return 0.5 * output.square().sum(dim=1)


def _data(n: int, seed: int):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, generator=generator, dtype=torch.float64), torch.zeros(n)


def _subject(data, samples: int, seed: int = 0):
    settings = EstimateSettings(
        samples=samples, pretrain_rounds=2, finetune_rounds=2, points=1, single_samples=samples, iterations=3
    )
    rng = path_rng(seed)
    return subject_of(Line(), square, data, [data], np.ones(1), settings, seed, rng), rng


def test_measured_variances_are_covered_by_their_intervals():
    """Sub-samples of 30 of 4000: over 30 calibrations of 4 repetitions the true variance is inside nearly always."""
    data = _data(4000, 1)
    true = float(data[0].var(dim=0, correction=0).sum())
    hits = 0
    for start in range(30):
        repetitions = []
        for seed in range(4):
            subject, rng = _subject(data, 30, seed=100 * start + seed)
            looks = walk(subject, data, [data], (0.1, 0.1), rng)
            nothing = Distances(between=1.0, general=0.5, task=0.5)
            repetitions.append(
                Repetition(looks=tuple(looks), distances=nothing, flops=1.0, upload_bits=1.0, download_bits=1.0)
            )
        found = conclude(repetitions, np.ones(1), EstimateSettings(samples=30), "30 samples")
        one = found.single["pretrain_variance"]
        hits += one.low <= true <= one.high
        assert found.single["shift"].low == 0.0  # the two sides are the same data
        assert any(note.startswith("shift: is not told from zero") for note in found.notes)
    assert 26 <= hits <= 30


def test_two_batch_sizes_give_the_variance_of_single_samples():
    data = _data(400, 2)
    subject, _ = _subject(data, 400)
    mean, _ = mean_gradient(subject, subject.general)
    by_hand = float(data[0].var(dim=0, correction=0).sum())
    mean_sq, error = single_norms(subject, subject.general)
    assert mean_sq - float(mean.square().sum()) == pytest.approx(by_hand, rel=1e-9)
    assert error == pytest.approx(float((subject.general[0].square().sum(dim=1)).std()) / 20.0)
    # unbiased: the mean over many random orders of the same samples
    rng = np.random.default_rng(0)
    found = []
    for _ in range(20):
        order = torch.from_numpy(rng.permutation(400))
        found.append(two_batch_spread(subject, (data[0][order], data[1][order]), mean)[0])
    assert np.mean(found) == pytest.approx(by_hand, rel=0.05)


def test_models_that_can_not_be_taken_apart_use_two_batch_sizes():
    class Opaque(Line):
        def forward(self, x):
            return self.w - torch.tensor(x.tolist(), dtype=torch.float64)  # vmap has no numbers to give

    data = _data(200, 3)
    settings = EstimateSettings(samples=200, single_samples=200)
    subject = subject_of(Opaque(), square, data, [data], np.ones(1), settings, 0, path_rng(0))
    mean, _ = mean_gradient(subject, subject.general)
    with pytest.raises(RuntimeError):
        single_norms(subject, subject.general)
    true = float(data[0].var(dim=0, correction=0).sum())
    value, error = variance(subject, subject.general, mean)
    assert value == pytest.approx(true, rel=0.3)
    assert 0.0 < error < 0.3 * value
    few = subject_of(Opaque(), square, data, [data], np.ones(1), EstimateSettings(samples=40), 0, path_rng(0))
    mean, _ = mean_gradient(few, few.general)
    value, error = variance(few, few.general, mean)
    assert 0.1 * value < error < value


def test_a_path_that_is_taken_up_again_ends_the_same():
    data = _data(50, 4)
    first, rng = _subject(data, 20)
    whole = walk(first, data, [data], (0.1, 0.2), rng)
    assert [look.stage for look in whole] == ["start", "pretrain", "finetune"]
    for known in range(4):
        again, rng = _subject(data, 20)
        seen: list[Look] = []
        read = [Look.from_dict(look.to_dict()) for look in whole[:known]]
        assert walk(again, data, [data], (0.1, 0.2), rng, known=read, seen=seen.append) == whole
        assert seen == whole[known:]


def test_secants_of_a_quadratic_lie_between_its_curvatures():
    curvature = torch.tensor([4.0, 1.0, 0.5])
    a, b = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 0.0, 1.0])
    assert 0.5 <= secant((a, b), (curvature * a, curvature * b)) <= 4.0
    assert secant((a, a), (a, a)) == 0.0


def test_the_distance_knows_shift_and_labels():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    a = Cloud(x=rng.normal(size=(60, 2)) + 10.0 * labels[:, None], y=labels)
    classes = class_distances(a, a)
    assert wasserstein(a, a, classes) == pytest.approx(0.0, abs=1e-6)
    moved = Cloud(x=a.x + np.array([3.0, 4.0]), y=labels)
    assert wasserstein(a, moved, classes) == pytest.approx(5.0)  # a translation costs its length
    between = math.sqrt(float(classes.squares[0, 1]))
    assert between == pytest.approx(10.0 * math.sqrt(2.0), rel=0.1)
    # other labels for the same inputs: each sample changes its label, or goes where its label is
    assert 0.8 * between < wasserstein(a, Cloud(x=a.x, y=1 - labels), classes) <= between + 1e-9
    numbers = Cloud(x=a.x, y=np.zeros((60, 1)))
    assert class_distances(a, numbers) is None
    assert wasserstein(numbers, Cloud(x=a.x, y=np.full((60, 1), 2.0)), None) == pytest.approx(2.0)


def test_equal_sides_are_no_further_apart_than_halves_of_one():
    data, other = _data(300, 5), _data(300, 6)
    found = sides_apart(data, other, 200, np.random.default_rng(0))
    assert found.between == pytest.approx(0.5 * (found.general + found.task), rel=0.2)
    shifted = sides_apart(data, (other[0] + 5.0, other[1]), 200, np.random.default_rng(0))
    assert shifted.between - shifted.general - shifted.task > 5.0


def test_the_effective_rank_counts_the_directions_of_the_error():
    data = _data(4000, 7)
    subject, _ = _subject(data, 4000)
    assert effective_rank(subject, subject.general) == pytest.approx(3.0, rel=0.4)  # three equal directions
    along = data[0] * torch.tensor([1.0, 0.0, 0.0])
    assert effective_rank(subject, (along, data[1])) == pytest.approx(1.0, abs=0.8)
    assert effective_rank(subject, (data[0][:20], data[1][:20])) == 1.0
