"""`pretune pilot`: make the runs with a progress bar, say what came out, write the scenario with the law."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pretune.cli.guard import Interrupted
from pretune.cli.planning import refuse_existing
from pretune.cli.show_plan import console, table_of
from pretune.convergence.design import design_for
from pretune.errors import InputError, MissingExtra
from pretune.law import Law
from pretune.report.words import count, joules, percent, seconds, significant
from pretune.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from pretune.runtime.pilot import Pilot

_YAML = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    scenario: Path
    out: Path
    measure: str
    pretrain_rounds: int | None
    finetune_rounds: int | None
    arms: int
    stops: int
    seed: int
    runs: Path | None
    as_json: bool
    quiet: bool
    force: bool


def run_pilot_command(wanted: Wanted) -> int:
    """Make (or go on with) the pilot runs and write the scenario with the law."""
    out, runs = wanted.out, wanted.runs or wanted.out.with_name(wanted.out.name + ".pilot.json")
    if out.suffix.lower() not in (*_YAML, ".json"):
        raise InputError(f"{out}: has the suffix {out.suffix!r}, should have one of {', '.join(_YAML)}, .json")
    refuse_existing(out, force=wanted.force)
    scenario = load_scenario(wanted.scenario)
    _refuse_moved(scenario, wanted.scenario, out)
    design = design_for(
        scenario,
        pretrain_rounds=wanted.pretrain_rounds,
        finetune_rounds=wanted.finetune_rounds,
        arms=wanted.arms,
        stops=wanted.stops,
        seed=wanted.seed,
    )
    execute = _runtime()
    silent = wanted.quiet or wanted.as_json

    def make(beat: Callable[[int], None] | None) -> Pilot:
        found: Pilot = execute(
            scenario, file=runs, design=design, measure=wanted.measure, base=wanted.scenario.parent, beat=beat
        )
        return found

    try:
        if silent:
            pilot = make(None)
        else:
            with RichProgress(
                TextColumn("Pilot runs"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TextColumn("rounds"),
                TimeRemainingColumn(compact=True),
                console=console(),
            ) as bars:
                bar = bars.add_task("", total=design.rounds)
                pilot = make(lambda rounds: bars.advance(bar, rounds))
    except KeyboardInterrupt:
        again = shlex.join(["pretune", "pilot", str(wanted.scenario), "-o", str(out)])
        raise Interrupted(
            f"interrupted; what was done is in {runs}: give the same command again ({again} ...)"
        ) from None
    write_law(scenario, wanted.scenario, out, pilot.law)
    if wanted.as_json:
        print(json.dumps(_summary(pilot, out, runs), allow_nan=False))
    elif not wanted.quiet:
        _show(pilot, scenario, out, runs)
    return 0


def write_law(scenario: Scenario, path: Path, out: Path, law: Law) -> None:
    """A copy of the scenario file that minimises the law; a YAML file keeps its comments.

    Raises:
        InputError: it can't be written.
    """
    try:
        if path.suffix.lower() in _YAML and out.suffix.lower() in _YAML:
            from ruamel.yaml import YAML

            yaml = YAML(typ="rt")
            yaml.width = 4096  # lines stay as they are
            yaml.preserve_quotes = True
            yaml.indent(mapping=2, sequence=4, offset=2)
            tree = yaml.load(path.read_text(encoding="utf-8-sig"))
            tree["convergence"]["criterion"] = "calibrated"
            tree["convergence"].ca.items.pop("criterion", None)  # a comment beside it spoke of another criterion
            tree["convergence"]["law"] = law.to_dict()
            with out.open("w", encoding="utf-8") as file:
                yaml.dump(tree, file)
        else:
            resolved = scenario.to_dict()
            resolved["convergence"] = {
                **resolved["convergence"],
                "criterion": "calibrated",
                "law": law.to_dict(),
            }
            out.write_text(json.dumps(resolved, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out}: can't be written ({error.strerror})") from None


def _refuse_moved(scenario: Scenario, path: Path, out: Path) -> None:
    """A copy elsewhere would look for the scenario's own files in the wrong folder."""
    if path.resolve().parent == out.resolve().parent:
        return
    text = path.read_text(encoding="utf-8-sig")
    for key in ("file", "folder"):
        named = (scenario.task or {}).get(key)
        if isinstance(named, str) and not Path(named).is_absolute():
            raise InputError(f"{out}: should be in the folder of {path}, whose task.{key} is relative to it")
    if path.suffix.lower() in _YAML and out.suffix.lower() in _YAML and (key := _fleet_file(text)):
        raise InputError(f"{out}: should be in the folder of {path}, whose devices.{key} is relative to it")


def _fleet_file(text: str) -> str:
    """The key under `devices` that holds a relative path, or nothing."""
    from ruamel.yaml import YAML

    tree = YAML(typ="safe").load(text)
    devices = tree.get("devices") if isinstance(tree, Mapping) else None
    for key in ("file", "folder"):
        named = devices.get(key) if isinstance(devices, Mapping) else None
        if isinstance(named, str) and not Path(named).is_absolute():
            return key
    return ""


def _runtime() -> Callable[..., Any]:
    """The runtime's `run_pilot`; only here is PyTorch imported."""
    try:
        import torch

        from pretune.runtime.pilot import run_pilot
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("train", error.name) from None
    torch.set_num_threads(1)  # small models: threads cost more than they bring, and change the last bits
    return run_pilot


def _summary(pilot: Pilot, out: Path, runs: Path) -> dict[str, Any]:
    return {
        "scenario": str(out),
        "runs": str(runs),
        "points": len(pilot.rows),
        "law": pilot.law.to_dict(),
        "errors": dict(pilot.fit.errors),
        "cost": asdict(pilot.cost),
    }


def _show(pilot: Pilot, scenario: Scenario, out: Path, runs: Path) -> None:
    law, spent, budget = pilot.law, pilot.cost, scenario.budget
    page = console()
    table = table_of("Law", "Error on paths left out")
    for family, error in sorted(pilot.fit.errors.items(), key=lambda item: item[1]):
        table.add_row(f"{family}{' (chosen)' if family == law.family else ''}", percent(error))
    page.print(table)
    spread = significant(law.spread or 0.0, 2)
    page.print(f"It predicts the test {law.measure}; nine runs in ten within a factor exp(±{spread}).")
    page.print(
        f"The pilot: {count(spent.pretrain_rounds)} pre-training and {count(spent.finetune_rounds)} fine-tuning "
        f"rounds, {count(spent.server_samples + spent.device_samples)} samples, {seconds(spent.wall_s)} here. "
        f"On the scenario's own machines at full speed it would take {seconds(spent.time_s)} and "
        f"{joules(spent.energy_j)}: {significant(spent.time_s / budget.delay_s, 2)} and "
        f"{significant(spent.energy_j / budget.energy_j, 2)} times the budgets it helps to spend."
    )
    page.print(f"Scenario: {out}\nPilot runs: {runs}")
