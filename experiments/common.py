"""What the experiments share: the three tasks, where results go, and a progress line."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pretune.errors import InputError
from pretune.runtime.branches import Ground
from pretune.runtime.load import load_task
from pretune.scenario import Scenario, load_scenario

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TASKS = {
    "digits": HERE.parent / "examples" / "digits.yaml",
    "mnist-usps": HERE / "scenarios" / "mnist_usps.yaml",
    "cifar": HERE / "scenarios" / "cifar.yaml",
}
"""Digits need nothing; the others read mnist.npz, usps.npz and cifar10.npz from the folder that PRETUNE_DATA names."""


def ground_of(task: str) -> tuple[Scenario, Ground]:
    """The scenario and the data of one of the tasks, on one thread."""
    torch.set_num_threads(1)
    if task not in TASKS:
        raise InputError.field("--task", task, f"one of {', '.join(TASKS)}")
    if task != "digits" and not os.environ.get("PRETUNE_DATA"):
        raise InputError("PRETUNE_DATA: is not set, should name the folder with the data sets' npz files")
    path = TASKS[task]
    scenario = load_scenario(path)
    return scenario, Ground.of(scenario, load_task(scenario.task, path.parent))


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A tidy CSV, replaced as a whole; floats with six digits."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(names), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Ticker:
    """A line on standard error now and then."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done = label, total, 0
        self._began = self._told = time.monotonic()

    def __call__(self, rounds: int) -> None:
        """So many more rounds are done."""
        self.done += rounds
        now = time.monotonic()
        if now - self._told > 5.0:
            self._told = now
            share = self.done / self.total
            sys.stderr.write(f"{self.label}: {share:.0%} of {self.total} rounds, {now - self._began:.0f} s\n")
            sys.stderr.flush()


def mean(values: Iterable[float]) -> float:
    """The mean."""
    held = list(values)
    return sum(held) / len(held)
