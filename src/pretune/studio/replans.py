"""What a steered run planned anew, as the API tells it: the lines of its `replans.jsonl`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pretune.lines import REPLANS
from pretune.studio.run_models import Replan, Replanned, Rounds, Steered

MOST = 300
"""New plans in an answer, the last ones."""


def replan_of(number: int, line: bytes | str) -> Replan | None:
    """A line of the file, the first having the number 1; None if it is damaged (`pretune report` says so, in words)."""
    try:
        tree = json.loads(line)
        for key in ("rounds_before", "rounds_after"):
            pretrain, finetune = tree[key]
            tree[key] = Rounds(pretrain=pretrain, finetune=finetune)
        return Replan(number=number, **tree)
    except (ValueError, TypeError, KeyError, RecursionError, ValidationError):
        return None


def replans_of(first: int, lines: Iterable[bytes | str]) -> list[Replan]:
    """Whole lines of the file from number `first` on."""
    found = (replan_of(number, line) for number, line in enumerate(lines, start=first))
    return [one for one in found if one is not None]


def replans_in(folder: Path) -> tuple[Replanned | None, list[Replan]]:
    """How often was planned anew, and the last of these; None where the run isn't planned anew."""
    try:
        lines = (folder / REPLANS).read_bytes().split(b"\n")[:-1]
    except OSError:
        return None, []
    counted = Replanned(made=len(lines), taken=sum(b'"taken":true' in line for line in lines))
    first = max(len(lines) - MOST, 0)
    return counted, replans_of(first + 1, lines[first:])


def steered_of(identity: Mapping[str, Any], asked: Mapping[str, Any]) -> Steered | None:
    """How a run is steered, by its run.json or, while there is none, by what was asked; None if it is not."""
    tree = identity if "control" in identity else asked.get("steering")
    if not isinstance(tree, Mapping):
        return None
    try:
        return Steered(control=tree["control"], replan=tree["replan"], outage=float(tree["outage"]))
    except (KeyError, TypeError, ValueError):
        return None
