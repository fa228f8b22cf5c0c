"""The fit finds a law again from noisy points, and says when it can't."""

from __future__ import annotations

import numpy as np
import pytest

from pretune.convergence.fit import Points, fit
from pretune.convergence.laws import predict
from pretune.errors import InputError

pytest.importorskip("scipy")
TRUE = (0.1, 2.2, 80.0, 1.8, 140.0, 2.0, 0.2, 130.0, 0.9, 0.15, 0.05, 1.2, 4000.0, 600.0)


def points(seed: int, paths: int, noise: float) -> Points:
    """Points of a `transfer` law with log-normal noise."""
    rng = np.random.default_rng(seed)
    stops, b0 = np.exp(rng.uniform(0.0, 7.6, paths)).round(), 2.0 ** rng.integers(1, 7, paths)
    scatter = rng.uniform(0.05, 1.0, paths)
    marks = np.array([0.0, 2.0, 5.0, 12.0, 30.0, 80.0, 200.0])
    columns = {
        "pretrain": np.repeat(stops, len(marks)),
        "finetune": np.tile(marks, paths),
        "server_batch": np.repeat(b0, len(marks)),
        "noise": np.repeat(scatter, len(marks)),
        "path": np.repeat(np.arange(paths), len(marks)),
    }
    told = predict(
        "transfer",
        TRUE,
        np.stack([columns["pretrain"], columns["finetune"], 1.0 / columns["server_batch"], columns["noise"]], axis=1),
    )
    return Points(**columns, value=told * np.exp(noise * rng.standard_normal(len(told))))


def test_a_law_is_found_again_and_its_interval_covers():
    found = fit(points(0, 18, 0.03), draws=4)
    assert found.law.family == "transfer"
    assert found.errors["transfer"] < 0.05 < found.errors["effective"]
    other = points(1, 40, 0.03)
    told = predict("transfer", found.law.values, other.columns)
    assert np.median(np.abs(np.log(told / other.value))) < 0.04
    low, high = found.interval(other.columns)
    assert np.mean((other.value >= low) & (other.value <= high)) >= 0.85
    assert found.law.spread < 0.3
    assert found.draws.shape == (4, len(found.law.values))


def test_one_bad_path_does_not_spoil_it():
    good = points(0, 18, 0.02)
    value = good.value.copy()
    value[good.path == 3] *= 3.0
    spoilt = Points(**{**vars(good), "value": value})
    other = points(1, 40, 0.02)
    found = fit(spoilt, families=("transfer",), draws=0)
    told = predict("transfer", found.law.values, other.columns)
    assert np.median(np.abs(np.log(told / other.value))) < 0.1


def test_the_law_promises_nothing_beyond_twice_the_rounds_seen():
    seen = points(0, 8, 0.02)
    law = fit(seen, families=("product",), draws=0).law
    assert law.values[-2:] == (float(f"{2.0 * seen.pretrain.max():.6g}"), 400.0)


def test_the_same_points_give_the_same_law():
    seen = points(2, 6, 0.02)
    assert fit(seen, families=("product",), draws=0).law == fit(seen, families=("product",), draws=0).law


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda p: p.take(np.arange(10)), "hold 10 points on 2 paths, should hold at least 16 on at least 4"),
        (lambda p: Points(**{**vars(p), "value": np.where(p.path == 1, 0.0, p.value)}), "hold losses from 0 to"),
        (lambda p: Points(**{**vars(p), "value": np.where(p.path == 1, np.nan, p.value)}), "should hold finite ones"),
    ],
)
def test_points_that_will_not_do_are_refused(change, line):
    with pytest.raises(InputError, match=line):
        fit(change(points(0, 6, 0.02)))
