"""Every experiment of the study, at its smallest: measured, written, drawn and told, so that none can rot."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("scipy", reason="needs the extra train")
pytest.importorskip("torch", reason="needs the extra train")

from pretune.executor import Engine
from pretune.study.points import Scale
from pretune.study.registry import load, names_in, points_of
from pretune.study.runner import Order, run
from pretune.study.tables import read_csv
from pretune.study.verdict import comparisons

FOLDER = Path(__file__).parents[2] / "experiments" / "study"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """One study for all, so that they share what is dear, as in a real one."""
    return tmp_path_factory.mktemp("study")


@pytest.mark.parametrize("name", names_in(FOLDER))
def test_it_runs_at_its_smallest(name, study, tmp_path):
    if name == "planner":
        pytest.importorskip("cvxpy", reason="needs the extra reference")
    result = run(Order(folder=FOLDER, names=(name,), out=study, scale=Scale.SMOKE, engine=Engine.SERIAL))
    assert result.failures == ()
    experiment, rows = load(FOLDER, name), read_csv(study / f"{name}.csv")
    assert result.measured == len(points_of(experiment, Scale.SMOKE))
    assert {"seed", "version"} <= set(rows.names)
    drawn = experiment.figures(rows, tmp_path)
    assert drawn
    for figure in drawn:
        path = tmp_path / figure.file
        assert ElementTree.fromstring(path.read_bytes()).tag.endswith("svg")
        assert figure.caption
        first = path.read_bytes()
        experiment.figures(rows, tmp_path)
        assert path.read_bytes() == first
    assert experiment.words(rows).strip()
    if experiment.verdict is not None:
        assert comparisons(experiment.verdict(rows))
    if experiment.targets is not None:
        experiment.targets(rows)


@pytest.mark.parametrize("name", names_in(FOLDER))
def test_its_full_points_can_be_listed_and_have_seeds_enough(name):
    points = points_of(load(FOLDER, name), Scale.FULL)
    seeds = {point["seed"] for point in points if "seed" in point}
    runs = [int(point["seeds"]) for point in points if "seeds" in point]
    assert len(seeds) >= 5 or min(runs) >= 5
