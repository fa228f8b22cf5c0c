"""The commands and their options; each one imports what it needs only when it runs, so that help is fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pretune.cli.admit import admit_command
from pretune.cli.calibrate import calibrate_command
from pretune.cli.compare import compare_command
from pretune.cli.federation import device_command, enroll_command, server_command
from pretune.cli.guard import guarded
from pretune.cli.pareto import pareto_command
from pretune.cli.pilot import pilot_command
from pretune.cli.profile import profile_command
from pretune.cli.studio import studio_command
from pretune.cli.sweep import sweep_command
from pretune.version import __version__

app = typer.Typer(
    name="pretune",
    help="Plan and run two-stage edge learning within an energy and a delay budget.",
    epilog="Exit codes: 0 done, 2 bad usage or bad input, 3 proven infeasible, 130 interrupted, 1 anything else.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO", help="Scenario file (YAML, TOML or JSON).")]
PlanFile = Annotated[Path, typer.Argument(metavar="PLAN", help="Plan file (JSON).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")]
Tolerance = Annotated[
    float, typer.Option("--tolerance", metavar="SHARE", help="Stop when the proven gap is at most this share.")
]
TimeLimit = Annotated[
    float | None, typer.Option("--time-limit", metavar="SECONDS", help="Stop planning after this long.")
]


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = None if args is None else list(args)
    return guarded(lambda: int(app(args=given, prog_name="pretune", standalone_mode=False) or 0))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"pretune {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Plan and run two-stage edge learning within an energy and a delay budget."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command()
def plan(
    scenario: ScenarioFile,
    *,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write the plan file here.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    tolerance: Tolerance = 1e-4,
    time_limit: TimeLimit = None,
    force: Force = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say what binds, and what a little more would buy.")
    ] = False,
) -> int:
    """Compute the best plan the budgets can buy, and a proof of how good it is.

    Exit code 3 says that no plan fits, which is proven; what clashes and what would do is printed.
    """
    from pretune.cli.planning import plan_command

    return plan_command(
        scenario,
        out=out,
        as_json=as_json,
        quiet=quiet,
        tolerance=tolerance,
        time_limit=time_limit,
        force=force,
        explained=explain,
    )


@app.command()
def check(plan: PlanFile, scenario: ScenarioFile, as_json: AsJson = False, quiet: Quiet = False) -> int:
    """Recompute every constraint and the certificate of a plan without the solver; exit 0 only if all hold.

    PLAN may also be an admission's file, with the scenario of the whole fleet: then the bound over all subsets too.
    """
    from pretune.cli.planning import check_command

    return check_command(plan, scenario, as_json=as_json, quiet=quiet)


@app.command()
def run(
    what: Annotated[Path, typer.Argument(metavar="PLAN|SCENARIO", help="A plan, or a scenario to plan first.")],
    scenario: Annotated[
        Path | None, typer.Argument(metavar="[SCENARIO]", help="The plan's scenario, when a plan comes first.")
    ] = None,
    *,
    scenario_option: Annotated[
        Path | None, typer.Option("--scenario", metavar="SCENARIO", help="The same, as an option.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="DIR", help="Folder of the run; by default the next free runs/N."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of all that is random.")] = 0,
    threads: Annotated[
        int,
        typer.Option(
            "--threads",
            metavar="N",
            min=1,
            help="PyTorch's threads; more pay off for large models, and change the last bits.",
        ),
    ] = 1,
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="NAME",
            help="local (simulated), or federated: devices on TLS streams of their own, within this machine.",
        ),
    ] = "local",
    aggregation: Annotated[
        str,
        typer.Option(
            "--aggregation",
            metavar="RULE",
            help="How the devices' gradients become one: mean, median, trimmed:T or clip:C.",
        ),
    ] = "mean",
    processes: Annotated[
        int, typer.Option("--processes", metavar="N", min=1, help="Processes that pre-train together, data parallel.")
    ] = 1,
    device: Annotated[
        str, typer.Option("--device", metavar="DEVICE", help="What pre-training computes on: cpu or cuda.")
    ] = "cpu",
    control: Annotated[
        str,
        typer.Option(
            "--control",
            metavar="HOW",
            help="none: the plan's clocks and powers; rounds: the best ones for what each round meets.",
        ),
    ] = "none",
    replan: Annotated[
        str,
        typer.Option(
            "--replan",
            metavar="WHEN",
            help="Plan anew for what is left: off, auto (with a reason) or every (round); needs --control rounds.",
        ),
    ] = "off",
    outage: Annotated[
        float,
        typer.Option(
            "--outage",
            metavar="SHARE",
            help="Share of rounds, up to 0.5, in which a device is left out because its channel is too bad.",
        ),
    ] = 0.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the unfinished run in DIR.")] = False,
    track: Annotated[
        str | None,
        typer.Option("--track", metavar="TRACKER", help="Write the run's figures to mlflow or tensorboard as well."),
    ] = None,
    track_uri: Annotated[
        str | None,
        typer.Option("--track-uri", metavar="URI", help="Where: MLflow's tracking URI, or TensorBoard's folder."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    tolerance: Tolerance = 1e-4,
    time_limit: TimeLimit = None,
) -> int:
    """Execute a plan: pre-train, fine-tune, keep the ledger, write the report.

    Needs the optional part `train`. A run that was interrupted goes on with --resume.
    """
    from pretune.cli.running import Request, run_command

    return run_command(
        Request(
            what=what,
            scenario=scenario_option or scenario,
            scenario_twice=scenario is not None and scenario_option is not None,
            out=out,
            seed=seed,
            threads=threads,
            backend=backend,
            aggregation=aggregation,
            processes=processes,
            device=device,
            control=control,
            replan=replan,
            outage=outage,
            resume=resume,
            as_json=as_json,
            quiet=quiet,
            tolerance=tolerance,
            time_limit=time_limit,
            track=track,
            track_uri=track_uri,
        )
    )


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run, complete or not.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="HTML file; by default DIR/report.html.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> int:
    """Write a self-contained HTML report of a run; it opens offline."""
    from pretune.report import write_report

    target = write_report(folder, out, force=force)
    if not quiet:
        typer.echo(f"Report: {target}")
    return 0


app.command("compare")(compare_command)
app.command("admit")(admit_command)
app.command("calibrate")(calibrate_command)


app.command("profile")(profile_command)
app.command("pareto")(pareto_command)
app.command("pilot")(pilot_command)
app.command("sweep")(sweep_command)
app.command("server")(server_command)
app.command("device")(device_command)
app.command("enroll")(enroll_command)
app.command("studio")(studio_command)
