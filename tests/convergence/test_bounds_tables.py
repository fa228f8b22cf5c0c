"""The published tables of bounds beside real training: in the page as in the files, and every bound above."""

from __future__ import annotations

import csv
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def rows(name: str) -> list[dict[str, str]]:
    with open(ROOT / "experiments" / "results" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CELL = ("task", "pretrain_rounds", "finetune_rounds", "server_batch", "batch")


def test_the_page_shows_the_tables() -> None:
    page = (ROOT / "docs" / "theorems.md").read_text(encoding="utf-8")
    assert script("show_bounds").filled(page) == page, "run: python experiments/show_bounds.py"
    assert page.count("<!-- table") == page.count("<!-- end -->") == 5


def test_every_measured_average_is_below_its_bound() -> None:
    table = rows("bounds")
    assert {row["task"] for row in table} == {"digits", "mnist-usps", "cifar10-corrupted"}
    runs = rows("bounds_runs")
    for row in table:
        mine = [run for run in runs if all(run[key] == row[key] for key in CELL)]
        assert len({run["seed"] for run in mine}) == len(mine) == int(row["seeds"]) >= 5
        average = np.mean([float(run["gradient_sq"]) for run in mine])
        assert float(row["gradient_sq"]) == pytest.approx(average, rel=1e-3)
        assert average < float(row["trajectory"])
        assert float(row["trajectory_ratio"]) == pytest.approx(float(row["trajectory"]) / average, abs=0.01)


def test_a_cell_of_digits_comes_out_again() -> None:
    """The smallest cell, one seed; and the bounds from the constants' formula."""
    pytest.importorskip("torch")
    bounds = script("bounds")
    scenario = bounds.scenarios()["digits"]
    task = bounds.load_task(scenario.task, bounds.EXAMPLES)
    held = bounds.hold(task, scenario)
    cell = next(c for c in bounds.CELLS if c.pretrain_rounds == 50)
    average, loss = bounds.run_cell(scenario, task, held, cell, 0)
    run = next(r for r in rows("bounds_runs") if (r["task"], r["pretrain_rounds"], r["seed"]) == ("digits", "50", "0"))
    assert average == pytest.approx(float(run["gradient_sq"]), rel=0.02)
    assert loss == pytest.approx(float(run["final_loss"]), rel=0.02)
    found = {r["constant"]: (float(r["value"]),) for r in rows("bounds_constants") if r["task"] == "digits"}
    trajectory, _ = bounds.bounds_of(scenario, {**found, "device_variance": [found["finetune_variance"][0]] * 10}, cell)
    row = next(r for r in rows("bounds") if (r["task"], r["pretrain_rounds"]) == ("digits", "50"))
    assert trajectory == pytest.approx(float(row["trajectory"]), rel=0.05)


def test_every_measured_average_with_local_steps_is_below_its_bound() -> None:
    table = rows("local_bounds")
    assert {row["local_steps"] for row in table} == {"1", "2", "4"}
    for row in table:
        assert int(row["seeds"]) >= 5
        assert float(row["gradient_sq"]) < float(row["bound"]), row
        assert float(row["bound"]) / float(row["gradient_sq"]) == pytest.approx(float(row["ratio"]), rel=0.01)


def test_one_number_of_local_steps_is_chosen_at_each_step_size() -> None:
    table = rows("local_choice")
    for size in {row["finetune_step"] for row in table}:
        of = [row for row in table if row["finetune_step"] == size]
        (chosen,) = [row for row in of if row["chosen"] == "1"]
        assert float(chosen["bound"]) == min(float(row["bound"]) for row in of)
