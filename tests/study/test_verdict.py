"""Verdicts from rows whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra train")

from pretune.errors import InputError
from pretune.study.statistics import holm, paired
from pretune.study.tables import Table
from pretune.study.verdict import Verdict, comparisons, needed_for, savings, table_of, targets
from pretune.study.verdict_words import verdict_words

NOISE = np.random.default_rng(1).normal(0.0, 0.004, (3, 8))


def rows_of(task, regime, means, *, budget=(1.0, 1.0), seeds=8, split=None):
    for j, (method, mean) in enumerate(means.items()):
        for seed in range(seeds):
            accuracy = None if mean is None else mean + float(NOISE[j % 3, seed % 8])
            row = {"task": task, "regime": regime, "method": method, "seed": seed, "accuracy": accuracy}
            yield {**row, "energy_j": budget[0], "delay_s": budget[1], **({} if split is None else {"split": split})}


def some():
    return Table(
        [
            *rows_of("a", "tight", {"joint": 0.80, "finetune-only": 0.75, "equal-split": 0.70, "pretrain-only": None}),
            *rows_of("a", "ample", {"joint": 0.90, "finetune-only": 0.93, "equal-split": 0.90}, budget=(2.0, 1.0)),
        ]
    )


def test_wins_ties_and_losses():
    found = comparisons(some())
    named = {(one.regime, one.baseline): one for one in found}
    assert {key: one.verdict for key, one in named.items()} == {
        ("tight", "finetune-only"): Verdict.WIN,
        ("tight", "equal-split"): Verdict.WIN,
        ("tight", "pretrain-only"): Verdict.NO_PLAN,
        ("ample", "finetune-only"): Verdict.LOSS,
        ("ample", "equal-split"): Verdict.TIE,
    }
    assert {key for key, one in named.items() if one.best} == {("tight", "finetune-only"), ("ample", "finetune-only")}
    ours, theirs = 0.80 + NOISE[0], 0.75 + NOISE[1]
    one = named["tight", "finetune-only"]
    assert one.paired.t_p == pytest.approx(paired(ours, theirs).t_p, rel=1e-6)
    known = [c.paired.t_p for c in found if not math.isnan(c.paired.t_p)]
    assert [c.corrected_p for c in found if not math.isnan(c.corrected_p)] == pytest.approx(holm(known))
    assert table_of(found).where(regime="tight", baseline="pretrain-only").rows[0]["difference"] is None


def test_targets_say_what_is_missed_and_where():
    first, second = targets(comparisons(some()))
    assert first.met
    assert "a +" in first.why
    assert not second.met
    assert "a, ample: finetune-only -" in second.why
    assert not targets(comparisons(some().where(regime="ample")))[0].met
    assert targets([]) == []


def test_tuning_seeds_choose_and_are_not_tested_on():
    """The baseline that looks best on the tuning seeds is the one, though another is better on the others."""
    tune = rows_of("a", "tight", {"joint": 0.1, "fixed-batch": 0.9, "fixed-clock": 0.5}, seeds=3, split="tune")
    test = rows_of("a", "tight", {"joint": 0.8, "fixed-batch": 0.6, "fixed-clock": 0.7}, seeds=5, split="test")
    rows = [*tune, *({**row, "seed": row["seed"] + 100} for row in test)]
    found = comparisons(Table(rows))
    (best,) = [one for one in found if one.best]
    assert best.baseline == "fixed-batch"
    assert best.paired.difference.count == 5
    assert best.ours.mean == pytest.approx(0.8 + NOISE[0, :5].mean())


def test_what_a_budget_saves():
    assert needed_for(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.4]), 0.2) == 2.0
    assert needed_for(np.array([1.0, 2.0, 4.0]), np.array([0.1, 0.2, 0.4]), 0.3) == pytest.approx(2.0 * math.sqrt(2.0))
    assert needed_for(np.array([1.0, 2.0]), np.array([0.1, 0.2]), 0.3) == math.inf
    assert needed_for(np.array([1.0, 2.0]), np.array([math.nan, 0.2]), 0.15) == 2.0
    curve = {1.0: (0.5, 0.3), 2.0: (0.6, 0.45), 4.0: (0.7, 0.55), 8.0: (0.7, 0.9)}
    rows = [
        row
        for budget, (joint, other) in curve.items()
        for row in rows_of("a", f"E{budget:g}", {"joint": joint, "fixed-clock": other}, budget=(budget, 1.0))
    ]
    found = savings(Table(rows), draws=200)
    named = {one.regime: one for one in found}
    assert set(named) == {"E1", "E2", "E4", "E8"}
    assert named["E1"].at_least
    assert named["E1"].saved == 0.0
    assert named["E2"].saved == 1.0
    level = 0.55 + NOISE[1].mean() - NOISE[0].mean()
    assert named["E4"].needed == pytest.approx(2.0 ** ((level - 0.5) / 0.1), rel=1e-6)
    assert named["E4"].low <= named["E4"].saved <= named["E4"].high
    assert math.isinf(named["E8"].needed)
    text = verdict_words(comparisons(Table(rows)), found, chosen_apart=False)
    assert "not reached" in text
    assert "at least" in text


def test_rows_that_are_refused():
    rows = list(some())
    with pytest.raises(InputError, match=r"verdict rows: holds .*, should hold the column delay_s"):
        comparisons(Table({key: row[key] for key in row if key != "delay_s"} for row in rows))
    with pytest.raises(InputError, match=r"verdict rows: a, tight: energy_j: holds .*one budget"):
        comparisons(Table([*rows, {**rows[0], "seed": 99, "energy_j": 5.0}]))
    with pytest.raises(InputError, match="seed 0 twice"):
        comparisons(Table([*rows, rows[0]]))
