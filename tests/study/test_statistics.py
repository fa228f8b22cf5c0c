"""The study's statistics against known values, and against SciPy where it has the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats", reason="needs the extra train")

from pretune.study.statistics import bootstrap, holm, mean_interval, paired, signed_rank_p  # noqa: E402


def test_the_interval_of_a_textbook_sample():
    # t_{0.975, 4} = 2.7764451; mean 3, s = sqrt(2.5)
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    assert found.high - 3.0 == pytest.approx(2.7764451 * math.sqrt(2.5 / 5.0), rel=1e-7)
    assert found.half == pytest.approx(3.0 - found.low)
    assert found.count == 5


def test_intervals_of_few_values():
    assert math.isnan(mean_interval([]).mean)
    one = mean_interval([2.0, math.nan])
    assert (one.mean, one.count) == (2.0, 1)
    assert math.isnan(one.low)
    assert mean_interval([2.0, 2.0]).half == 0.0


def test_paired_tests_are_those_of_scipy():
    generator = np.random.default_rng(3)
    for count in (2, 5, 10, 25):
        ours, theirs = generator.normal(0.3, 1.0, count), generator.normal(0.0, 1.0, count)
        found = paired(ours, theirs)
        assert found.t_p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue, rel=1e-9)
        assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(ours, theirs, mode="exact").pvalue, rel=1e-9)


def test_five_seeds_can_not_be_significant_by_ranks():
    assert signed_rank_p([1.0, 2.0, 3.0, 4.0, 5.0]) == 0.0625
    assert signed_rank_p([-1.0, -2.0, -3.0, -4.0, -5.0]) == 0.0625
    assert signed_rank_p(range(1, 11)) == pytest.approx(2.0 / 1024.0)


def test_ties_and_zeros_are_exact():
    """By counting all signs."""
    values = np.array([0.0, 1.0, 1.0, -1.0, 2.0, 2.0, 3.5])
    held = values[values != 0.0]
    ranks = stats.rankdata(np.abs(held))
    signs = np.array(np.meshgrid(*[[0.0, 1.0]] * held.size)).reshape(held.size, -1)
    sums = ranks @ signs
    seen = ranks[held > 0.0].sum()
    smaller = min(seen, ranks.sum() - seen)
    assert signed_rank_p(values) == pytest.approx(min(1.0, 2.0 * np.mean(sums <= smaller)))
    assert signed_rank_p([0.0, 0.0]) == 1.0


def test_equal_differences_are_no_proof_by_t():
    assert paired([1.0] * 5, [0.0] * 5).t_p == 0.0625
    assert paired([1.0] * 5, [1.0] * 5).t_p == 1.0
    assert math.isnan(paired([1.0], [0.0]).t_p)


def test_a_missing_pair_is_left_out():
    found = paired([1.0, 2.0, math.nan, 4.0], [0.0, 1.5, 7.0, math.nan])
    assert found.difference.count == 2
    assert found.difference.mean == 0.75


def test_holm_of_an_example():
    # 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 raised to the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    corrected = holm([0.5, math.nan, 0.9])
    assert corrected[0] == 1.0
    assert math.isnan(corrected[1])
    assert holm([]) == []


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    generator = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        sample = generator.normal(0.0, 1.0, 40)
        low, high = bootstrap(lambda drawn, sample=sample: float(sample[drawn].mean()), 40, draws=300, seed=trial)
        hits += low <= 0.0 <= high
    assert 180 <= hits <= 200
    assert bootstrap(lambda drawn: math.inf if 0 in drawn else 1.0, 3, draws=200)[1] == math.inf
