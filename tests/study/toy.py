"""An experiment of its own folder, for the tests: squares, one of which can be made to fail or to wait."""

from __future__ import annotations

from pathlib import Path

EXPERIMENT = '''
"""Squares."""

import os
import time
from pathlib import Path

from pretune.study import Experiment, Scale, cache_folder, cached, grid
from pretune.study.draw import band, drawing

from ._help import square

HERE = Path(__file__).parent


def points(scale):
    return grid(task=("a", "b"), seed=range(2 if scale is Scale.SMOKE else 6))


def measure(point):
    if (HERE / f"fail-{point['task']}-{point['seed']}").exists():
        raise ValueError("told to fail\\nand more")
    if (HERE / "slow").exists():
        time.sleep(0.4)
    shared = cached(cache_folder(), {"task": point["task"]}, lambda: made(point["task"]))
    return [{"half": half, "value": square(point["seed"]) + shared, "none": float("nan")} for half in (1, 2)]


def made(task):
    with (HERE / "made.txt").open("a") as file:
        file.write(task)
    return 0.5


def figures(rows, folder):
    with drawing(folder, "toy", "Squares of seeds.") as (axes, made):
        for (task,), part in rows.groups("task"):
            x = list(part.numbers("seed"))
            band(axes[0][0], x, list(part.numbers("value")), [1.0] * len(x), label=task, colour="k")
    return made


def words(rows):
    return f"{len(rows)} rows, {rows.numbers('value').sum():g} in all."


EXPERIMENT = Experiment(
    name="toy",
    title="t. Squares",
    question="What are squares?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
'''
HELP = "def square(x):\n    return float(x * x)\n"


def write_toy(folder: Path) -> Path:
    """The folder with the experiment `toy`."""
    folder.mkdir(parents=True)
    (folder / "toy.py").write_text(EXPERIMENT, encoding="utf-8")
    (folder / "_help.py").write_text(HELP, encoding="utf-8")
    return folder
