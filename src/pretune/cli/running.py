"""`pretune run`: plan if need be, execute with live progress, say what came out, write the report."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pretune.cli.guard import Interrupted, complain
from pretune.cli.planning import check_options, make_plan, plan_exit_code
from pretune.control.rules import rules_of
from pretune.errors import InputError, MissingExtra, PretuneError, RunFailed
from pretune.plans import Plan, load_plan
from pretune.scenario import Scenario, load_scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from pretune.tracking import Tracking

BACKENDS = ("local", "federated")


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the command line asked for."""

    what: Path
    scenario: Path | None
    scenario_twice: bool
    out: Path | None
    seed: int
    threads: int
    backend: str
    aggregation: str
    processes: int
    device: str
    control: str
    replan: str
    outage: float
    resume: bool
    as_json: bool
    quiet: bool
    tolerance: float
    time_limit: float | None
    track: str | None = None
    track_uri: str | None = None


def run_command(request: Request) -> int:
    """Run a plan, or plan a scenario and run that."""
    check_options(request.tolerance, request.time_limit)
    if request.backend not in BACKENDS:
        raise InputError.field("--backend", request.backend, "one of " + ", ".join(BACKENDS))
    scenario_path = _scenario_path(request)
    rules_of(request.control, request.replan, request.outage)  # a wrong word is told before anything is planned
    folder = _folder(request)
    execute = _runtime()
    backend = _backend(request.backend)
    scenario = load_scenario(scenario_path)
    silent = request.quiet or request.as_json
    plan = _plan(request, scenario, folder)
    if not plan.status.has_plan:
        return plan_exit_code(plan, told=False)
    if not silent:
        from pretune.cli.show_run import announce

        announce(plan, scenario, folder)
    tracking = _tracking(request, plan, scenario, folder)
    try:
        with tracking or contextlib.nullcontext():
            _with_progress(
                plan,
                silent,
                lambda progress: execute(
                    plan,
                    scenario,
                    out=folder,
                    seed=request.seed,
                    threads=request.threads,
                    aggregation=request.aggregation,
                    processes=request.processes,
                    device=request.device,
                    control=request.control,
                    replan=request.replan,
                    outage=request.outage,
                    base=scenario_path.parent,
                    resume=request.resume,
                    progress=_both(progress, tracking),
                    backend=backend,
                ),
            )
            report = _report(folder)
            if tracking is not None:
                tracking.finish()
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; go on with: {_resume_line(folder, scenario_path, request)}") from None
    except RunFailed:
        # What was done until then is worth a look; the failure itself is told by its own line.
        with contextlib.suppress(PretuneError):
            report = _report(folder)
            if not silent:
                print(f"Report of the rounds before it failed: {report}")
        raise
    if request.as_json:
        print(json.dumps(_summary(folder, report), allow_nan=False))
    elif not request.quiet:
        from pretune.cli.show_run import show_result

        show_result(folder, report)
    return 0


def _tracking(request: Request, plan: Plan, scenario: Scenario, folder: Path) -> Tracking | None:
    """What tells an experiment tracker of the run; only here are trackers imported."""
    if request.track is None:
        if request.track_uri is not None:
            raise InputError("--track-uri: needs --track mlflow or --track tensorboard beside it")
        return None
    from pretune.tracking import open_tracking

    run = {"seed": request.seed, "backend": request.backend, "aggregation": request.aggregation}
    return open_tracking(
        request.track, request.track_uri, plan=plan, scenario=scenario, folder=folder, run=run, warn=complain
    )


def _both(first: Callable[[Any], Any] | None, second: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    """Tell both of each record, if there are both."""
    if first is None or second is None:
        return first or second

    def call(record: Any) -> None:
        first(record)
        second(record)

    return call


def _report(folder: Path) -> Path:
    """The report, in the run's own folder: one that is there is from before the run was resumed."""
    from pretune.report import write_report

    return write_report(folder, force=True)


def looks_like_plan(path: Path) -> bool:
    """Whether a file is a plan, also one that is cut off: only a plan is JSON with a status."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError):
        return text.lstrip().startswith("{") and re.search(r'"status"\s*:', text) is not None
    return isinstance(tree, dict) and "status" in tree


def _scenario_path(request: Request) -> Path:
    if request.scenario_twice:
        raise InputError("SCENARIO: is given twice, as an argument and with --scenario; give it once")
    is_plan = looks_like_plan(request.what)
    if is_plan and request.scenario is None:
        raise InputError(f"{request.what}: is a plan; name its scenario too: pretune run PLAN SCENARIO")
    if not is_plan and request.scenario is not None and request.what.exists():
        raise InputError(f"{request.what}: is not a plan file; with two files the first must be a plan")
    if request.scenario is not None:
        if not request.what.exists():
            raise InputError(f"{request.what}: can't be read as a plan file (No such file or directory)")
        return request.scenario
    return request.what


def _folder(request: Request) -> Path:
    """The run's folder, refused when it would overwrite something."""
    out = request.out
    if out is None:
        if request.resume:
            raise InputError("--resume: needs -o DIR, the folder of the run to go on with")
        number = 1
        while (Path("runs") / str(number)).exists():
            number += 1
        return Path("runs") / str(number)
    if request.resume and not out.is_dir():
        raise InputError(f"{out}: there is no such folder to resume")
    if not request.resume and (out.is_file() or (out.is_dir() and any(out.iterdir()))):
        raise InputError(f"{out}: exists already; give another folder, or --resume to go on with the run in it")
    return out


def _plan(request: Request, scenario: Scenario, folder: Path) -> Plan:
    if request.scenario is not None:
        return load_plan(request.what)
    if request.resume and (folder / "plan.json").is_file():
        # The run goes on with the plan it began with, whatever a new search would find.
        return load_plan(folder / "plan.json")
    return make_plan(scenario, tolerance=request.tolerance, time_limit=request.time_limit)


def _runtime() -> Callable[..., Any]:
    """The runtime's `run`; only here is PyTorch imported."""
    try:
        from pretune.runtime.run import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("train", error.name) from None
    return run


def _backend(name: str) -> Any:
    """Who carries out the devices' part: None for the simulation; only here is gRPC imported."""
    if name == "local":
        return None
    try:
        from pretune.runtime.federated.loopback import Loopback
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "pretune":
            raise
        raise MissingExtra("flower", error.name) from None
    return Loopback()


def _with_progress(plan: Plan, silent: bool, call: Callable[[Any], Any]) -> Any:
    if silent:
        return call(None)
    from pretune.cli.show_run import Progress

    with Progress(plan) as progress:
        return call(progress)


def _resume_line(folder: Path, scenario: Path, request: Request) -> str:
    words = ["pretune", "run", str(folder / "plan.json"), str(scenario), "-o", str(folder), "--resume"]
    if request.seed:
        words += ["--seed", str(request.seed)]
    if request.backend != "local":
        words += ["--backend", request.backend]
    if request.aggregation != "mean":
        words += ["--aggregation", request.aggregation]
    if request.track is not None:
        words += ["--track", request.track]
        words += ["--track-uri", request.track_uri] if request.track_uri is not None else []
    if request.control != "none":
        words += ["--control", request.control]
    if request.replan != "off":
        words += ["--replan", request.replan]
    if request.outage:
        words += ["--outage", f"{request.outage:g}"]
    return shlex.join(words)


def _summary(folder: Path, report: Path) -> dict[str, Any]:
    tree = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {**tree, "folder": str(folder), "report": str(report)}
