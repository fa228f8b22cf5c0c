"""`pretune calibrate`: read, measure with progress, write the scenario back, say what came out."""

from __future__ import annotations

import datetime
import json
import math
import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.calibration.decide import Decision, decide
from pretune.calibration.fill import STEPS, filled
from pretune.calibration.rewrite import changed, rewritten, toml_library
from pretune.cli.guard import Interrupted
from pretune.cli.planning import refuse_existing
from pretune.errors import InputError, MissingExtra
from pretune.loader import read_tree
from pretune.measured import Measurement, Measurements
from pretune.scenario import Scenario, scenario_from_dict

if TYPE_CHECKING:
    from pretune.runtime.calibrate import Calibration


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    scenario: Path
    out: Path | None
    samples: int
    seconds: float
    repetitions: int
    seed: int
    overwrite: bool
    resume: bool
    force: bool
    as_json: bool
    quiet: bool

    @property
    def target(self) -> Path:
        """The file that is written."""
        return self.out or self.scenario

    @property
    def state(self) -> Path:
        """Where an unfinished calibration is kept."""
        return self.target.with_name(self.target.name + ".calibration.json")


def run_calibrate(wanted: Wanted) -> int:
    """Calibrate; nothing is written but the state until all has been measured and the new file has been read back."""
    tree = _check(wanted)
    base = wanted.scenario.parent
    scenario = filled(tree, base)
    try:
        found = _measure(wanted, scenario, tree)
    except KeyboardInterrupt:
        if not wanted.state.exists():
            raise
        raise Interrupted(f"interrupted; go on with: {_resume_line(wanted)}") from None
    decision = decide(
        found.figures.single,
        found.figures.device_variance,
        tree=tree,
        scenario=scenario,
        overwrite=wanted.overwrite,
        date=datetime.date.today().isoformat(),
        seed=wanted.seed,
    )
    written = _write(wanted, tree, decision)
    if wanted.as_json:
        print(json.dumps(_summary(wanted, found, decision, written), allow_nan=False))
    elif not wanted.quiet:
        from pretune.cli.show_calibrate import show_calibration

        show_calibration(Measurements(**decision.measured), decision, found, wanted.target)
    return 0


def _check(wanted: Wanted) -> dict[str, Any]:
    """Everything that can be refused before any work; returns the scenario file's tree."""
    if not (wanted.seconds > 0 and math.isfinite(wanted.seconds)):
        raise InputError.field("--seconds", wanted.seconds, "a number of seconds above 0")
    tree = read_tree(wanted.scenario)
    if wanted.scenario.suffix.lower() == ".toml":
        toml_library()  # known to be there before any work
    out = wanted.out
    if out is not None:
        if out.suffix.lower() != wanted.scenario.suffix.lower():
            raise InputError(f"{out}: has the suffix {out.suffix!r}, should have that of {wanted.scenario.name}")
        refuse_existing(out, force=wanted.force or out == wanted.scenario)
        if out.parent.resolve() != wanted.scenario.parent.resolve():
            _refuse_moving(tree, out)
    if wanted.force and not wanted.resume:
        wanted.state.unlink(missing_ok=True)
    if wanted.state.exists() and not wanted.resume:
        raise InputError(
            f"{wanted.state}: an unfinished calibration is there; go on with --resume, or drop it with --force"
        )
    if wanted.resume and not wanted.state.exists():
        raise InputError(f"{wanted.state}: there is no such calibration to resume")
    return tree


def _refuse_moving(tree: dict[str, Any], out: Path) -> None:
    """Relative paths in a scenario start at its folder, so it can't be written into another one."""
    for section, keys in (("devices", ("file", "folder")), ("task", ("file", "folder"))):
        part = tree.get(section)
        for key in keys if isinstance(part, dict) else ():
            given = part.get(key) if isinstance(part, dict) else None
            if isinstance(given, str) and not Path(given).expanduser().is_absolute():
                raise InputError(
                    f"{out}: is in another folder than the scenario, whose {section}.{key} is relative to its own; "
                    "write it beside the scenario"
                )


def _measure(wanted: Wanted, scenario: Scenario, tree: dict[str, Any]) -> Calibration:
    try:
        from pretune.runtime.calibrate import Budget, calibrate
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("train", error.name) from None
    from pretune.cli.show_calibrate import Progress

    margin = Budget().settings.margin
    writes = (tree.get("convergence") or {}).get("smoothness") is None or wanted.overwrite or _as_measured(scenario)
    bar = None if wanted.quiet or wanted.as_json else Progress()

    def seen(look: Any, count: int, most: int) -> None:
        if bar is not None:
            bar(count, most)
        steepest = margin * max(look.curvature, look.secant)
        for key in STEPS if writes else ():
            step = getattr(scenario.convergence, key)
            if step * steepest > 1.0:
                should = f"a step of at most 1/smoothness = {1.0 / steepest:.3g}, as measured on its own path"
                raise InputError.field(f"convergence.{key}", step, should)

    with bar if bar is not None else nullcontext():
        return calibrate(
            scenario,
            state=wanted.state,
            base=wanted.scenario.parent,
            budget=Budget(samples=wanted.samples, seconds=wanted.seconds, repetitions=wanted.repetitions),
            seed=wanted.seed,
            resume=wanted.resume,
            seen=seen,
        )


def _as_measured(scenario: Scenario) -> bool:
    """Whether the smoothness in use is from an earlier calibration, so that it will be replaced."""
    old = scenario.measured.smoothness if scenario.measured is not None else None
    return old is not None and old.is_value(scenario.convergence.smoothness)


def _write(wanted: Wanted, tree: dict[str, Any], decision: Decision) -> Scenario:
    """Write the scenario, whole or not at all, and remove the state.

    Raises:
        InputError: with these values it would be no valid scenario; the state stays, for --resume.
    """
    from pretune.runtime.checkpoint import write_whole

    made = scenario_from_dict(changed(tree, decision.values, decision.measured), wanted.scenario.parent)
    try:
        with open(wanted.scenario, encoding="utf-8-sig", newline="") as file:
            text = file.read()
        new = rewritten(text, wanted.scenario.suffix, decision.values, decision.measured)
        write_whole(wanted.target, new.encode())
        wanted.state.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(f"{wanted.target}: can't be written ({error.strerror})") from None
    return made


def _resume_line(wanted: Wanted) -> str:
    words = ["pretune", "calibrate", str(wanted.scenario)]
    words += ["-o", str(wanted.out)] if wanted.out is not None else []
    for name, value, usual in (
        ("--samples", wanted.samples, 2000),
        ("--seconds", wanted.seconds, 300.0),
        ("--repetitions", wanted.repetitions, 5),
        ("--seed", wanted.seed, 0),
    ):
        words += [name, f"{value:g}" if isinstance(value, float) else str(value)] if value != usual else []
    words += ["--overwrite"] if wanted.overwrite else []
    words += ["--force"] if wanted.force else []
    return shlex.join([*words, "--resume"])


def _summary(wanted: Wanted, found: Calibration, decision: Decision, written: Scenario) -> dict[str, Any]:
    return {
        "scenario": str(wanted.target),
        "scenario_sha256": written.sha256,
        "repetitions": found.repetitions,
        "seconds": round(found.seconds, 3),
        "measured": {key: Measurement(**entry).to_dict() for key, entry in decision.measured.items()},
        "written": {section: dict(part) for section, part in decision.values.items()},
        "kept": list(decision.kept),
        "notes": list(found.figures.notes),
    }
