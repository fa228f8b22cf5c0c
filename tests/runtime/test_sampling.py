"""Sampling: a function of seed, stage and round; uniform; and divisible among devices."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.ledger import Stage
from pretune.runtime.sampling import draw, draw_one, uniforms


def test_same_arguments_same_draws_others_differ():
    base = uniforms(1, Stage.PRETRAIN, 1, 0, 50)
    np.testing.assert_array_equal(base, uniforms(1, Stage.PRETRAIN, 1, 0, 50))
    for other in ((2, Stage.PRETRAIN, 1), (1, Stage.FINETUNE, 1), (1, Stage.PRETRAIN, 2)):
        assert not np.isin(uniforms(*other, 0, 50), base).any()


def test_large_seeds_are_told_apart():
    draws = [uniforms(seed, Stage.PRETRAIN, 1, 0, 4)[0] for seed in (0, 2**53, 2**53 + 1, 2**62, 2**63 - 1)]
    assert len(set(draws)) == len(draws)


def test_figures_of_the_stream_are_pinned():
    """A change here changes every run: old checkpoints would go on with other samples."""
    assert uniforms(0, Stage.PRETRAIN, 1, 0, 2).tolist() == pytest.approx(PINNED[0], abs=0)
    assert uniforms(7, Stage.FINETUNE, 3, 5, 2).tolist() == pytest.approx(PINNED[1], abs=0)


PINNED = ([0.1360783448500149, 0.1521586574569137], [0.24707466013359014, 0.8194068767008752])


@given(first=st.integers(0, 300), count=st.integers(0, 50))
def test_any_slice_can_be_jumped_to(first, count):
    whole = uniforms(4, Stage.FINETUNE, 9, 0, 400)
    np.testing.assert_array_equal(uniforms(4, Stage.FINETUNE, 9, first, count), whole[first : first + count])


def test_a_lone_device_draws_what_the_simulation_draws_for_it():
    sizes, batch = np.array([5, 100, 17, 64]), np.array([3, 10, 1, 7])
    offsets = np.cumsum(sizes) - sizes
    together = draw(3, Stage.FINETUNE, 8, np.repeat(sizes, batch), np.repeat(offsets, batch))
    firsts = np.cumsum(batch) - batch
    alone = [
        offsets[k] + draw_one(3, Stage.FINETUNE, 8, first=int(firsts[k]), batch=int(batch[k]), size=int(sizes[k]))
        for k in range(4)
    ]
    np.testing.assert_array_equal(together, np.concatenate(alone))
    assert (together >= np.repeat(offsets, batch)).all()
    assert (together < np.repeat(offsets + sizes, batch)).all()


def test_draws_are_uniform_with_replacement():
    n, rounds, batch = 20, 500, 40
    counts = np.zeros(n)
    repeats = 0
    for round_ in range(1, rounds + 1):
        drawn = draw_one(0, Stage.PRETRAIN, round_, first=0, batch=batch, size=n)
        repeats += batch - len(np.unique(drawn))
        counts += np.bincount(drawn, minlength=n)
    expected = rounds * batch / n
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    assert chi2 < 43.8  # the 99.9% point of chi-square with 19 degrees of freedom
    # with replacement, 40 draws of 20 leave 20 (19/20)^40 = 2.57 unseen: 22.57 repeats a round
    assert repeats / rounds == pytest.approx(22.57, abs=0.3)


def test_one_sample_is_always_that_one():
    assert draw_one(0, Stage.PRETRAIN, 1, first=0, batch=5, size=1).tolist() == [0] * 5
