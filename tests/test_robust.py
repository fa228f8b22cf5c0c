"""Plans for the worst constants within their measured intervals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pretune
from pretune.certify import value_of
from pretune.cli import main
from pretune.convergence.criteria import criterion_of, device_noise, objective
from pretune.errors import InputError
from pretune.loader import read_tree
from pretune.robust import RISING
from pretune.scenario import Scenario, scenario_from_dict

DIGITS = Path(__file__).parent.parent / "examples" / "digits.yaml"
KEYS = (*RISING, "pl_constant")


def tree(criterion: str, spread: float = 0.3, local_steps: Any = 1, **measured: Any) -> dict[str, Any]:
    """The demo with intervals of `spread` about the values in use."""
    found = read_tree(DIGITS)
    constants = found["convergence"]
    constants |= {"criterion": criterion, "robust": True, "local_steps": local_steps, "heterogeneity": 0.6}
    # the bounds hold for steps of at most 1/L only, at the upper end too
    for key in ("pretrain_step", "finetune_step"):
        constants[key] = min(constants[key], 1.0 / (constants["smoothness"] * (1.0 + spread)))
    found["measured"] = {
        key: {
            "value": constants[key],
            "low": constants[key] * (1.0 - spread),
            "high": constants[key] * (1.0 + spread),
            "method": "by hand, for a test",
            "date": "2026-05-31",
            "seed": 0,
        }
        for key in KEYS
    } | measured
    return found


def robust(criterion: str, **options: Any) -> Scenario:
    return scenario_from_dict(tree(criterion, **options), DIGITS.parent)


def at(scenario: Scenario, **constants: float) -> Scenario:
    """The scenario with these constants in use, not robust."""
    used = scenario.convergence
    same = {key: getattr(used, key) for key in used.model_fields_set}
    return scenario.replace(convergence=type(used)(**{**same, "robust": False, **constants}))


@pytest.mark.parametrize("local_steps", [1, 2, 6])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_no_constants_in_the_box_are_worse_than_its_corner(criterion: str, local_steps: int) -> None:
    """Whatever the rounds and batches: also where the noise floor is above the gap, and in the last ulp's reach."""
    scenario, rng = robust(criterion, spread=0.4, local_steps=local_steps), np.random.default_rng(0)
    worst, noise, used = criterion_of(scenario), device_noise(scenario), scenario.convergence
    assert isinstance(used.finetune_variance, float)
    for _ in range(300):
        share = rng.choice([0.0, 0.5, 1.0], size=len(KEYS)) * rng.uniform(0.8, 1.0, size=len(KEYS))
        box = {key: getattr(used, key) * (0.6 + 0.8 * float(part)) for key, part in zip(KEYS, share, strict=True)}
        inside = at(scenario, **box)
        m, n = (float(10.0 ** rng.uniform(-0.5, 4)) // 1 for _ in range(2))
        if m == n == 0.0:
            continue
        b0, batches = float(10.0 ** rng.uniform(0, 3)), 10.0 ** rng.uniform(0, 2, size=len(scenario.devices))
        here = objective(criterion_of(inside), device_noise(inside), m, n, b0, batches)
        assert here <= objective(worst, noise, m, n, b0, batches) * (1.0 + 1e-12), (m, n, box)


@pytest.mark.parametrize(("criterion", "local_steps"), [("trajectory", 1), ("final", 1), ("final", [1, 2])])
def test_a_robust_plan_is_proven_and_holds_all_over_the_box(criterion: str, local_steps: Any) -> None:
    scenario = robust(criterion, local_steps=local_steps)
    plan = pretune.plan(scenario)
    assert pretune.check(plan, scenario).lower_bound_proven
    assert plan.pretrain is not None
    assert plan.finetune is not None
    rng = np.random.default_rng(1)
    for _ in range(20):
        box = {key: getattr(scenario.convergence, key) * float(rng.uniform(0.7, 1.3)) for key in KEYS}
        assert value_of(at(scenario, **box), plan.pretrain, plan.finetune) <= plan.objective * (1.0 + 1e-12)
    nominal = pretune.plan(at(scenario))
    assert nominal.pretrain is not None
    assert nominal.finetune is not None
    # whatever another plan is worth at its worst, it is no better than the bound
    assert value_of(scenario, nominal.pretrain, nominal.finetune) >= plan.lower_bound * (1.0 - 1e-12)
    assert nominal.objective < plan.objective


def test_no_width_no_change() -> None:
    scenario = robust("final", spread=0.0)
    robustly, plainly = pretune.plan(scenario), pretune.plan(at(scenario))
    assert robustly.objective == plainly.objective
    assert robustly.scenario_sha256 != plainly.scenario_sha256


def test_intervals_are_part_of_a_robust_scenario() -> None:
    assert robust("final").sha256 != robust("final", spread=0.2).sha256
    narrow, wide = (at(robust("final", spread=spread), pretrain_step=0.01, finetune_step=0.01) for spread in (0.2, 0.3))
    assert narrow.sha256 == wide.sha256


def test_a_value_in_use_that_is_worse_than_its_interval_stays() -> None:
    found = tree("final")
    found["convergence"]["shift"] *= 10.0
    assert scenario_from_dict(found, DIGITS.parent).assumed.shift == found["convergence"]["shift"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"convergence": {"robust": "yes"}}, "convergence.robust: holds 'yes', should hold true or false"),
        ({"measured": None}, "convergence.robust: holds true, but nothing is measured; run `pretune calibrate` first"),
        ({"measured": {"pl_constant": {"low": 0.0}}}, "pl_constant"),
        ({"measured": {"smoothness": {"high": 1e6}}}, "finetune_step"),
    ],
)
def test_bad_input(change: dict[str, Any], said: str) -> None:
    found = tree("final")
    for key, part in change.items():
        if part is None:
            del found[key]
            continue
        for inner, value in part.items():
            if isinstance(value, dict):
                found[key][inner] |= value
            else:
                found[key][inner] = value
    with pytest.raises(InputError) as caught:
        scenario_from_dict(found, DIGITS.parent)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


def test_the_command_says_how_far_the_plan_moves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "robust.json"
    file.write_text(json.dumps(tree("final")), encoding="utf-8")
    assert main(["plan", str(file), "-o", str(tmp_path / "plan.json")]) == 0
    out = capsys.readouterr().out
    assert "Robust: the objective" in out
    assert [line.split()[0] for line in out.splitlines() if line.startswith(("worst", "in use"))] == ["worst", "in"]
    assert main(["check", str(tmp_path / "plan.json"), str(file)]) == 0
