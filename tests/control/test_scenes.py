"""The comparison of docs/reality.md at its smallest: its measure, its bound, and what is written."""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("scipy", reason="needs the extra train")
pytest.importorskip("matplotlib", reason="needs the extra train")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def experiment():
    """`experiments/reality.py`, which finds its neighbours in its own folder."""
    sys.path.insert(0, str(ROOT / "experiments"))
    try:
        import reality
    finally:
        sys.path.pop(0)
    return reality


@pytest.fixture(scope="module")
def rows(experiment, tmp_path_factory):
    """Two seeds of the scene in which devices are lost, without training."""
    target = tmp_path_factory.mktemp("reality") / "reality.csv"
    experiment.compare(2, ["lost"], target, train=False)
    before = target.read_bytes()
    experiment.compare(2, ["lost"], target, train=False)
    assert target.read_bytes() == before, "what is there is not done again"
    return experiment.read_rows(target)


def test_nobody_is_below_the_bound_and_planning_anew_comes_near_it(rows):
    assert len(rows) == 2 * 9
    for seed in ("0", "1"):
        value = {row["policy"]: float(row["criterion"]) for row in rows if row["seed"] == seed}
        bound = float(next(row["bound"] for row in rows if row["seed"] == seed))
        assert bound <= min(value.values())
        assert value["clairvoyant"] <= 1.02 * bound
        assert value["static"] - value["re-planning"] >= 0.8 * (value["static"] - bound)
        assert value["re-planning"] < value["control"] < value["static"]
    for row in rows:
        assert float(row["energy_j"]) <= 0.5 * (1 + 1e-3 * (row["policy"] == "clairvoyant"))
        assert float(row["delay_s"]) <= 2.5 * (1 + 1e-3 * (row["policy"] == "clairvoyant"))


def test_with_everybody_there_the_measure_is_the_criterion(experiment):
    scenario = experiment.SCENES["lost"].scenario()
    measure = sys.modules["reality_value"].Measure.of(scenario)
    batch, shares = np.arange(5.0, 15.0), scenario.devices.weight
    found = measure.value([30.0] * 7, [shares] * 11, [batch] * 11)
    c = measure.final.at(7, 11)
    noise = float((sys.modules["reality_value"].device_noise(scenario) / batch).sum())
    assert found == pytest.approx(float(c.phi + c.psi0 / 30.0 + c.psi * noise), rel=1e-12)


def test_a_step_without_a_device_is_a_smaller_one(experiment):
    measure = sys.modules["reality_value"].Measure.of(experiment.SCENES["lost"].scenario())
    shares = np.full(10, 0.1)
    fewer = np.where(np.arange(10) < 6, shares, 0.0)
    assert measure.keep(shares) < measure.keep(fewer) < 1.0
    assert measure.noise(fewer)[6:].tolist() == [0.0] * 4


def test_the_tables_and_the_figure_are_written(experiment, rows, tmp_path, capsys):
    marks = sys.modules["reality_table"]
    page = tmp_path / "reality.md"
    page.write_text(f"before\n{marks.BEGIN}\nwhat was there\n{marks.END}\nafter\n", encoding="utf-8")
    lettered = tmp_path / "letter.csv"
    experiment.letter(2, ["lost"], lettered)
    experiment.write_page(rows, [], experiment.read_rows(lettered), page)
    text = page.read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith(f"{marks.END}\nafter\n")
    assert "what was there" not in text
    assert text.count("| lost |") >= 5
    assert "to the letter" in text
    assert "Runs of real policies below the bound: 0." in text
    assert text.split(marks.BEGIN)[1].split(marks.END)[0].strip() == capsys.readouterr().out.strip()
    assert ElementTree.fromstring((tmp_path / "images" / "reality.svg").read_bytes()).tag.endswith("svg")
