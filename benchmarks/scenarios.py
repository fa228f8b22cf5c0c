"""The scenarios that are planned here; drawn ones come from the tests' draws, by seed, none picked for its result."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "planner"))

from draws import Drawn, draw  # noqa: E402

from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed  # noqa: E402
from pretune.planner.kernels.rounds import coefficients  # noqa: E402
from pretune.planner.problem import build  # noqa: E402
from pretune.scenario import Scenario, load_scenario, scenario_from_dict  # noqa: E402

DIGITS = ROOT / "examples" / "digits.yaml"
ACCESS, CRITERIA = ("fdma", "tdma"), ("final", "trajectory")
JOINT = tuple(
    f"{kind}-{access}-{criterion}" for kind in ("digits", "drawn") for access in ACCESS for criterion in CRITERIA
)
"""Whole plans at K = 10: the demo and a drawn fleet, both accesses, both criteria."""
FIXED = tuple(
    f"{access}-{idle}-{energy}" for access in ACCESS for idle in ("dynamic", "idle") for energy in ("drawn", "tight")
)
"""Fixed rounds: both accesses, without and with static and circuit power, energy as drawn and where it surely binds."""
FEW = tuple(range(12))
"""Seeds of the scenarios beside global solvers."""


def digits(access: str = "fdma", criterion: str = "final", **budget: float) -> Scenario:
    """The demo, ten cameras, with another access, criterion or budget."""
    tree = load_scenario(DIGITS).to_dict()
    tree["radio"]["access"] = access
    tree["convergence"]["criterion"] = criterion
    tree["budget"] |= budget
    return scenario_from_dict(tree)


def joint(name: str) -> Scenario:
    """One of `JOINT`."""
    kind, access, criterion = name.split("-")
    if kind == "digits":
        return digits(access, criterion)
    seed = JOINT.index(name)
    options: dict[str, Any] = {"idle_power": False, "batteries": False, "stages": "both", "energy": "tight"}
    return draw(seed, count=10, access=access, criterion=criterion, **options).scenario


def heavy() -> Scenario:
    """The demo with samples so heavy that only some hundred pairs of rounds fit: for exhaustive search."""
    tree = load_scenario(DIGITS).to_dict()
    tree["workload"]["flops_per_sample"] = 4e7
    tree["server"]["flops_per_cycle"] = 1.0
    return scenario_from_dict(tree)


def fleet(name: str, count: int) -> Drawn:
    """One of `FIXED`, with as many devices as asked for."""
    access, idle, energy = name.split("-")
    options: dict[str, Any] = {"idle_power": idle == "idle", "batteries": False, "stages": "both", "energy": "tight"}
    seed = FIXED.index(name) // 2
    drawn = draw(seed, count=count, access=access, criterion="final", **options)
    return drawn if energy == "drawn" else tightened(drawn)


def tightened(drawn: Drawn) -> Drawn:
    """The same with the geometric mean of the least energy that its rounds can take and what their optimum takes."""
    problem, _ = build(drawn.scenario)
    m, n = map(float, drawn.rounds)
    _, _, psi0, psi = coefficients(problem.criterion, m, n)
    taken = []
    for worth in (0.0, 1.0):
        point = new_point(problem.devices.cycles.size)
        assert solve_fixed(problem, problem.batches, m, n, worth * psi0, worth * psi, point) == SOLVED
        taken.append(float(point.scalars[6]))
    return dataclasses.replace(drawn, scenario=drawn.scenario.with_budget(energy_j=math.sqrt(taken[0] * taken[1])))


def few(seed: int) -> Drawn:
    """Two to five devices, real data sets and rounds, everything else drawn: for the global solvers at fixed rounds."""
    return draw(seed, count=2 + seed % 4, stages="both", energy="tight")


def small(seed: int) -> Scenario:
    """Two to five devices of two to five samples and a slow server: for the global solvers with whole rounds."""
    options: dict[str, Any] = {"access": ACCESS[seed // 2 % 2], "criterion": CRITERIA[seed % 2], "stages": "both"}
    return draw(200 + seed, count=2 + seed % 4, small=True, **options).scenario


def campus(count: int) -> Scenario:
    """The demo with a fleet drawn around its values, and joules in proportion: for fronts."""
    tree = load_scenario(DIGITS).to_dict()
    tree["devices"] = {
        "count": count,
        "seed": 0,
        "draw": {
            "capacitance": {"loguniform": [5e-28, 3e-27]},
            "flops_per_cycle": {"choice": [1, 2, 4]},
            "max_clock_hz": {"uniform": [4e8, 1.5e9]},
            "max_power_w": {"choice": [0.05, 0.1, 0.2]},
            "gain": {"loguniform": [1e-11, 1e-9]},
            "bandwidth_hz": {"choice": [1e6, 2e6]},
            "samples": {"choice": list(range(30, 121, 10))},
        },
    }
    tree["budget"]["energy_j"] *= count / 10
    return scenario_from_dict(tree)
