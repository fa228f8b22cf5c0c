"""Runs of plans in segments: batches by segment, rounds counted through, killed and resumed across a border."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from runtime_helpers import hand_plan, small_scenario, tiny_task

from pretune.errors import InputError
from pretune.ledger import Ledger, Stage
from pretune.physics import cost
from pretune.plans import FinetuneStage, Plan, PretrainStage
from pretune.report import write_report
from pretune.runtime.run import RunResult, run
from pretune.scenario import Scenario

BATCHES = (8, 16, 24)
LENGTHS = {Stage.PRETRAIN: (6, 7, 7), Stage.FINETUNE: (3, 3, 4)}
RESULTS = ("model.safetensors", "ledger.jsonl", "summary.json")


def segmented() -> tuple[Scenario, Plan]:
    """Three segments each, of 20 and 10 rounds, in which the batches grow."""
    scenario = small_scenario().replace(schedule=3)
    plans = [
        hand_plan(scenario, rounds=(m, n), pretrain_batch=batch, batch=(batch, batch, 2 * j + 1, j + 1))
        for j, (m, n, batch) in enumerate(zip(LENGTHS[Stage.PRETRAIN], LENGTHS[Stage.FINETUNE], BATCHES, strict=True))
    ]
    changes = {
        "pretrain": PretrainStage.of([part.pretrain for part in plans]),
        "finetune": FinetuneStage.of([part.finetune for part in plans]),
        "energy_j": sum(part.energy_j for part in plans),
        "delay_s": sum(part.delay_s for part in plans),
    }
    return scenario, hand_plan(scenario, **changes)


def started(out: Path, stop: int | None = None) -> RunResult:
    scenario, plan = segmented()
    rounds = itertools.count(1)

    def progress(record) -> None:
        if record.stage is not Stage.START and next(rounds) == stop:
            raise KeyboardInterrupt

    return run(plan, scenario, out=out, task=tiny_task(), checkpoint_every=4, checkpoint_s=1e9, progress=progress)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> RunResult:
    return started(tmp_path_factory.mktemp("whole") / "run")


def of(ledger: Ledger, stage: Stage) -> list[list[float]]:
    """Planned seconds, planned joules and realised joules, by round."""
    part = ledger.of(stage)
    return [part.column(key).tolist() for key in ("planned_s", "planned_j", "realised_j")]


def test_the_ledger_books_every_segment_and_counts_through(whole: RunResult) -> None:
    scenario, plan = segmented()
    for stage, total in ((Stage.PRETRAIN, 20), (Stage.FINETUNE, 10)):
        assert [record.round for record in whole.ledger.of(stage)] == list(range(1, total + 1))
    seconds, planned, realised = of(whole.ledger, Stage.PRETRAIN)
    costs = [cost.pretrain_round(scenario, part.batch, part.clock_hz) for part in plan.pretrain.parts]
    expected = np.repeat([one.energy_j for one in costs], LENGTHS[Stage.PRETRAIN])
    assert planned == realised == expected.tolist()
    assert seconds == np.repeat([one.time_s for one in costs], LENGTHS[Stage.PRETRAIN]).tolist()
    seconds, planned, realised = of(whole.ledger, Stage.FINETUNE)
    costs = [
        cost.finetune_round(scenario, part.batch.astype(float), part.clock_hz, part.power_w)
        for part in plan.finetune.parts
    ]
    expected = np.repeat([one.energy_j for one in costs], LENGTHS[Stage.FINETUNE])
    assert planned == realised == expected.tolist()
    assert seconds == np.repeat([part.round_s for part in plan.finetune.parts], LENGTHS[Stage.FINETUNE]).tolist()


def test_the_summary_adds_up(whole: RunResult) -> None:
    summary, (_, plan) = whole.summary, segmented()
    assert summary["rounds"] == {"pretrain": 20, "finetune": 10}
    assert summary["planned"]["energy_j"] == pytest.approx(plan.energy_j, rel=1e-12)
    for stage in summary["stages"].values():
        for unit in ("time_s", "energy_j"):
            assert sum(cause[unit] for cause in stage["causes"].values()) == pytest.approx(stage["realised"][unit])


def test_a_segment_computes_its_own_batch(whole: RunResult) -> None:
    """A run whose segments all have one batch is the run of the constant plan; other batches give another model."""
    assert whole.test_loss > 0.0
    scenario, plan = segmented()
    same = [
        hand_plan(scenario, rounds=(m, n))
        for m, n in zip(LENGTHS[Stage.PRETRAIN], LENGTHS[Stage.FINETUNE], strict=True)
    ]
    flat = {
        "pretrain": PretrainStage.of([part.pretrain for part in same]),
        "finetune": FinetuneStage.of([part.finetune for part in same]),
    }
    one = run(hand_plan(scenario, **flat), scenario, out=whole.out.parent / "flat", task=tiny_task())
    constant = small_scenario()
    other = run(hand_plan(constant), constant, out=whole.out.parent / "constant", task=tiny_task())
    for mine, theirs in zip(one.model.state_dict().values(), other.model.state_dict().values(), strict=True):
        assert mine.equal(theirs)
    assert one.ledger == other.ledger
    assert any(
        not mine.equal(theirs)
        for mine, theirs in zip(whole.model.state_dict().values(), one.model.state_dict().values(), strict=True)
    )
    assert plan.pretrain.segments[0].batch < plan.pretrain.segments[-1].batch


@pytest.mark.parametrize("stop", [5, 6, 7, 13, 14, 20, 21, 23, 24, 29])
def test_resumed_on_either_side_of_a_border(tmp_path, whole: RunResult, stop: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        started(tmp_path / "run", stop)
    started(tmp_path / "run")
    for name in RESULTS:
        assert (tmp_path / "run" / name).read_bytes() == (whole.out / name).read_bytes(), name


def test_a_batch_above_the_data_names_the_segment(tmp_path) -> None:
    scenario, plan = segmented()
    big = hand_plan(scenario, rounds=(6, 3), pretrain_batch=601)
    parts = [*plan.pretrain.segments[:1], big.pretrain]
    changed = hand_plan(scenario, pretrain=PretrainStage.of(parts), finetune=plan.finetune)
    with pytest.raises(InputError, match=r"plan\.pretrain\.segments\[1\]\.batch: holds 601"):
        run(changed, scenario, out=tmp_path / "run", task=tiny_task())


def test_the_report_has_a_line_for_each_segment(whole: RunResult) -> None:
    page = write_report(whole.out).read_text(encoding="utf-8")
    for name in ("Pre-training 1/3", "Pre-training 3/3", "Fine-tuning 2/3"):
        assert name in page
    assert "One round of the last segment takes" in page
    assert "Every round took exactly" not in page  # the plan by hand has slack in its fine-tuning rounds
