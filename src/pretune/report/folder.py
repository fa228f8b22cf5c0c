"""Read a run's folder into one object that the report is drawn from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune.errors import InputError
from pretune.ledger import Ledger, Stage, load_ledger, record_from_json
from pretune.plans import Plan, load_plan
from pretune.scenario import Scenario, load_scenario


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """What a run left behind; `summary` is empty while the run has not ended.

    `identity` (run.json) and `timing` (timing.json) are empty where there is no such file.
    """

    path: Path
    plan: Plan
    scenario: Scenario
    ledger: Ledger
    summary: Mapping[str, Any]
    identity: Mapping[str, Any]
    timing: Mapping[str, Any]

    @property
    def rounds_done(self) -> tuple[int, int]:
        """Rounds of pre-training and of fine-tuning in the ledger."""
        return self.ledger.rounds(Stage.PRETRAIN), self.ledger.rounds(Stage.FINETUNE)

    @property
    def rounds_planned(self) -> tuple[int, int]:
        """Rounds of both stages in the plan."""
        pretrain, finetune = self.plan.pretrain, self.plan.finetune
        return (pretrain.rounds if pretrain else 0), (finetune.rounds if finetune else 0)

    @property
    def complete(self) -> bool:
        """Whether every planned round was run."""
        return self.rounds_done == self.rounds_planned


def read_folder(path: str | os.PathLike[str]) -> RunFolder:
    """Read a run's folder, complete or not.

    Raises:
        InputError: the folder or one of its files is missing or damaged; the file is named.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"{folder}: is not a folder; give the folder of a run")
    for name in ("plan.json", "scenario.json", "ledger.jsonl"):
        if not (folder / name).is_file():
            raise InputError(f"{folder}: holds no {name}, so it is not the folder of a run")
    plan = load_plan(folder / "plan.json")
    if not plan.status.has_plan:
        raise InputError(f"{folder / 'plan.json'}: holds a plan that is {plan.status.value}, which nobody can have run")
    summary = _tree(folder / "summary.json")
    return RunFolder(
        path=folder,
        plan=plan,
        scenario=load_scenario(folder / "scenario.json"),
        ledger=load_ledger(folder) if summary else _unfinished(folder / "ledger.jsonl"),
        summary=summary,
        identity=_tree(folder / "run.json"),
        timing=_tree(folder / "timing.json"),
    )


def _unfinished(path: Path) -> Ledger:
    """The ledger of a run that has not ended: its last line may still be on its way to the disk."""
    text = path.read_bytes()
    if text.endswith(b"\n"):
        return load_ledger(path)
    whole = text[: text.rfind(b"\n") + 1]
    try:
        return Ledger(records=tuple(record_from_json(line) for line in whole.decode("utf-8").splitlines()))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is damaged before its last line ({error})") from None


def _tree(path: Path) -> Mapping[str, Any]:
    if not path.exists():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a whole JSON file ({error})") from None
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds a list or a single value, should hold an object")
    return tree
