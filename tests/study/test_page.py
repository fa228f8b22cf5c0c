"""The page is made from the results and from nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="needs the extra train")

sys.path.insert(0, str(Path(__file__).parent))
from toy import write_toy

from pretune.study.cli import main
from pretune.study.page import FIGURES, page
from pretune.study.tables import csv_text

ROOT = Path(__file__).parents[2]
STUDY = ROOT / "experiments" / "study"
RESULTS = STUDY / "results"
VERDICT = """

def verdict(rows):
    from pretune.study import Table

    return Table(
        {"task": row["task"], "regime": "tight", "method": method, "seed": row["seed"],
         "accuracy": 0.5 + shift + 0.01 * (row["seed"] % 3) * (1 + shift), "energy_j": 1.0, "delay_s": 1.0}
        for row in rows.where(half=1)
        for method, shift in (("joint", 0.1), ("equal-split", 0.0))
    )


def targets(rows):
    from pretune.study import Target

    return [Target(text="Squares are square", met=False, why="one is not")]


import dataclasses

EXPERIMENT = dataclasses.replace(EXPERIMENT, verdict=verdict, targets=targets)
"""


def test_a_page_from_a_run(tmp_path, capsys):
    folder, out, docs = write_toy(tmp_path / "experiments"), tmp_path / "runs" / "study", tmp_path / "docs"
    docs.mkdir()
    path = folder / "toy.py"
    path.write_text(path.read_text(encoding="utf-8") + VERDICT, encoding="utf-8")
    (folder / "fail-b-5").touch()
    options = ["--folder", str(folder)]
    assert main(["run", "all", "-o", str(out), "--engine", "serial", "-q", *options]) == 1
    assert main(["page", str(out), "--docs", str(docs), "-q", *options]) == 0
    text = (docs / "study.md").read_text(encoding="utf-8")
    assert "## t. Squares" in text
    assert "*What are squares?*" in text
    assert "![t. Squares, figure 1](study/toy.svg)" in text
    assert "**1 of 12 points are missing** (1 failed)" in text
    assert '- failed: `{"seed":5,"task":"b"}: ValueError: told to fail`' in text
    assert "| Squares are square | **missed** | one is not |" in text
    assert "| a | tight | 61.1 ± " in text
    assert "win" in text.split("## Verdicts")[1]
    assert str(tmp_path) not in text
    assert (docs / "study" / "toy.svg").is_file()
    assert "equal-split" in (folder / "results" / "verdicts.csv").read_text(encoding="utf-8")
    # made again it is the same, and what people add is taken in
    assert page(folder, folder / "results", tmp_path / FIGURES)[0] == text
    (folder / "results" / "findings.md").write_text("## Findings\n\nNone.\n", encoding="utf-8")
    assert main(["page", "--docs", str(docs), *options]) == 0
    assert "## Findings\n\nNone.\n\n## Verdicts" in (docs / "study.md").read_text(encoding="utf-8")
    # once the missing point is there, so is the page
    (folder / "fail-b-5").unlink()
    assert main(["run", "all", "-o", str(out), "--engine", "serial", "-q", *options]) == 0
    assert main(["page", str(out), "--docs", str(docs), "-q", *options]) == 0
    assert "missing" not in (docs / "study.md").read_text(encoding="utf-8")
    capsys.readouterr()


def test_a_smoke_study_says_what_it_is(tmp_path):
    folder, out = write_toy(tmp_path / "experiments"), tmp_path / "study"
    options = ["--folder", str(folder)]
    assert main(["run", "all", "-o", str(out), "--scale", "smoke", "--engine", "serial", "-q", *options]) == 0
    assert main(["page", str(out), "--docs", str(tmp_path), "-q", *options]) == 0
    assert "**Not the study: these were only tried out" in (tmp_path / "study.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not (RESULTS / "study.json").is_file(), reason="no study has been run here")
def test_the_page_in_the_documentation_is_the_one_of_the_results(tmp_path):
    """Nobody wrote a figure into the page by hand."""
    text, verdicts = page(STUDY, RESULTS, tmp_path)
    assert (ROOT / "docs" / "study.md").read_text(encoding="utf-8") == text
    if len(verdicts):
        assert (RESULTS / "verdicts.csv").read_text(encoding="utf-8") == csv_text(verdicts)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert drawn == {path.name for path in (ROOT / "docs" / FIGURES).iterdir()}
    made_by = json.loads((RESULTS / "study.json").read_text(encoding="utf-8"))["matplotlib"]
    if made_by == importlib.metadata.version("matplotlib"):
        for name in drawn:
            assert (ROOT / "docs" / FIGURES / name).read_bytes() == (tmp_path / name).read_bytes()


def test_the_experiment_in_the_documentation_works(tmp_path, capsys):
    """One file and nothing else: it is found, runs, and is on a page."""
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    folder, out = tmp_path / "mine", tmp_path / "study"
    folder.mkdir()
    (folder / "coverage.py").write_text(text.split("```python\n")[1].split("```")[0], encoding="utf-8")
    options = ["--folder", str(folder)]
    assert main(["list", *options]) == 0
    assert "coverage      60 points" in capsys.readouterr().out
    assert main(["run", "coverage", "-o", str(out), "--engine", "serial", "-q", *options]) == 0
    assert main(["page", str(out), "--docs", str(tmp_path), "-q", *options]) == 0
    assert "## x. What 95 % means for skewed values" in (tmp_path / "study.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["list", "run", "status", "merge", "page"])
def test_the_documentation_lists_the_options_of_the_help(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert main([command, "--help"]) == 0
    options = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    in_help = set(options.findall(capsys.readouterr().out))
    section = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    section = section.split(f"### pretune-experiments {command}\n")[1].split("\n### ")[0]
    assert set(options.findall(section)) == in_help - {"--help"}
