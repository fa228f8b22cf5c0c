"""A scenario whose calibration takes a second: spirals, or whatever task file it is given."""

from __future__ import annotations

import shutil
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

QUICK = ["--samples", "60", "--repetitions", "3"]


def spirals(folder: Path, suffix: str = ".yaml") -> Path:
    """The example with a task of one's own, in a folder of its own."""
    shutil.copy(EXAMPLES / "own_task.py", folder)
    text = (EXAMPLES / "own_task.yaml").read_text(encoding="utf-8").replace("_step: 0.1 ", "_step: 0.05")
    text = text.replace("finetune_step: 0.1", "finetune_step: 0.05")
    path = folder / f"mine{suffix}"
    path.write_text(text, encoding="utf-8")
    return path


TASK = """
import torch
from torch import nn
from pretune.runtime.task import Samples, Task


def model(_):
    {model}


def loss(out, y):
    return {loss}


def data(n, seed, width=2, classes=2):
    g = torch.Generator().manual_seed(seed)
    return Samples(x=torch.randn(n, width, generator=g), y=torch.randint(0, classes, (n,), generator=g))


def make_task(**_):
    general, train = {general}, {train}
    return Task(name="made", model=model, {given}general=general, train=train, test=data(20, 3))
"""

PLAIN = {
    "model": "return nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))",
    "loss": "nn.functional.cross_entropy(out, y, reduction='none')",
    "general": "data(600, 1)",
    "train": "data(600, 2)",
    "given": "loss=loss, ",
}


def made(folder: Path, **parts: str) -> Path:
    """The same scenario with another task; `parts` replace pieces of its file."""
    path = spirals(folder)
    (folder / "own_task.py").write_text(TASK.format(**{**PLAIN, **parts}), encoding="utf-8")
    return path
