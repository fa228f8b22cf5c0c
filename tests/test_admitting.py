"""The proof of an admission's bound: it holds as written, and no change of the file passes that it does not prove."""

from __future__ import annotations

import copy
import itertools
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent / "planner"))

from draws import draw

import pretune
from pretune.admitting.check import admission_from_dict, check_admission
from pretune.admitting.offers import offers_of
from pretune.admitting.proof import FREE_PRICES, holds_without_finetuning, over_subsets
from pretune.admitting.roster import roster_of, subscenario
from pretune.cli import main
from pretune.errors import CheckFailed, InputError, PlanMismatch
from pretune.planner.solve import plan_roughly
from pretune.scenario import Scenario

Tree = dict[str, Any]
HOW: dict[str, Any] = {"idle_power": False, "batteries": True, "stages": "both", "energy": "tight"}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return draw(3, count=8, access="fdma", criterion="final", **HOW).scenario


@pytest.fixture(scope="module")
def written(scenario: Scenario) -> Tree:
    """An admission's file, with subsets that are proven by themselves."""
    found = pretune.admit(scenario, tolerance=1e-2)
    tree: Tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert tree["certificate"]["subsets"]
    assert {entry[0] for entry in tree["certificate"]["tree"]} >= {"p", "x", "f", "e"}
    return tree


def checked(tree: Tree, scenario: Scenario) -> bool:
    return check_admission(admission_from_dict(tree), scenario).lower_bound_proven


def test_the_file_proves_the_bound(written: Tree, scenario: Scenario) -> None:
    assert written["bound_provable_from_file"] is True
    assert checked(written, scenario)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_files_of_all_kinds_prove_their_bounds(criterion: str, access: str) -> None:
    for seed, batteries, idle in ((5, True, False), (6, False, True)):
        how = HOW | {"batteries": batteries, "idle_power": idle}
        one = draw(seed, count=6, access=access, criterion=criterion, **how).scenario
        found = pretune.admit(one, tolerance=1e-2)
        tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
        assert checked(tree, one)
        assert len(tree["certificate"]["tree"]) >= 1


def _bound(share: float) -> Callable[[Tree], None]:
    """A bound of that share of the objective, and the gap that goes with it."""

    def change(tree: Tree) -> None:
        tree["lower_bound"] = share * tree["objective"]
        tree["relative_gap"] = (tree["objective"] - tree["lower_bound"]) / tree["objective"]

    return change


def _prices(key: str, factor: float) -> Callable[[Tree], None]:
    def change(tree: Tree) -> None:
        for entry in tree["certificate"]["prices"]:
            held = entry[key]
            entry[key] = [factor * value for value in held] if isinstance(held, list) else factor * held

    return change


def _other(tree: Tree) -> None:
    tree["admitted"][0], tree["dropped"][0]["name"] = tree["dropped"][0]["name"], tree["admitted"][0]


CHANGES: dict[str, tuple[Callable[[Tree], Any], str]] = {
    "a larger bound": (_bound(0.9999), "lower_bound: claims"),
    "a bound above the objective": (_bound(1.5), "is above the objective"),
    "the last leaf is gone": (lambda tree: tree["certificate"]["tree"].pop(), "a leaf is missing"),
    "one leaf more": (lambda tree: tree["certificate"]["tree"].append(["e"]), "one too many"),
    "no tree": (lambda tree: tree["certificate"].update(tree=[]), "a leaf is missing"),
    "all in one empty leaf": (lambda tree: tree["certificate"].update(tree=[["e"]]), "is not empty"),
    "all in one subset": (lambda tree: tree["certificate"].update(tree=[["f"]]), "more than one subset"),
    "energy dearer": (_prices("energy", 3.0), "the certificate's leaves prove"),
    "time dearer": (_prices("omega", 10.0), "the certificate's leaves prove"),
    "shares higher": (_prices("shares", 3.0), "the certificate's leaves prove"),
    "negative shares": (_prices("shares", -1.0), "must not be negative"),
    "a subset without its proof": (lambda tree: tree["certificate"]["subsets"].pop(), "subsets: do not prove"),
    "a subset with weaker prices": (
        lambda tree: [entry.update(prices=[FREE_PRICES]) for entry in tree["certificate"]["subsets"]],
        "subsets: do not prove",
    ),
    "another kind of entry": (lambda tree: tree["certificate"]["tree"].insert(0, ["z", 1]), "an entry of the tree"),
    "a set that is not there": (
        lambda tree: tree["certificate"]["tree"].__setitem__(-1, ["p", 10**6]),
        "an entry of the tree",
    ),
    "a part cut at a word": (lambda tree: tree["certificate"]["tree"].insert(0, ["n", "x"]), "an entry of the tree"),
    "another weight": (lambda tree: tree.update(weight=0.99), "admission.weight"),
    "a higher least weight": (lambda tree: tree["certificate"].update(min_weight=1.0), "below the least weight"),
    "a gap of its own": (lambda tree: tree.update(relative_gap=0.0), "relative_gap"),
    "optimal at any gap": (lambda tree: tree["certificate"].update(tolerance=1e-9), "status"),
    "other devices": (_other, "plan.scenario_sha256"),
    "a device that is nowhere": (lambda tree: tree["dropped"].pop(), "each once"),
    "an unknown key": (lambda tree: tree["certificate"].update(more=1), "not a key"),
    "another objective": (lambda tree: tree["plan"].update(objective=tree["objective"] * 0.5), "plan.objective"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_file_is_refused(name: str, written: Tree, scenario: Scenario) -> None:
    tree = copy.deepcopy(written)
    change, said = CHANGES[name]
    change(tree)
    with pytest.raises((CheckFailed, InputError)) as caught:
        checked(tree, scenario)
    assert said in str(caught.value).splitlines()[0]


def test_every_leaf_is_needed(written: Tree, scenario: Scenario) -> None:
    certificate = written["certificate"]
    roster = roster_of(scenario, certificate["min_weight"])
    leaves = [i for i, entry in enumerate(certificate["tree"]) if entry[0] in "pfe"]
    assert len(leaves) > 20
    for i in leaves:
        tree = [entry for j, entry in enumerate(certificate["tree"]) if j != i]
        with pytest.raises(InputError, match=r"admission\.certificate\.tree"):
            over_subsets(roster, certificate | {"tree": tree})


def test_plans_that_only_pretrain_are_bounded_too() -> None:
    """Such a plan is the best here; what the budgets leave the server bounds it even without prices."""
    one = draw(2, count=3, access="fdma", criterion="trajectory", **HOW).scenario.to_dict()
    one["devices"] = [{**row, "max_clock_hz": 1e6} for row in one["devices"]]
    one["convergence"]["shift"] = 0.0
    slow = Scenario(**{key: value for key, value in one.items() if value is not None})
    tree = json.loads(json.dumps(pretune.admit(slow, tolerance=1e-2).to_dict()))
    assert tree["plan"]["finetune"]["rounds"] == 0
    assert checked(tree, slow)
    for entries in ([], tree["certificate"]["pretrain"]):
        assert holds_without_finetuning(slow, {"pretrain": entries}, tree["lower_bound"])
        assert not holds_without_finetuning(slow, {"pretrain": entries}, tree["objective"] * (1.0 + 1e-6))


def test_another_fleet_is_refused(written: Tree, scenario: Scenario, tmp_path: Path) -> None:
    other = scenario.to_dict()
    at = scenario.devices.names.index(written["admitted"][0])
    other["devices"][at]["gain"] *= 2.0
    changed = Scenario(**{key: value for key, value in other.items() if value is not None})
    with pytest.raises(PlanMismatch, match="fleet_sha256"):
        checked(written, changed)
    # nor does a forged name of the fleet help
    forged = copy.deepcopy(written) | {"fleet_sha256": changed.sha256}
    with pytest.raises((CheckFailed, InputError)):
        checked(forged, changed)


@pytest.mark.parametrize("access", ["fdma", "tdma"])
@pytest.mark.parametrize("criterion", ["trajectory", "final"])
def test_no_certificate_proves_more_than_is_true(criterion: str, access: str) -> None:
    """Whatever the entries and prices say: leaves that cover everything prove no more than the best subset is worth."""
    how = HOW | {"batteries": (access, criterion) == ("fdma", "trajectory")}
    one = draw(8, count=3, access=access, criterion=criterion, **how).scenario
    best, who = math.inf, b""
    for size in range(1, 4):
        for kept in itertools.combinations(range(3), size):
            mask = np.isin(np.arange(3), kept)
            plan = plan_roughly(subscenario(one, mask), tolerance=1e-3, deadline=math.inf, probes=5, spans=False)
            if plan.status.has_plan and plan.objective < best and plan.finetune is not None and plan.finetune.rounds:
                best, who = plan.objective, mask.tobytes()
    certificate = json.loads(json.dumps(pretune.admit(one, tolerance=1e-2).certificate))
    roster, rng = roster_of(one, 0.0), np.random.default_rng(0)
    proven = 0
    for _ in range(40):
        tree, prices = copy.deepcopy(certificate["tree"]), copy.deepcopy(certificate["prices"])
        for entry in rng.choice(np.arange(len(tree)), size=min(3, len(tree)), replace=False):
            _tampered(tree[entry], rng)
        for entry in prices:
            entry["energy"] *= math.exp(0.3 * rng.normal())
            entry["shares"] = [value * math.exp(0.3 * rng.normal()) for value in entry["shares"]]
        try:
            found = over_subsets(roster, certificate | {"tree": tree, "prices": prices})
        except InputError:
            continue
        proven += 1
        assert found.least <= best * (1.0 + 1e-9) or who in [mask.tobytes() for mask in found.alone]
    assert proven > 3


def _tampered(entry: list[Any], rng: np.random.Generator) -> None:
    """Another place to cut, other devices decided, or a leaf that says it is empty."""
    if entry[0] in ("m", "n"):
        entry[1] = int(entry[1] * math.exp(rng.normal()))
    elif entry[0] in ("s", "w"):
        entry[1] *= math.exp(0.3 * rng.normal())
    elif entry[0] == "x":
        entry[2], entry[3] = entry[3], entry[2]
    elif entry[0] == "p" and rng.random() < 0.3:
        entry[:] = ["e"]


def test_prices_of_other_devices_are_refused(scenario: Scenario) -> None:
    roster = roster_of(scenario, 0.0)
    entry: Tree = {"energy": 1.0, "omega": 1.0, "devices": [0, 1], "shares": [0.1, 0.1]}
    assert len(offers_of(roster, [entry])) == 1
    for bad, said in (
        ({"devices": [0, 0]}, "different devices"),
        ({"devices": [0, 99]}, "different devices"),
        ({"devices": [0]}, "one length"),
        ({"shares": [0.1, math.nan]}, "finite numbers"),
        ({"shares": "much"}, "finite numbers"),
        ({"ratios": [0.5, 1.0]}, "ratios not below one"),
        ({"energy": -1.0}, "must not be negative"),
        ({"energy": True}, "a finite number"),
        ({"more": 1}, "not a key"),
    ):
        with pytest.raises(InputError, match=said):
            offers_of(roster, [entry | bad])
    free = int(np.flatnonzero(np.isinf(scenario.devices.battery_j))[0])
    with pytest.raises(InputError, match="prices a battery"):
        offers_of(roster, [entry | {"devices": [free], "shares": [0.1], "ratios": [2.0]}])


def test_command(written: Tree, scenario: Scenario, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, fleet = tmp_path / "a.json", tmp_path / "fleet.json"
    file.write_text(json.dumps(written))
    fleet.write_text(json.dumps(scenario.to_dict()))
    assert main(["check", str(file), str(fleet)]) == 0
    said = capsys.readouterr().out
    assert "over all subsets" in said
    assert "proven again" in said
    assert main(["check", str(file), str(fleet), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lower_bound_proven"] is True
    forged = copy.deepcopy(written)
    _bound(0.9999)(forged)
    file.write_text(json.dumps(forged))
    assert main(["check", str(file), str(fleet)]) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1
    assert "lower_bound" in error[0]
