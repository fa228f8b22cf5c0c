"""The laws: the twins agree, coefficients fall with the rounds, and what the planner assumes of boxes holds."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretune.convergence.criteria import criterion_of, device_noise, objective
from pretune.convergence.laws import Calibrated, predict
from pretune.law import COMMON, FAMILIES, Law
from pretune.planner.kernels.laws import law_coefficients, law_slopes
from pretune.scenario import scenario_from_dict
from scenario_samples import refusal, small

TRANSFER = {
    "family": "transfer",
    "floor": 0.1,
    "scale": 2.2,
    "rounds": 80.0,
    "power": 1.8,
    "exchange": 140.0,
    "finetune_rounds": 2.0,
    "finetune_power": 0.2,
    "pretrain_rounds": 130.0,
    "pretrain_power": 0.9,
    "pretrain_noise": 0.15,
    "finetune_noise": 0.05,
    "noise_power": 1.2,
    "pretrain_most": 4000.0,
    "finetune_most": 300.0,
}


def reach(name: str, family: str) -> tuple[float, float]:
    """Ranges of parameters in which numbers stay within what a float can tell apart."""
    low, high = {**FAMILIES[family], **COMMON}[name]
    if name in ("pretrain_most", "finetune_most"):
        return 1.0, 2000.0
    if name in ("rounds", "finetune_rounds", "pretrain_rounds"):
        return 0.5, 3000.0
    return max(low, 1e-3), min(high, 4.0 if name != "exchange" else 300.0)


@st.composite
def laws(draw: st.DrawFn) -> Calibrated:
    family = draw(st.sampled_from(list(FAMILIES)))
    values = []
    for name in Law.names(family):
        low, high = reach(name, family)
        values.append(math.exp(draw(st.floats(math.log(low), math.log(high)))))
    return Calibrated(law=Law(family=family, values=tuple(values)))


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    sides = []
    for most in (3000, 600):
        ends = sorted(draw(st.integers(0, most)) for _ in range(2))
        sides += [float(end) for end in ends]
    return tuple(sides)


share = st.floats(0.0, 1.0)


@given(laws(), boxes(), share, share)
def test_every_coefficient_is_least_at_the_corner_of_most_rounds_or_of_no_rounds(law, box, s, t):
    m1, m2, n1, n2 = box
    m, n = round(m1 + s * (m2 - m1)), round(n1 + t * (n2 - n1))
    here, last = law.at(m, n), law.at(m2, n2)
    slack = 1.0 - 1e-12
    assert here.phi >= last.phi * slack
    corners = [law.at(a, b) for a in (m1, m2) for b in (n1, n2)]
    for name in ("phi", "psi0", "psi"):
        assert getattr(here, name) >= min(float(getattr(c, name)) for c in corners) * slack
    assert here.psi0 >= last.psi0 * slack or m == 0
    assert here.psi >= last.psi * slack or n == 0


@given(laws(), boxes(), share, share)
def test_phi_falls_at_least_as_the_slopes_say(law, box, s, t):
    m1, m2, n1, n2 = (min(end, most) for end, most in zip(box, np.repeat(law.most, 2), strict=True))
    m, n = m1 + s * (m2 - m1), n1 + t * (n2 - n1)
    by_m, by_n = law.slopes(*map(np.float64, (m1, m2, n1, n2)))
    assert by_m >= 0.0
    assert by_n >= 0.0
    least = law.at(m2, n2).phi + by_m * (m2 - m) + by_n * (n2 - n)
    assert law.at(m, n).phi >= least * (1.0 - 1e-9)


@given(laws(), boxes())
def test_the_compiled_twin_agrees(law, box):
    m1, m2, n1, n2 = box
    numbers = np.array(law.numbers())
    for m, n in ((m1, n1), (m2, n2), (m1, n2)):
        own = law.at(m, n)
        weight, phi, psi0, psi = law_coefficients(numbers, m, n)
        assert weight == 1.0
        assert (phi, psi0, psi) == pytest.approx((float(own.phi), float(own.psi0), float(own.psi)), rel=1e-12)
    m1, m2, n1, n2 = (min(end, most) for end, most in zip(box, np.repeat(law.most, 2), strict=True))
    twin = law_slopes(numbers, m1, m2, n1, n2)
    assert twin == pytest.approx(
        tuple(float(slope) for slope in law.slopes(*map(np.float64, (m1, m2, n1, n2)))), rel=1e-9
    )


@given(laws(), boxes(), st.integers(1, 64), st.integers(1, 64))
def test_more_rounds_and_larger_batches_are_never_predicted_to_be_worse(law, box, b0, b):
    m1, m2, n1, n2 = (max(end, 1.0) for end in box)

    def told(m: float, n: float, server: float, device: float) -> float:
        return float(predict(law.law.family, law.law.values, np.array([[m, n, 1.0 / server, 1.0 / device]]))[0])

    here = told(m1, n1, b0, b)
    slack = 1.0 + 1e-12
    assert told(m2, n1, b0, b) <= here * slack
    assert told(m1, n2, b0, b) <= here * slack
    assert told(m1, n1, b0 + 1, b) <= here * slack
    assert told(m1, n1, b0, b + 1) <= here * slack


def test_beyond_the_most_rounds_nothing_is_gained():
    law = Calibrated(law=Law.read(TRANSFER))
    assert law.at(4000, 300).phi == law.at(9000, 900).phi < law.at(3999, 300).phi
    assert law.at(4000, 300).phi < law.at(4000, 299).phi


def test_an_unused_stage_brings_no_noise_and_the_objective_is_what_the_law_predicts():
    scenario = scenario_from_dict(small(convergence__criterion="calibrated", convergence__law=TRANSFER))
    law, noise = criterion_of(scenario), device_noise(scenario)
    batches = np.array([4.0, 8.0])
    for m, n in ((100, 0), (0, 40), (100, 40)):
        columns = np.array([[m, n, 1.0 / 16.0, float((noise / batches).sum())]])
        told = predict("transfer", law.law.values, columns)[0]
        assert objective(law, noise, m, n, 16.0, batches) == pytest.approx(told, rel=1e-14)
    assert objective(law, noise, 100, 0, 16.0, batches) == objective(law, noise, 100, 0, 16.0, batches * 2.0)


def test_a_law_is_read_back_as_it_was_written_and_other_scenarios_keep_their_digest():
    scenario = scenario_from_dict(
        small(convergence__criterion="calibrated", convergence__law={**TRANSFER, "spread": 0.2})
    )
    assert scenario.convergence.law.spread == 0.2
    assert scenario_from_dict(scenario.to_dict()) == scenario
    plain = scenario_from_dict(small())
    assert "law" not in plain.to_dict()["convergence"]
    assert plain != scenario
    other = scenario_from_dict(
        small(convergence__criterion="calibrated", convergence__law={**TRANSFER, "power": 1.9, "spread": 0.2})
    )
    assert other != scenario


@pytest.mark.parametrize(
    ("law", "line"),
    [
        (
            None,
            "convergence.law: is missing, should hold what criterion calibrated needs: a law, as",
        ),
        (
            7,
            "convergence.law: holds 7, should hold a mapping with a family (product, effective, logistic,",
        ),
        ({**TRANSFER, "family": "best"}, "convergence.law.family: holds 'best', should hold one of product, effective"),
        (
            {**TRANSFER, "finetune_power": 1.5},
            "convergence.law.finetune_power: holds 1.5, should hold a number from 0.001 to 1",
        ),
        ({**TRANSFER, "power": "two"}, "convergence.law.power: holds 'two', should hold a number from 0.001 to 20"),
        ({**TRANSFER, "powr": 2.0}, "convergence.law.powr: is not a known key; did you mean 'power'?"),
        ({**TRANSFER, "measure": "f1"}, "convergence.law.measure: holds 'f1', should hold loss or error"),
        ({**TRANSFER, "spread": -1}, "convergence.law.spread: holds -1, should hold a number from 0 to 100, or null"),
        (
            {key: value for key, value in TRANSFER.items() if key != "rounds"},
            "convergence.law.rounds: is missing, should hold a number from 0.001 to 1e+09, which the family",
        ),
    ],
)
def test_a_law_that_will_not_do_is_refused_in_one_line(law, line):
    lines = refusal(small(convergence__criterion="calibrated", convergence__law=law))
    assert len(lines) == 1
    assert lines[0].startswith(line)


def test_a_schedule_is_refused():
    tree = {**small(convergence__criterion="calibrated", convergence__law=TRANSFER), "schedule": 2}
    (line,) = refusal(tree)
    assert line == "schedule: holds 2, should hold 1: a law (criterion calibrated) is not known round by round"
