"""Whatever is in a file: a scenario, or an InputError. Nothing else, ever."""

from __future__ import annotations

import json
import math
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretune.errors import InputError
from pretune.scenario import Scenario, load_scenario, scenario_from_dict
from scenario_samples import DEVICE, SMALL

SUFFIXES = st.sampled_from([".yaml", ".toml", ".json"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(
        ["20 MHz", "23 dBm", "-174 dBm/Hz", "3 s", "1e999", "fleet.csv", 1e301, -1e9, 5e-324, 2**70, 10**400]
    )
)
KEYS = st.text(max_size=6) | st.sampled_from(
    [*SMALL, *SMALL["convergence"], *DEVICE, "file", "count", "seed", "draw", "cell"]
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=20
)
DRAWN = {
    "count": 3,
    "seed": 0,
    "draw": {**DEVICE, "gain": {"cell": {"model": "umi", "carrier_hz": 2e9, "radius_m": 99}}},
}


def read(tree: Any) -> None:
    """A scenario that is whole, or an `InputError` of plain lines."""
    try:
        scenario = scenario_from_dict(tree, "nowhere")
    except InputError as error:
        check(error)
    else:
        assert scenario_from_dict(scenario.to_dict()).sha256 == scenario.sha256


def check(error: InputError) -> None:
    assert 0 < len(error.problems) <= 21
    for line in error.problems:
        assert line
        assert line.isprintable()
        assert len(line) < 600


def load(path: Path) -> None:
    try:
        assert isinstance(load_scenario(path), Scenario)
    except InputError as error:
        check(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@given(st.binary(max_size=300), SUFFIXES)
@settings(max_examples=300)
def test_random_bytes(folder: Path, content: bytes, suffix: str) -> None:
    path = folder / f"bytes{suffix}"
    path.write_bytes(content)
    load(path)


@given(st.text(alphabet="{}[]:,-?&*!|>'\"#%@`= \n\tab0123456789.~<", max_size=60), SUFFIXES)
@settings(max_examples=600)
def test_random_syntax(folder: Path, text: str, suffix: str) -> None:
    path = folder / f"syntax{suffix}"
    path.write_text(text)
    load(path)


@given(TREES)
@settings(max_examples=300)
def test_random_trees_in_json(folder: Path, tree: Any) -> None:
    path = folder / "tree.json"
    path.write_text(json.dumps(tree))
    load(path)


@given(TREES)
@settings(max_examples=200)
def test_random_trees_in_yaml(folder: Path, tree: Any) -> None:
    path = folder / "tree.yaml"
    path.write_text(json.dumps(tree))  # JSON is YAML
    load(path)


@given(st.binary(max_size=200), st.sampled_from(["fleet.csv", "fleet.parquet"]))
@settings(max_examples=200)
def test_random_fleet_files(folder: Path, content: bytes, name: str) -> None:
    (folder / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        scenario_from_dict({**SMALL, "devices": {"file": name}}, folder)
    check(caught.value)


@given(st.lists(st.lists(st.text(alphabet='1.e-9 adBmGHz",\n', max_size=8), min_size=1, max_size=8), max_size=4))
@settings(max_examples=200)
def test_random_cells(folder: Path, cells: list[list[str]]) -> None:
    (folder / "cells.csv").write_text("\n".join([",".join(DEVICE), *(",".join(row) for row in cells)]))
    try:
        scenario_from_dict({**SMALL, "devices": {"file": "cells.csv"}}, folder)
    except InputError as error:
        check(error)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a tree, but its root."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    found = []
    for key, value in items:
        found += [(*path, key), *places(value, (*path, key))]
    return found


@given(st.data())
@settings(max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_scenarios(data: st.DataObject) -> None:
    tree = deepcopy(SMALL)
    if data.draw(st.booleans()):
        tree["devices"] = deepcopy(DRAWN)
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(tree)
        if not found:
            break
        *above, last = data.draw(st.sampled_from(found))
        node = tree
        for key in above:
            node = node[key]
        match data.draw(st.sampled_from(["drop", "swap", "scale", "rename"])):
            case "drop":
                del node[last]
            case "swap":
                node[last] = data.draw(TREES)
            case "scale" if isinstance(node[last], float):
                node[last] *= data.draw(st.sampled_from([-1.0, 0.0, 1e-300, 1e300, math.nan, math.inf, 1.5]))
            case "rename" if isinstance(node, dict):
                node[data.draw(KEYS)] = node.pop(last)
    read(tree)


@given(TREES)
@settings(max_examples=200)
def test_random_devices(tree: Any) -> None:
    read({**SMALL, "devices": tree})


@given(st.dictionaries(st.sampled_from([*DEVICE, "battery_j", "weight", "name"]), TREES, max_size=8))
@settings(max_examples=200)
def test_random_draws(draw: dict[str, Any]) -> None:
    read({**SMALL, "devices": {"count": 3, "draw": {**DEVICE, **draw}}})


@given(st.dictionaries(st.sampled_from(["model", "radius_m", "carrier_hz", "shadowing", "line_of_sight", "x"]), LEAVES))
@settings(max_examples=200)
def test_random_cells_of_gains(cell: dict[str, Any]) -> None:
    base = {"model": "uma", "carrier_hz": 2e9, "radius_m": 500, **cell}
    read({**SMALL, "devices": {"count": 3, "draw": {**DEVICE, "gain": {"cell": base}}}})
