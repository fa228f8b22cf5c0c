"""Variances estimated from the run's own gradients: unbiased, with intervals that hold, without chatter."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import control_samples as samples
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pretune.control.noise import LEAST, Look, Memory, Noise, devices_seen, server_seen, why_not
from pretune.control.rules import Control, Replan, Rules, ServerMove, Stop
from pretune.control.steering import Steering
from pretune.convergence.criteria import criterion_of
from pretune.convergence.progress import Progress
from pretune.ledger import Stage
from pretune.runtime import halves
from pretune.runtime.local import Crew
from pretune.runtime.replan import Replanner
from pretune.runtime.task import Samples

AUTO = Rules(control=Control.ROUNDS, replan=Replan.AUTO)
SIZES, BATCH = np.array([2, 3, 2]), np.array([3, 2, 1])
LAW = {
    "family": "decay", "floor": 0.1, "scale": 2.0, "finetune_rounds": 9.0, "pretrain_rounds": 9.0, "shift_share": 0.5,
    "pretrain_noise": 0.1, "finetune_noise": 0.1, "noise_power": 0.0, "pretrain_most": 99.0, "finetune_most": 99.0,
}  # fmt: skip


def squares(output: Tensor, target: Tensor) -> Tensor:
    return (output[:, 0] - target) ** 2


def quadratic(shares: list[float]) -> tuple[Crew, nn.Module, np.ndarray]:
    """Three devices' least squares, and the exact variance of one sample's gradient at each."""
    rng = torch.Generator().manual_seed(3)
    count = int(SIZES.sum())
    data = Samples(
        x=torch.randn(count, 2, generator=rng, dtype=torch.float64),
        y=torch.randn(count, generator=rng, dtype=torch.float64),
    )
    model = nn.Linear(2, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[0.3, -0.7]]))
        each = 2.0 * (model(data.x)[:, 0] - data.y)[:, None] * data.x
    ends = np.cumsum(SIZES)
    spreads = np.array(
        [float(((g := each[b - n : b]) - g.mean(dim=0)).square().sum()) / n for b, n in zip(ends, SIZES, strict=True)]
    )
    return Crew.of(Stage.FINETUNE, data, SIZES, BATCH, np.array(shares)), model, spreads


@pytest.mark.parametrize("shares", [[0.5, 0.3, 0.2], [0.5 / 0.8, 0.3 / 0.5, 0.2 / 0.9]])
def test_the_halves_are_unbiased_over_all_draws_there_are(shares: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every draw with replacement, each as likely as the others; weighted for who is missing or not."""
    crew, model, spreads = quadratic(shares)
    stated = spreads / np.array([2.0, 5.0, 9.0])
    per_draw = [range(int(a), int(a + n)) for a, n in zip(crew.offset_column, crew.size_column, strict=True)]
    looks, wholes = [], []
    for rows in itertools.product(*per_draw):
        monkeypatch.setattr(halves, "draw", lambda *_, rows=rows: np.array(rows))
        gradient, look = halves.halved_gradient(crew, model, squares, 0, 1, stated)
        assert look is not None
        looks.append(look)
        wholes.append(gradient.parts[0].numpy().copy())
    assert len(looks) == 2**3 * 3**2 * 2
    weights = 2.0 * (BATCH // 2) * (np.array(shares) / BATCH) ** 2
    assert np.mean([look.difference_sq for look in looks]) == pytest.approx((weights * spreads).sum(), rel=1e-12)
    mean = (weights * spreads).sum() / (weights * stated).sum()
    assert np.mean([look.ratio for look in looks]) == pytest.approx(mean, rel=1e-12)
    assert weights[2] == 0.0  # a batch of one tells nothing
    exact = crew.gradient(model, squares, 0, 1).parts[0] * 0.0
    ends = np.cumsum(SIZES)
    for b, n, share in zip(ends, SIZES, shares, strict=True):
        x, y = crew.data.x[b - n : b], crew.data.y[b - n : b]
        exact += share * (2.0 * (model(x)[:, 0] - y)[:, None] * x).mean(dim=0).detach()
    np.testing.assert_allclose(np.mean(wholes, axis=0), exact.numpy(), rtol=1e-12)


def test_the_halves_are_the_round_s_gradient() -> None:
    crew, model, spreads = quadratic([0.5, 0.3, 0.2])
    for round_ in range(1, 5):
        whole = crew.gradient(model, squares, 7, round_)
        found, _ = halves.halved_gradient(crew, model, squares, 7, round_, spreads)
        torch.testing.assert_close(found.parts[0], whole.parts[0], rtol=1e-12, atol=0.0)
        assert found.loss == pytest.approx(whole.loss, rel=1e-12)
        assert found.norm_sq == pytest.approx(whole.norm_sq, rel=1e-12)


def test_where_there_is_nothing_to_tell_there_is_no_look() -> None:
    crew, model, spreads = quadratic([0.5, 0.3, 0.2])
    singles = Crew.of(crew.stage, crew.data, SIZES, np.ones(3, dtype=np.int64), crew.shares)
    assert halves.halved_gradient(singles, model, squares, 0, 1, spreads)[1] is None
    assert halves.halved_gradient(crew, model, squares, 0, 1, np.zeros(3))[1] is None
    assert halves.halves_of(np.array([1, 2, 5, 3])).tolist() == [2, 0, 1, 0, 0, 1, 1, 2, 0, 1, 2]


def test_the_mean_is_unbiased_and_nine_and_a_half_intervals_in_ten_hold() -> None:
    """Gamma looks, as spread and as skew as the digits' are, at the least number of them and at many."""
    rng = np.random.default_rng(0)
    for count, least in ((LEAST, 0.90), (100, 0.92)):
        held, means = 0, []
        for _ in range(1500):
            memory = Memory()
            for x in rng.gamma(5.0, 0.4, count):
                memory = memory.seen(float(x))
            found = memory.interval
            assert found is not None
            held += found.low <= 2.0 <= found.high
            means.append(found.ratio)
        assert np.mean(means) == pytest.approx(2.0, abs=4 * np.std(means) / math.sqrt(1500))
        assert least <= held / 1500 <= 0.97
    assert Memory(count=LEAST - 1).interval is None


def fed(noise: Noise, ratios: Any) -> tuple[Noise, list[str]]:
    """The words of all changes on the way."""
    words = []
    for ratio in ratios:
        noise, why = noise.pretrained(Look(difference_sq=float(ratio), expected_sq=1.0)).updated()
        words += [why] if why else []
    return noise, words


def test_what_is_right_changes_nothing_and_what_is_wrong_changes_once() -> None:
    changes = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        assert fed(Noise(), rng.gamma(5.0, 0.2, 300))[1] == []
        noise, words = fed(Noise(), rng.gamma(5.0, 0.6, 300))
        assert 1.8 < noise.server_ratio < 4.5
        assert noise.devices_ratio == 1.0
        assert words[0].startswith("constants: the server's gradient variance is ")
        changes.append(len(words))
    assert max(changes) <= 2  # the first is made of few looks, and may have to be put right
    assert np.mean(changes) < 1.5


def test_a_look_that_is_not_finite_is_none() -> None:
    noise, words = fed(Noise(), [math.inf, math.nan, 1e200] * 10)
    assert noise == Noise()
    assert not words


@pytest.mark.parametrize("name", ["trajectory", "final"])
def test_rounds_done_are_restated_as_they_were_seen(name: str) -> None:
    """Counted with the scenario's constants; the looks say what would have been counted with the right ones."""
    tree = {**samples.scenario().convergence.model_dump(exclude_unset=True), "criterion": name}
    stated = criterion_of(samples.scenario(convergence=tree))
    right = criterion_of(samples.scenario(convergence={**tree, "pretrain_variance": 3.0 * tree["pretrain_variance"]}))
    progress, expected = Progress.start(stated), Progress.start(right)  # type: ignore[arg-type]
    for round_ in range(12):
        progress = progress.pretrained(stated, 5 + round_, 3.0)  # type: ignore[arg-type]
        expected = expected.pretrained(right, 5 + round_)  # type: ignore[arg-type]
    for round_ in range(9):
        ratio = 0.4 + 0.1 * round_  # it drifts
        progress = progress.finetuned(stated, 0.1 + 0.01 * round_, ratio)  # type: ignore[arg-type]
        expected = expected.finetuned(right, ratio * (0.1 + 0.01 * round_))  # type: ignore[arg-type]
    found = progress.as_seen()
    assert found.upper == pytest.approx(expected.upper, rel=1e-12)
    assert found.server_part == pytest.approx(expected.server_part, rel=1e-12)
    assert found.devices_part == pytest.approx(expected.devices_part, rel=1e-12)
    assert found.as_seen() == found
    noise = Noise(server_ratio=3.0, devices_ratio=0.4)
    assert noise.applied(stated).numbers() == pytest.approx(right.numbers(), rel=1e-12)  # type: ignore[arg-type]
    assert server_seen(noise, Look(difference_sq=6.0, expected_sq=1.0)) == 2.0
    assert devices_seen(noise, None) == 1.0


def steered(lines: list[Any]) -> Steering:
    one, plan = samples.within(samples.scenario(samples.RAYLEIGH), 20, 30)
    found = samples.steering(one, plan, AUTO, planner=Replanner(one), log=lines.append)
    found.estimate()
    return found


def carried_on(steering: Steering, ratio: float) -> list[str]:
    """To its end, every look the same; the states on the way."""
    states, look = [], Look(difference_sq=ratio, expected_sq=1.0)
    while not isinstance(move := steering.next(), Stop):
        if isinstance(move, ServerMove):
            steering.pretrained(move, look)
        else:
            steering.finetuned(steering.carried_out(move), look)
        states.append(json.dumps(steering.state(), allow_nan=False))
    return states


def test_wrong_constants_are_a_cause_to_plan_anew_and_survive_a_restart() -> None:
    lines: list[Any] = []
    states = carried_on(steered(lines), 4.0)
    causes = [line for line in lines if line["cause"].startswith("constants: ")]
    assert [line["cause"] for line in causes] == [
        "constants: the server's gradient variance is 4 of the scenario's",
        "constants: the devices' gradient variance is 4 of the scenario's",
    ]
    assert causes[0]["after_pretrain"] == LEAST
    assert causes[0]["after_finetune"] == 0
    assert causes[0]["constants"]["server"] == {"ratio": 4.0, "low": 4.0, "high": 4.0, "looks": LEAST, "used": 4.0}
    assert causes[0]["constants"]["devices"]["ratio"] is None
    for line in causes:
        if line["taken"]:
            assert line["objective_after"] < line["objective_before"]
    at = LEAST + 2
    again = steered([])
    again.restore(json.loads(states[at]))
    again.estimate()
    assert carried_on(again, 4.0) == states[at + 1 :]


def test_right_constants_or_none_asked_for_leave_the_run_as_it_was() -> None:
    lines: list[Any] = []
    carried_on(steered(lines), 1.0)
    other: list[Any] = []
    one, plan = samples.within(samples.scenario(samples.RAYLEIGH), 20, 30)
    carried_on(samples.steering(one, plan, AUTO, planner=Replanner(one), log=other.append), 4.0)
    for line in lines:
        del line["constants"]
    assert lines == other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"criterion": "calibrated", "law": LAW}, "variances cancel"),
        ({"local_steps": 4, "heterogeneity": 0.5}, "several local steps"),
        ({}, ""),
    ],
)
def test_where_no_estimate_is_of_use_there_is_none(changes: dict[str, Any], words: str) -> None:
    tree = samples.scenario().convergence.model_dump(exclude_unset=True)
    found = why_not(samples.scenario(convergence={**tree, **changes}))
    assert words in found
    assert bool(found) == bool(words)
