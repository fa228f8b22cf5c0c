"""Devices that fail, come late or lie: the round completes, and the one who is to blame is named."""

from __future__ import annotations

import math
import threading
import time

import pytest
import torch
from runtime_helpers import hand_plan, relu_task, small_scenario, tiny_task

pytest.importorskip("grpc", reason="needs the extra `flower`")

from federated_helpers import Fleet

from pretune.errors import PlanMismatch, RunFailed
from pretune.fieldbook import Standing, load_fieldbook
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.frames import Frame, pack_tensors, unpack_tensors
from pretune.runtime.federated.loopback import Loopback
from pretune.runtime.federated.messages import weights_of
from pretune.runtime.federated.stream import Refused, Ticket, follow
from pretune.runtime.run import run


@pytest.fixture
def fleet(tmp_path) -> Fleet:
    return Fleet.of(tmp_path / "keys")


def _answer(engine: Engine, frame: Frame, run_: str, **changes) -> Frame:
    good = engine.answer(frame, run_, time.monotonic())
    return Frame(kind="update", values={**good.values, **changes}, body=good.body)


def _altered(change):
    """An honest answer with its tensors changed."""

    def lie(engine, frame, run_):
        good = engine.answer(frame, run_, time.monotonic())
        tensors = change(unpack_tensors(good.body, weights_of(engine.model)))
        return [Frame(kind="update", values=good.values, body=pack_tensors(tensors)).pack()]

    return lie


LIES = {
    "garbage": (lambda *_: [b"\x80\x04pickle?"], "no frame"),
    "cut off": (lambda e, f, r: [_answer(e, f, r).pack()[:-50]], "no whole tensors"),
    "too long": (lambda e, f, r: [_answer(e, f, r).pack() + bytes(600_000)], "no frame"),
    "wrong shape": (_altered(lambda t: {**t, "0": torch.zeros(2, 2)}), "shape"),
    "wrong kind of numbers": (_altered(lambda t: {k: v.double() for k, v in t.items()}), "float64"),
    "a tensor missing": (_altered(lambda t: {k: v for k, v in t.items() if k != "1"}), "other tensors"),
    "NaN": (_altered(lambda t: {**t, "0": t["0"] * math.nan}), "not finite"),
    "infinite": (_altered(lambda t: {**t, "0": t["0"] / 0.0}), "not finite"),
    "loss is no number": (lambda e, f, r: [_answer(e, f, r, loss="low").pack()], "loss"),
    "a round to come": (lambda e, f, r: [_answer(e, f, r, round=99).pack()], "not begun"),
    "another message": (lambda e, f, r: [Frame(kind="model", values={"round": 1}).pack()], "should be an update"),
    "an answer twice": (lambda e, f, r: [_answer(e, f, r).pack()] * 2, "nobody asked for"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_answer_that_can_t_be_used_is_refused_by_name_and_the_round_completes(fleet, tmp_path, name):
    lie, why = LIES[name]
    honest = [fleet.honest(k) for k in ("d0", "d1", "d2")]
    result = fleet.run(tmp_path / "run", *honest, fleet.rogue("d3", lie))
    assert len(result.ledger) == 7
    refused = fleet.events.of("rejected")
    assert refused
    assert {event.device for event in refused} == {"d3"}
    assert why in refused[0].why
    # the others are in every round; after three refusals the liar is in none
    assert [event.device for event in fleet.events.of("expelled")] == ["d3"]
    for line in load_fieldbook(tmp_path / "run"):
        assert {"d0", "d1", "d2"} <= set(line.answered)
    assert result.model is not None
    assert all(bool(p.isfinite().all()) for p in result.model.parameters())


def test_without_the_liar_it_is_the_mean_of_the_others(fleet, tmp_path):
    """Refused answers leave no trace in the model: the weights of the others are made to add up to one."""
    honest = [fleet.honest(k) for k in ("d0", "d1", "d2")]
    result = fleet.run(tmp_path / "run", *honest, fleet.rogue("d3", LIES["NaN"][0]), rounds=1)
    model, task = tiny_task().build(0).train(), tiny_task()
    scenario = small_scenario()
    plan = hand_plan(scenario, rounds=(0, 1))
    from pretune.runtime.job import make_job

    crew = make_job(plan, scenario, task, seed=0, evaluate_every=None).stages[0].crew
    members = crew.workers()[:3]
    shares = [m.share / sum(other.share for other in members) for m in members]
    parts = [m.gradient(model, task.loss, 0, 1).parts for m in members]
    for i, (name, tensor) in enumerate(model.named_parameters()):
        expected = tensor - 0.05 * sum(share * part[i] for share, part in zip(shares, parts, strict=True))
        torch.testing.assert_close(dict(result.model.named_parameters())[name], expected, rtol=1e-5, atol=1e-6)
    record = result.ledger.records[1]
    assert record.realised_j < record.planned_j  # what d3 may have spent is not known, and not charged
    assert result.summary["stages"]["finetune"]["causes"]["upload"]["energy_j"] < record.realised_j


def test_a_wrong_key_is_refused_and_named(fleet, tmp_path):
    def with_a_wrong_key() -> None:
        fleet._follow(fleet.engine("d3"), fleet.door("d3", key_of="d2"))

    patience = Patience(factor=1.0, floor_s=0.5, start_s=1.0, stalled_s=20.0)
    honest = [fleet.honest(k) for k in ("d0", "d1", "d2")]
    result = fleet.run(tmp_path / "run", *honest, with_a_wrong_key, patience=patience)
    assert len(result.ledger) == 7
    assert isinstance(fleet.errors["d3"], Refused)
    assert [(e.device, "enrolled key" in e.why) for e in fleet.events.of("refused")] == [("d3", True)]


def test_tokens_open_one_door_once(fleet, tmp_path):
    """A token used twice, one of another device, an expired one and a made-up one are all refused."""
    said = {}

    def attempts() -> None:
        fleet.present(3)
        tokens, run_ = fleet.opened.tokens, fleet.opened.tokens.run
        used = tokens.issue("d3")
        assert tokens.problem("d3", used) is None
        old, tokens.lifetime_s = tokens.lifetime_s, -1.0
        expired = tokens.issue("d3")
        tokens.lifetime_s = old
        for what, token in {
            "replayed": used,
            "another's": tokens.issue("d2"),
            "expired": expired,
            "made up": "9999999999.0:abc:def",
        }.items():
            with pytest.raises(Refused) as found:
                follow(fleet.engine("d3"), fleet.door("d3"), Ticket(token=token, run=run_))
            said[what] = str(found.value)
        fleet.honest("d3")()

    fleet.run(tmp_path / "run", *[fleet.honest(k) for k in ("d0", "d1", "d2")], attempts)
    assert "used before" in said["replayed"]
    assert "expired" in said["expired"]
    assert "not one of this run for this device" in said["another's"]
    assert "not one of this run for this device" in said["made up"]
    assert [event.device for event in fleet.events.of("refused")] == ["d3"] * 4
    assert {event.device for event in fleet.events.of("joined")} == {"d0", "d1", "d2", "d3"}


class Slow(Engine):
    """Answers the second round only when it is told to."""

    go = threading.Event()

    def answer(self, frame, run_, received_at):
        if frame.whole("round") == 2:
            Slow.go.wait(20)
        return super().answer(frame, run_, received_at)


def test_a_slow_device_is_not_waited_for_beyond_the_deadline_and_takes_part_again(fleet, tmp_path):
    Slow.go.clear()

    def progress(record) -> None:
        if record.round == 4:
            Slow.go.set()  # its answer of round 2 comes in round 5 or later
        if record.round >= 4:
            time.sleep(0.05)

    honest = [fleet.honest(k) for k in ("d0", "d1", "d2")]
    fleet.run(tmp_path / "run", *honest, fleet.honest("d3", Slow), rounds=20, progress=progress)
    standing = [line.devices[3].standing for line in load_fieldbook(tmp_path / "run")]
    assert standing[:4] == [Standing.OK, Standing.LATE, Standing.BEHIND, Standing.BEHIND]
    assert Standing.OK in standing[4:]
    assert [(event.device, event.round) for event in fleet.events.of("late")] == [("d3", 2)]
    assert ["round 2" in event.why for event in fleet.events.of("discarded")] == [True]


def test_a_late_joiner_takes_part_from_then_on(fleet, tmp_path):
    def progress(record) -> None:
        if record.round == 2:
            fleet.start(fleet.honest("d3"))
            fleet.present(4)

    patience = Patience(factor=1.0, floor_s=5.0, start_s=0.0, stalled_s=20.0, fewest=3)
    fleet.run(tmp_path / "run", *[fleet.honest(k) for k in ("d0", "d1", "d2")], progress=progress, patience=patience)
    standing = [line.devices[3].standing for line in load_fieldbook(tmp_path / "run")]
    assert standing == [Standing.ABSENT] * 2 + [Standing.OK] * 4


def test_a_device_that_comes_again_replaces_its_old_stream(fleet, tmp_path):
    def progress(record) -> None:
        if record.round == 2:
            fleet.start(fleet.honest("d3"))
            until = time.monotonic() + 20
            while len([e for e in fleet.events.of("joined") if e.device == "d3"]) < 2 and time.monotonic() < until:
                time.sleep(0.005)

    result = fleet.run(tmp_path / "run", *[fleet.honest(k) for k in ("d0", "d1", "d2", "d3")], progress=progress)
    assert len(result.ledger) == 7
    assert all(line.answered == ("d0", "d1", "d2", "d3") for line in load_fieldbook(tmp_path / "run"))


def test_when_nobody_answers_for_too_long_the_run_stops_and_goes_on_later(fleet, tmp_path):
    patience = Patience(factor=1.0, floor_s=0.05, start_s=0.05, stalled_s=0.2)
    with pytest.raises(RunFailed, match="0 devices answered"):
        fleet.run(tmp_path / "run", patience=patience)
    plan, scenario = hand_plan(small_scenario(), rounds=(0, 6)), small_scenario()
    assert len(run(plan, scenario, out=tmp_path / "run", task=tiny_task(), backend=Loopback()).ledger) == 7


def test_a_model_that_diverges_is_told_as_such_not_blamed_on_the_devices(fleet, tmp_path):
    scenario = small_scenario(
        convergence={
            "smoothness": 1e-12,
            "initial_gap": 2.3,
            "shift": 1.0,
            "pretrain_step": 0.1,
            "finetune_step": 1e12,
            "pretrain_variance": 20.0,
            "finetune_variance": 20.0,
        }
    )
    with pytest.raises(RunFailed, match="diverged"):
        run(hand_plan(scenario), scenario, out=tmp_path / "run", task=relu_task(), backend=Loopback())


def test_another_scenario_is_refused_at_both_ends(fleet, tmp_path):
    def stranger() -> None:
        engine = fleet.engine("d3")
        engine.scenario_sha256 = "0" * 64
        fleet._follow(engine, fleet.door("d3"))

    patience = Patience(factor=1.0, floor_s=0.5, start_s=1.0, stalled_s=20.0)
    fleet.run(tmp_path / "run", *[fleet.honest(k) for k in ("d0", "d1", "d2")], stranger, patience=patience)
    assert isinstance(fleet.errors["d3"], Refused)
    assert ["another scenario" in event.why for event in fleet.events.of("refused")] == [True]
    other = small_scenario(name="another")
    with pytest.raises(PlanMismatch):
        run(hand_plan(small_scenario()), other, out=tmp_path / "other", task=tiny_task(), backend=fleet.streams())


def test_the_wrong_authority_is_no_server(fleet, tmp_path, monkeypatch):
    """A device does not speak to a server whose certificate its own authority has not signed."""
    monkeypatch.setattr("pretune.runtime.federated.stream.CONNECT_S", 0.5)
    stranger = Fleet.of(tmp_path / "others")

    def deceived() -> None:
        stranger.opened = fleet.opened
        stranger._follow(stranger.engine("d3"), stranger.door("d3"))

    patience = Patience(factor=1.0, floor_s=0.5, start_s=1.0, stalled_s=20.0)
    fleet.run(tmp_path / "run", *[fleet.honest(k) for k in ("d0", "d1", "d2")], deceived, patience=patience)
    assert "no server" in str(stranger.errors["d3"])
    assert not [event for event in fleet.events.of("joined") if event.device == "d3"]
