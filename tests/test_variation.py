"""The scenario's `variation`: what it takes, what it refuses, and that it reads back as the same."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pretune.admitting.roster import subscenario
from pretune.errors import InputError
from pretune.scenario import Scenario, scenario_from_dict
from reality_samples import EVERYTHING, TRACE, varying
from scenario_samples import refusal, small


def everything(**changes: Any) -> dict[str, Any]:
    """The tree with everything, one leaf changed: ``everything(fading__kind=3)``."""
    return small(variation=small_tree(**changes))


def small_tree(**changes: Any) -> dict[str, Any]:
    tree = deepcopy(EVERYTHING)
    for path, value in changes.items():
        *above, last = path.split("__")
        node = tree
        for key in above:
            node = node[key]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return tree


def test_a_part_of_the_devices_keeps_its_own() -> None:
    variation = varying(**EVERYTHING).variation
    first, second = variation.only(("cam-1",)), variation.only(("cam-2",))
    assert (set(first.overrides), first.trace) == ({"cam-1"}, None)
    assert (set(second.overrides), second.trace.names) == (set(), ("cam-2",))
    assert second.trace.to_dict() == variation.trace.to_dict()
    assert second.fading == variation.fading
    gains = {"cam-2": [[0, 1], [700, 1]], "cam-1": [[0, 2], [800, 3]]}
    both = scenario_from_dict(small(variation={"trace": {"gains": gains}}))
    assert both.variation.trace.only({"cam-1"}).to_dict()["gains"] == {"cam-1": [[0.0, 2.0], [800.0, 3.0]]}
    alone = subscenario(both, np.array([False, True]))
    assert alone.variation.trace.names == ("cam-2",)


BAD = {
    "seed": (-1, "variation.seed: holds -1, should hold a whole number as a seed from 0 to"),
    "fading": (7, "variation.fading: holds 7, should hold a mapping with the keys kind, k_factor, correlation"),
    "fading__kind": ("nakagami", "variation.fading.kind: holds 'nakagami', should hold 'rayleigh' or 'rician'"),
    "fading__k_factor": (-2, "variation.fading.k_factor: holds -2, should hold a positive power ratio"),
    "fading__coherence_s": (0, "variation.fading.coherence_s: holds 0, should hold a positive time"),
    "fading__doppler_hz": (
        1.0,
        "variation.fading.doppler_hz: holds 1.0, should hold nothing: correlation",
    ),
    "fading__correlation": ("jakes", "variation.fading.coherence_s: holds 3.0, should hold nothing: correlation jakes"),
    "fading__speed": (1, "variation.fading.speed: is not a known key"),
    "shadowing__std_db": (99, "variation.shadowing.std_db: holds 99, should hold a number of decibels of zero or more"),
    "shadowing__correlation_s": (..., "variation.shadowing.correlation_s: is missing, should hold a time of zero"),
    "mobility__waypoints_m": ([], "variation.mobility.waypoints_m: holds [], should hold a list of 1 to 1000 places"),
    "mobility__speed_m_per_s": ("5 kg", "variation.mobility.speed_m_per_s: holds '5 kg', should hold a positive speed"),
    "mobility__at_end": ("fly", "variation.mobility.at_end: holds 'fly', should hold 'stop', 'back' or 'loop'"),
    "mobility__cell": (..., "variation.mobility.cell: is missing"),
    "mobility__cell__line_of_sight": ("probabilistic", "variation.mobility.cell.line_of_sight: is missing"),
    "mobility__cell__radius_m": (100, "variation.mobility.waypoints_m[2]: holds [200.0, 80.0], should hold a place"),
    "availability__mean_up_s": (0, "variation.availability.mean_up_s: holds 0, should hold a positive time"),
    "availability__mean_down_s": ("", "variation.availability.mean_down_s: holds '', should hold a positive time"),
    "throttling__to_k": (10.0, "variation.throttling.to_k: holds 10.0, should hold more than from_k = 20"),
    "throttling__floor": (0, "variation.throttling.floor: holds 0, should hold a positive share"),
    "throttling__resistance_k_per_w": (True, "variation.throttling.resistance_k_per_w: holds true, should hold a"),
    "jitter__sigma": (..., "variation.jitter.sigma: is missing, should hold"),
    "jitter__most": (2.0, "variation.jitter.most: holds 2.0, should hold nothing: kind lognormal has none"),
    "trace__repeat": (1, "variation.trace.repeat: holds 1, should hold true or false"),
    "trace__gains": ({}, "variation.trace.gains: holds {}, should hold a mapping from devices' names"),
    "trace__rows": (1, "variation.trace.rows: is not a known key"),
    "devices": ([1], "variation.devices: holds [1], should hold a mapping from devices' names"),
    "devices__cam-1": (3, "variation.devices.cam-1: holds 3, should hold a mapping with the keys fading"),
    "devices__cam-9": ({}, "variation.devices.cam-9: is not a known key; did you mean 'cam-"),
    "devices__cam-1__fading": ({"kind": 1}, "variation.devices.cam-1.fading.kind: holds 1, should hold"),
    "rain": (1, "variation.rain: is not a known key"),
}


def test_everything_loads_and_reads_back_as_the_same() -> None:
    scenario = varying(**EVERYTHING)
    again = scenario_from_dict(scenario.to_dict())
    assert again.sha256 == scenario.sha256
    assert again.to_dict() == scenario.to_dict()
    assert scenario.replace(name="other").variation == scenario.variation


def test_a_scenario_in_which_nothing_varies_is_what_it_was() -> None:
    without = scenario_from_dict(small())
    assert without.sha256 == scenario_from_dict(small(variation=None)).sha256 != varying(seed=0).sha256
    assert "variation" not in without.to_dict()


@pytest.mark.parametrize("path", BAD)
def test_each_bad_field_is_one_line(path: str) -> None:
    value, expected = BAD[path]
    lines = refusal(everything(**{path: value}))
    assert lines[0].startswith(expected), lines
    if path != "fading__correlation":  # one needs the key that it has not, and has one that it does not need
        assert len(lines) == 1


def trace_refusal(text: str, tmp_path: Path, **options: Any) -> str:
    (tmp_path / "gains.csv").write_text(text)
    (line,) = refusal(small(variation={"trace": {"file": "gains.csv", **options}}), tmp_path)
    return line.removeprefix("variation.trace.")


def test_a_trace_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "gains.csv").write_text(
        "time,device,gain\n0,cam-2,-110 dB\n10 s,cam-2,0\n\n20,cam-2,3e-11\n700,cam-2,3e-11\n"
    )
    scenario = scenario_from_dict(small(variation={"trace": {"file": "gains.csv"}}), tmp_path)
    assert scenario.sha256 == varying(trace=TRACE).sha256
    assert scenario_from_dict(scenario.to_dict()).sha256 == scenario.sha256


TRACES = {
    "device,time,gain\ncam-1,0,1e-11\ncam-1,5,1e-11\n": "trace: ends at 5 s for 'cam-1', should last the 600 s of",
    "device,time,gain\ncam-1,1,1e-11\n": "file gains.csv line 2.time: holds 1.0, should hold 0: a device's rows",
    "device,time,gain\ncam-1,0,1e-11\n\ncam-1,0,1e-11\n": "file gains.csv line 4.time: holds 0.0, should hold more",
    "device,time,gain\ncam-1,0,-1\n": "file gains.csv line 2.gain: holds '-1', should hold a power ratio of zero or",
    "device,time,gain\ncam-1,0\n": "file gains.csv line 2: holds ['cam-1', '0'], should hold 3 cells",
    "device,time,gain\n,0,1\n": "file gains.csv line 2.device: is missing",
    "device,time,gain\ncam-7,0,1\ncam-7,700,1\n": "cam-7: is not a known key; did you mean 'cam-",
    "device,time,gain\n": "file: holds 'gains.csv', should hold a file with at least one row",
    "device,time\n": "file: holds 'device,time', should hold a file (gains.csv) with the columns device, time, gain",
    "": "file: holds '', should hold a file (gains.csv) with the columns",
}


@pytest.mark.parametrize("text", TRACES)
def test_each_bad_trace_is_one_line(text: str, tmp_path: Path) -> None:
    lines = TRACES[text]
    assert trace_refusal(text, tmp_path).removeprefix("variation.").startswith(lines)


def test_a_trace_that_can_not_be_read_is_one_line(tmp_path: Path) -> None:
    for file, expected in (
        ("none.csv", "file: none.csv can't be read: No such file"),
        ("gains.txt", "file: holds 'gains.txt', should hold the path of a .csv file"),
        (3, "file: holds 3, should hold the path of a .csv file"),
        (".csv", "file: holds '.csv', should hold the path"),
    ):
        (line,) = refusal(small(variation={"trace": {"file": file}}), tmp_path)
        assert line.startswith(f"variation.trace.{expected}")
    (tmp_path / "bytes.csv").write_bytes(b"device,time,gain\n\xff\xfe,0,1\n")
    (line,) = refusal(small(variation={"trace": {"file": "bytes.csv"}}), tmp_path)
    assert line == "variation.trace.file: bytes.csv can't be read: it is no text in UTF-8"
    assert "one row only" in trace_refusal("device,time,gain\ncam-1,0,1e-11\n", tmp_path, repeat=True)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["6 dB", "2 s", "rician", "jakes", "lognormal", "gains.csv", -1e9, 1e301, 2**70, [[0, 1]], {}])
)
PATHS = [path for path in BAD if path not in ("devices__cam-9",)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(PATHS), LEAVES | st.dictionaries(st.text(max_size=4), LEAVES), max_size=3))
def test_whatever_it_holds_it_is_a_scenario_or_plain_lines(changes: dict[str, Any]) -> None:
    tree = deepcopy(EVERYTHING)
    for path, value in changes.items():
        *above, last = path.split("__")
        node: Any = tree
        for key in above:
            node = node.get(key) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node[last] = value
    try:
        scenario = scenario_from_dict(small(variation=tree), "nowhere")
    except InputError as error:
        plain = [line.isprintable() and 0 < len(line) < 600 for line in error.problems]
        assert all(plain)
    else:
        assert isinstance(scenario, Scenario)
        assert scenario_from_dict(scenario.to_dict()).sha256 == scenario.sha256
