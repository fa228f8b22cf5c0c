"""Scenario files that are rewritten: only what was measured changes, in every format and layout."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from pretune.calibration.decide import MOST_DEVICES, decide, rounded
from pretune.calibration.fill import filled
from pretune.calibration.rewrite import changed, rewritten
from pretune.calibration.yaml_surgery import NotSimple, operate
from pretune.convergence.constants import Measured
from pretune.errors import InputError
from pretune.loader import tree_of
from pretune.scenario import scenario_from_dict
from scenario_samples import small

ENTRY = {"value": 9.5, "low": 9, "high": 10.25, "method": 'it\'s: "so" #1', "date": "2026-05-31", "seed": 3}
MEASURED = {"smoothness": ENTRY, "upload_bits": {**ENTRY, "value": 12.0, "low": 12.0, "high": 12.0}}
VALUES = {"convergence": {"smoothness": 9.5, "finetune_variance": (1.5, 2.0)}, "workload": {"upload_bits": 12.0}}

BLOCK = """\
# head
name: x          # the name
workload: {flops_per_sample: 1, upload_bits: 3}   # flow
convergence:
  smoothness:   7    # hand-aligned
  pretrain_step: 0.1
devices:
  - {name: a,  samples: 1}   # two spaces stay

# tail
"""


def test_yaml_keeps_everything_but_the_numbers() -> None:
    text = rewritten(BLOCK, ".yaml", VALUES, MEASURED)
    assert tree_of(text, ".yaml") == changed(tree_of(BLOCK, ".yaml"), VALUES, MEASURED)
    head = text.split("\nmeasured:")[0]
    assert head == BLOCK.replace("upload_bits: 3", "upload_bits: 12").replace(
        "smoothness:   7    #", "smoothness:   9.5  #"
    ).replace("  pretrain_step: 0.1\n", "  pretrain_step: 0.1\n  finetune_variance: [1.5, 2]\n")
    again = rewritten(text, ".yaml", VALUES, {"smoothness": {**ENTRY, "seed": 4}})
    assert tree_of(again, ".yaml")["measured"] == {"smoothness": {**ENTRY, "seed": 4}}
    assert again.split("\nmeasured:")[0] == head


@pytest.mark.parametrize(
    "text",
    [
        "{name: x, workload: {upload_bits: 3}, convergence: {smoothness: 7}}\n",  # one flow mapping
        "name: x\nworkload: {upload_bits: 3}\nconvergence:\n  smoothness: 7\n  finetune_variance:\n    - 1\n    - 2\n",
        "convergence: {smoothness: 7}\n",  # a section to be added
        "convergence: {}\nworkload:\nname: x",  # empty sections, and no line break at the end
        "measured:\n  shift: {value: 1, low: 1, high: 1}  # old\n# between\nconvergence:\n  smoothness: 7\n",
        "convergence:\r\n  smoothness: 7 # seven\r\nname: x\r\n",
        "---\nconvergence:\n  smoothness: 7\n...\n",
        "convergence: {smoothness: 7,\n   # a comment\n   pretrain_step: 1}\n",
    ],
)
def test_whatever_the_layout_the_new_file_says_what_it_should(text: str) -> None:
    made = rewritten(text, ".yaml", VALUES, MEASURED)
    assert tree_of(made, ".yaml") == changed(tree_of(text, ".yaml"), VALUES, MEASURED)
    for comment in ("# between", "# seven", "# a comment"):
        assert (comment in made) == (comment in text)


def test_surgery_says_when_a_layout_is_beyond_it() -> None:
    with pytest.raises(NotSimple):
        operate("{a: 1}\n", {}, MEASURED)


def test_toml_keeps_comments_and_json_its_indent() -> None:
    toml = '# head\nname = "x"\n\n[convergence] # bounds\nsmoothness = 7 # hand\n\n[workload]\nupload_bits = 3\n'
    made = rewritten(toml, ".toml", VALUES, MEASURED)
    assert tomllib.loads(made) == changed(tomllib.loads(toml), VALUES, MEASURED)
    assert "# head" in made
    assert "smoothness = 9.5 # hand" in made
    again = rewritten(made, ".toml", {}, {"smoothness": ENTRY})
    assert tomllib.loads(again)["measured"] == {"smoothness": ENTRY}
    for indent in (2, 4):
        text = json.dumps({"convergence": {"smoothness": 7}}, indent=indent)
        new = rewritten(text, ".json", VALUES, MEASURED)
        assert json.loads(new) == changed(json.loads(text), VALUES, MEASURED)
        assert new.splitlines()[1].startswith(" " * indent + '"')


def figure(value: float) -> Measured:
    return Measured(value=value, low=0.5 * value, high=2.0 * value, method="measured")


def decided(tree: dict, *, overwrite: bool = False, devices: int = 2, **figures: float):
    return decide(
        {key: figure(value) for key, value in figures.items()},
        tuple(figure(10.0 + k) for k in range(devices)),
        tree=tree,
        scenario=filled(tree, Path()),
        overwrite=overwrite,
        date="2026-05-31",
        seed=0,
    )


def test_hand_set_values_are_kept_unless_asked() -> None:
    tree = small()
    found = decided(tree, smoothness=12.345678, shift=0.7, wasserstein=3.0)
    assert found.values == {}
    assert found.kept == ("convergence.smoothness: 10 was set by hand and stays; measured 12.35",)
    assert found.measured["smoothness"]["value"] == 12.35
    assert set(found.measured) == {"smoothness", "shift", "wasserstein"}
    asked = decided(tree, overwrite=True, smoothness=12.345678, shift=0.7, wasserstein=3.0)
    assert asked.values == {"convergence": {"smoothness": 12.35, "shift": 0.7}}
    assert asked.kept == ()
    gone = decided(small(convergence__smoothness=...), smoothness=12.345678)
    assert gone.values == {"convergence": {"smoothness": 12.35}}


def test_devices_have_variances_of_their_own_up_to_some_hundreds() -> None:
    tree = small(convergence__finetune_variance=...)
    assert decided(tree, finetune_variance=10.5).values["convergence"]["finetune_variance"] == [10.0, 11.0]
    many = decided(tree, finetune_variance=10.5, devices=MOST_DEVICES + 1)
    assert many.values["convergence"]["finetune_variance"] == 10.5


def test_a_smoothness_of_zero_is_told_and_not_used() -> None:
    assert decided(small(convergence__smoothness=...), smoothness=0.0).values == {}


def test_what_another_calibration_measured_stays_where_this_one_did_not() -> None:
    old = {"value": 5.0, "low": 4.0, "high": 6.0, "method": "m", "date": "2026-01-01", "seed": 1}
    found = decided(small(measured={"pl_constant": old}), smoothness=10.0)
    assert dict(found.measured["pl_constant"]) == old


def test_rounding_leaves_counts_whole() -> None:
    assert rounded(5088320.0) == 5088320.0
    assert rounded(0.123456) == 0.1235
    assert rounded(1.23456e-7) == 1.235e-7


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({**ENTRY, "valeu": 1}, "measured.smoothness.valeu: is not a known key; did you mean 'value'?"),
        ({**ENTRY, "date": "yesterday"}, "measured.smoothness.date: holds 'yesterday', should hold a day"),
        ({**ENTRY, "value": 20}, "measured.smoothness: holds the value 20, should hold one from low to high"),
        ({**ENTRY, "low": [1, 2]}, "measured.smoothness: value, low and high differ in length"),
        ({**ENTRY, "value": -1}, "measured.smoothness.value: holds -1, should hold a number of zero or more"),
        ({**ENTRY, "method": ""}, "measured.smoothness.method: holds '', should hold a sentence"),
        ({k: v for k, v in ENTRY.items() if k != "seed"}, "measured.smoothness.seed: is missing"),
        (3, "measured.smoothness: holds 3, should hold a mapping with the keys value, low, high"),
        (
            {**ENTRY, "value": [9, 9, 9], "low": [9, 9, 9], "high": [9, 9, 9]},
            "measured.smoothness.value: holds 3 numbers, should hold one number",
        ),
    ],
)
def test_a_bad_provenance_costs_one_line(entry: object, says: str) -> None:
    with pytest.raises(InputError) as caught:
        scenario_from_dict(small(measured={"smoothness": entry}))
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(says)


def test_provenance_is_read_back_and_changes_no_digest() -> None:
    plain = scenario_from_dict(small())
    scenario = scenario_from_dict(small(measured={"smoothness": {**ENTRY, "value": 10.0}}))
    assert scenario.sha256 == plain.sha256
    assert scenario.not_as_measured == ()
    assert scenario_from_dict(scenario.to_dict()).measured == scenario.measured
    assert "measured" not in plain.to_dict()
    other = scenario_from_dict(small(measured={"smoothness": ENTRY, "pl_constant": {**ENTRY, "value": 9.25}}))
    assert other.not_as_measured == (
        "convergence.smoothness: 10 is in use, measured was 9.5 on 2026-05-31",
        "convergence.pl_constant: null is in use, measured was 9.25 on 2026-05-31",
    )


def test_dates_that_yaml_made_of_texts_are_dates(tmp_path: Path) -> None:
    tree = tree_of("measured: {smoothness: {value: 1, low: 1, high: 1, method: m, date: 2026-05-31, seed: 0}}", ".yaml")
    assert scenario_from_dict(small(**tree)).measured.smoothness.date == "2026-05-31"
