"""Many runs at once: the executor on its engines, and sweeps that go on, fail in part and are found again."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from pretune.cli import main
from pretune.cli.sweep import read_seeds
from pretune.errors import InputError
from pretune.executor import Engine, outcomes
from pretune.sweeps import sweep

sys.path.insert(0, str(Path(__file__).parent / "runtime"))
from runtime_helpers import small_scenario

ITEMS = [1, 2, 3, 4, 5]


def squares():
    """A function that squares but two items: one raises, one takes its process along. Made here: pickled by value."""

    def square(x):
        if x == 2:
            raise ValueError("two is bad\nand more")
        if x == 4:
            os._exit(9)
        return x * x

    return square


def by_index(found):
    return {one.index: (one.value, one.error) for one in found}


def test_serial_keeps_going():
    found = by_index(outcomes(squares(), [1, 2, 3], engine=Engine.SERIAL))
    assert found == {0: (1, None), 1: (None, "ValueError: two is bad"), 2: (9, None)}


@pytest.mark.parametrize("engine", [Engine.PROCESSES, Engine.RAY])
def test_a_dead_process_is_one_failed_item(engine):
    pytest.importorskip(
        "joblib" if engine is Engine.PROCESSES else "ray", reason=f"needs what engine {engine.value} is made of"
    )
    found = by_index(outcomes(squares(), ITEMS, engine=engine, workers=2))
    assert {index: value for index, (value, _) in found.items()} == {0: 1, 1: None, 2: 9, 3: None, 4: 25}
    assert found[1][1] == "ValueError: two is bad"
    assert found[3][1].startswith("its process died")
    assert found[0][1] is None


def test_what_the_executor_refuses():
    with pytest.raises(InputError, match="workers: holds 0"):
        outcomes(squares(), ITEMS, workers=0)
    with pytest.raises(InputError, match="address: holds 'auto', should hold nothing: only the engine ray"):
        outcomes(squares(), ITEMS, address="auto")


@pytest.mark.parametrize(("text", "seeds"), [("0:3", [0, 1, 2]), (":2", [0, 1]), ("7", [7]), ("4,1", [4, 1])])
def test_seeds(text, seeds):
    assert read_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3:3", "1,1", "-1", "0:", "0:99999"])
def test_bad_seeds_are_one_clear_line(text):
    with pytest.raises(InputError, match="--seeds: holds"):
        read_seeds(text)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A scenario that runs in a moment, and one that nothing fits."""
    folder = tmp_path_factory.mktemp("scenarios")
    for name, delay_s in (("good", 2e-3), ("poor", 1e-12)):
        scenario = small_scenario(budget={"energy_j": 1e-5, "delay_s": delay_s})
        (folder / f"{name}.json").write_text(json.dumps(scenario.to_dict()), encoding="utf-8")
    return folder / "good.json", folder / "poor.json"


def test_a_sweep_goes_on_past_failures_and_finds_what_is_done(files, tmp_path, capsys):
    out, told = tmp_path / "sweep", []
    stranger = out / "good" / "seed-1" / "notes.txt"  # this run can't have its folder
    sweep(files[:1], [0], out, engine=Engine.SERIAL)
    stranger.parent.mkdir()
    stranger.write_text("mine", encoding="utf-8")
    rows = sweep(files, [0, 1, 2], out, engine=Engine.SERIAL, progress=told.append)
    assert [(row.scenario, row.seed, row.status, row.found) for row in rows] == [
        ("good", 0, "finished", True),
        ("good", 1, "failed", False),
        ("good", 2, "finished", False),
        *(("poor", seed, "failed", False) for seed in range(3)),
    ]
    assert "holds other files" in rows[1].error
    assert "infeasible" in rows[3].error
    assert rows[2].test_accuracy > 0.0
    assert len(told) == 6
    first = json.loads((out / "sweep.json").read_text(encoding="utf-8"))["runs"]
    assert [(row["scenario"], row["seed"], row["status"]) for row in first] == [
        (row.scenario, row.seed, row.status) for row in rows
    ]
    stranger.unlink()
    command = ["sweep", str(files[0]), "--seeds", "0:3", "-o", str(out), "--engine", "serial", "--json"]
    assert main(command) == 0
    tree = json.loads(capsys.readouterr().out)
    assert [row["found"] for row in tree["runs"]] == [True, False, True]
    assert {row["status"] for row in tree["runs"]} == {"finished"}
    assert tree["failed"] == 0


def test_a_sweep_of_another_scenario_is_refused_its_folder(files, tmp_path):
    out = tmp_path / "sweep"
    sweep(files[:1], [0], out, engine=Engine.SERIAL)
    tree = json.loads(files[0].read_text(encoding="utf-8"))
    tree["budget"]["energy_j"] *= 2.0
    other = tmp_path / "good.json"
    other.write_text(json.dumps(tree), encoding="utf-8")
    (row,) = sweep([other], [0], out, engine=Engine.SERIAL)
    assert row.status == "failed"
    assert "holds runs of another scenario" in row.error
    with pytest.raises(InputError, match="SCENARIO: holds 'good', should hold files of different names"):
        sweep([files[0], other], [0], out)
