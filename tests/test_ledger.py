"""The ledger: its lines, its totals, and what it says of damaged files."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from pretune.errors import InputError
from pretune.ledger import KEYS, Ledger, RoundRecord, Stage, load_ledger, record_from_json


def _record(stage: Stage, round_: int, **changes: object) -> RoundRecord:
    keys = ("planned_s", "planned_j", "realised_s", "realised_j", "elapsed_s", "elapsed_j")
    figures = dict(zip(keys, (2.0, 3.0, 1.5, 2.5, 0.1, 0.2), strict=True))
    record = RoundRecord(
        stage=stage, round=round_, **figures, loss=1.0 / round_ if round_ else None, gradient_norm_sq=0.5
    )
    return dataclasses.replace(record, **changes)


def _ledger() -> Ledger:
    start = _record(Stage.START, 0, planned_s=0.0, planned_j=0.0, realised_s=0.0, realised_j=0.0, test_loss=2.3)
    pre = [_record(Stage.PRETRAIN, m) for m in (1, 2, 3)]
    pre[-1] = dataclasses.replace(pre[-1], test_loss=1.5, test_accuracy=0.5)
    fine = [_record(Stage.FINETUNE, n) for n in (1, 2)]
    fine[-1] = dataclasses.replace(fine[-1], test_loss=0.5, test_accuracy=0.75)
    return Ledger(records=(start, *pre, *fine))


def test_keys_are_the_documented_ones():
    documented = (
        "stage round planned_s planned_j realised_s realised_j elapsed_s elapsed_j loss gradient_norm_sq test_loss "
        "test_accuracy"
    )
    assert " ".join(KEYS) == documented
    assert list(json.loads(_record(Stage.PRETRAIN, 1).to_json())) == list(KEYS)


def test_file_reads_back_as_the_same(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text(_ledger().to_jsonl())
    assert load_ledger(path) == _ledger()
    assert load_ledger(tmp_path) == _ledger()  # a run's folder will do
    assert load_ledger(path).to_jsonl() == path.read_text()


def test_figures_survive_to_the_bit():
    record = _record(Stage.PRETRAIN, 1, elapsed_s=0.1 + 0.2, loss=math.pi * 1e-300)
    assert record_from_json(record.to_json()) == record


def test_table_adds_up():
    start, pre, fine, total = _ledger().table()
    assert [row.name for row in (start, pre, fine, total)] == ["start", "pretrain", "finetune", "total"]
    assert (start.rounds, pre.rounds, fine.rounds, total.rounds) == (0, 3, 2, 5)
    assert (pre.planned_s, pre.planned_j, pre.realised_s, pre.realised_j) == (6.0, 9.0, 4.5, 7.5)
    assert total.realised_j == pytest.approx(12.5)
    assert (pre.first_loss, pre.last_loss) == (1.0, pytest.approx(1 / 3))
    assert (pre.test_accuracy, fine.test_accuracy, total.test_accuracy) == (0.5, 0.75, 0.75)
    assert (start.first_loss, start.test_loss) == (None, 2.3)


def test_columns_and_evaluations():
    ledger = _ledger()
    np.testing.assert_array_equal(ledger.column("round"), [0, 1, 2, 3, 1, 2])
    assert np.isnan(ledger.column("test_accuracy")).sum() == 4
    assert [record.test_loss for record in ledger.evaluations] == [2.3, 1.5, 0.5]
    assert ledger.rounds(Stage.PRETRAIN) == 3
    with pytest.raises(InputError, match="'colour', should hold one of round, planned_s"):
        ledger.column("colour")


def test_empty_ledger_has_an_empty_table(tmp_path):
    (tmp_path / "ledger.jsonl").write_text("")
    assert [row.rounds for row in load_ledger(tmp_path).table()] == [0, 0, 0, 0]


def test_every_cut_is_noticed(tmp_path):
    """A file cut anywhere but at a line's end is refused, with the number of whole lines."""
    text = _ledger().to_jsonl()
    path = tmp_path / "ledger.jsonl"
    for cut in range(len(text)):
        path.write_text(text[:cut])
        whole = text[:cut].count("\n")
        if cut == 0 or text[cut - 1] == "\n":
            assert len(load_ledger(path)) == whole
        else:
            with pytest.raises(
                InputError, match=rf"line {whole + 1} is cut off; the {whole} lines before it are whole"
            ):
                load_ledger(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "it is not JSON"),
        ("[]", "is not an object"),
        ('{"stage": "start"}', "its keys are not those of a ledger"),
        (_record(Stage.PRETRAIN, 1).to_json().replace('"pretrain"', '"lunch"'), "stage holds 'lunch'"),
        (_record(Stage.PRETRAIN, 1).to_json().replace("2.0", '"2"', 1), "planned_s holds '2', should hold a number"),
        (_record(Stage.PRETRAIN, 1).to_json().replace("2.0", "NaN", 1), "NaN is not a JSON number"),
        (_record(Stage.PRETRAIN, 1).to_json().replace("2.0", "null", 1), "planned_s holds None"),
        (_record(Stage.PRETRAIN, 1).to_json().replace("2.0", "1e999", 1), "planned_s holds inf"),
        (_record(Stage.PRETRAIN, 1).to_json().replace(": 1,", ": 1.5,", 1), "round holds 1.5"),
        (_record(Stage.PRETRAIN, 1).to_json().replace(": 1,", ": true,", 1), "round holds True"),
        ("[" * 100_000, "line 1 is damaged"),
    ],
)
def test_damaged_lines_are_named(tmp_path, line, says):
    (tmp_path / "ledger.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match="line 1") as caught:
        load_ledger(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("places", [[1], [0, 0], [0, 2], [0, 1, 3], [0, 1, 1], [0, 4, 1]])
def test_rounds_must_follow_one_another(tmp_path, places):
    """`places` picks lines out of a whole ledger; each of these choices leaves a hole or turns back."""
    lines = _ledger().to_jsonl().splitlines()
    (tmp_path / "ledger.jsonl").write_text("".join(lines[i] + "\n" for i in places))
    with pytest.raises(InputError, match="does not follow"):
        load_ledger(tmp_path)


def test_a_stage_may_be_missing(tmp_path):
    lines = _ledger().to_jsonl().splitlines()
    (tmp_path / "ledger.jsonl").write_text("".join(lines[i] + "\n" for i in (0, 4, 5)))
    assert load_ledger(tmp_path).rounds(Stage.FINETUNE) == 2


def test_missing_and_unreadable_files(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        load_ledger(tmp_path / "none.jsonl")
    (tmp_path / "ledger.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="can't be read as a ledger"):
        load_ledger(tmp_path)
