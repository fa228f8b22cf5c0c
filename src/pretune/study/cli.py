"""`pretune-experiments`: list, run, status, merge, page. What a command needs is imported only when it runs."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pretune.cli.guard import complain, guarded
from pretune.executor import Engine
from pretune.study.points import Scale
from pretune.version import __version__

if TYPE_CHECKING:
    from pretune.study.runner import Order

PROGRAM = "pretune-experiments"
ALL = "all"

app = typer.Typer(
    name=PROGRAM,
    help="The numerical study: measure its experiments, and write the page from what was measured.",
    epilog="Exit codes: 0 done, 2 bad usage or bad input, 130 interrupted, 1 some points failed, or anything else.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Folder = Annotated[
    Path | None,
    typer.Option("--folder", metavar="DIR", help="Folder of experiment files; by default experiments/study."),
]
Out = Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder of the study, new or to go on with.")]
ScaleOption = Annotated[Scale, typer.Option("--scale", help="Seconds, to see that it works, or all of it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, and nothing else, on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing when all goes well.")]
Shard = Annotated[
    str, typer.Option("--shard", metavar="I/N", help="Only part I of N of the points, the same on every machine.")
]
RUNS = Path("runs") / "study"


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = None if args is None else list(args)
    return guarded(lambda: int(app(args=given, prog_name=PROGRAM, standalone_mode=False) or 0))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """The numerical study: measure its experiments, and write the page from what was measured."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


@app.command("list")
def list_command(folder: Folder = None, scale: ScaleOption = Scale.FULL, as_json: AsJson = False) -> int:
    """The experiments, how many points each has, and what it asks."""
    from pretune.study.registry import find_folder, load, names_in, points_of
    from pretune.study.show import show_list

    where = find_folder(folder)
    found = [(one, len(points_of(one, scale))) for one in (load(where, name) for name in names_in(where))]
    if as_json:
        rows = [
            {"name": one.name, "title": one.title, "question": one.question, "points": points} for one, points in found
        ]
        print(json.dumps({"experiments": rows}))
    else:
        scripts = sorted(path.stem for path in where.parent.glob("*.py") if "__main__" in path.read_text("utf-8"))
        show_list(found, scripts)
    return 0


@app.command("run")
def run_command(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Experiments, or all.")],
    *,
    out: Out = RUNS,
    folder: Folder = None,
    scale: ScaleOption = Scale.FULL,
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", metavar="N", min=1, help="Points at once; by default one for each core."),
    ] = None,
    engine: Annotated[
        Engine, typer.Option("--engine", help="This machine's processes, a Ray cluster, or one after the other.")
    ] = Engine.PROCESSES,
    address: Annotated[
        str | None, typer.Option("--address", metavar="ADDRESS", help="Of a running Ray cluster, such as auto.")
    ] = None,
    shard: Shard = "1/1",
    again: Annotated[bool, typer.Option("--again", help="Measure what is there already, too.")] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Let points count that another version of the code has measured.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> int:
    """Measure the points of experiments that are not measured yet.

    Points are written down as they come: the same command goes on after a kill. A point that fails does not stop the
    others and is tried again the next time. Exit code 1 says that some failed.
    """
    from pretune.cli.guard import Interrupted
    from pretune.study.runner import run, works
    from pretune.study.show import Board, show_result

    typed = _typed() or ["run", *names, "-o", str(out)]
    # what is kept is for the page, which no path of this machine belongs into
    kept = [Path(word).name if Path(word).is_absolute() else word for word in typed]
    command = shlex.join([PROGRAM, *kept])
    order = _order(names, out, folder, scale, shard, jobs, engine, address, again, keep, command)
    todo = works(order)
    for work in todo:
        if work.other_versions and not again:
            count = (
                f"{work.experiment.name}: {work.other_versions} points are measured by another version of the code only"
            )
            complain(
                f"{count}; they " + ("count, as --keep says" if keep else "are measured again (--keep lets them count)")
            )
    try:
        with Board(sum(len(work.left) for work in todo), shown=not (quiet or as_json)) as board:
            result = run(order, board.tell)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted; what is measured is kept, go on with: {shlex.join([PROGRAM, *typed])}"
        ) from None
    complain(*result.failures)
    if as_json:
        print(json.dumps(vars(result)))
    elif not quiet:
        show_result(result, out)
    return 1 if result.failures else 0


@app.command("status")
def status_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Experiments; by default all.")] = None,
    *,
    out: Out = RUNS,
    folder: Folder = None,
    scale: ScaleOption = Scale.FULL,
    shard: Shard = "1/1",
    keep: Annotated[
        bool, typer.Option("--keep", help="Let points count that another version of the code has measured.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """How far a study is, and about how much processor time is still to go."""
    from pretune.study.runner import works
    from pretune.study.show import show_works

    todo = works(_order(names or [ALL], out, folder, scale, shard, keep=keep))
    if as_json:
        rows = [
            {
                "name": work.experiment.name,
                "version": work.version,
                "points": len(work.points),
                "done": len(work.done),
                "other_versions": work.other_versions,
                "cpu_s": round(sum(one.cpu_s for one in work.done.values()), 3),
            }
            for work in todo
        ]
        print(json.dumps({"experiments": rows}))
    else:
        show_works(todo)
    return 0


@app.command("merge")
def merge_command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders that shards were run into.")],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Folder that gets all, new or one of them.")],
    quiet: Quiet = False,
) -> int:
    """Join the folders of shards into one, which `run`, `status` and `page` then take as one study."""
    from pretune.study.store import merge

    total = merge(folders, out)
    if not quiet:
        typer.echo(f"{out}: {total} points")
    return 0


@app.command("page")
def page_command(
    studies: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[DIR]...", help="Studies' folders to take results from; without, the page is redone."),
    ] = None,
    *,
    folder: Folder = None,
    results: Annotated[
        Path | None, typer.Option("--results", metavar="DIR", help="The results' folder; by default FOLDER/results.")
    ] = None,
    docs: Annotated[
        Path, typer.Option("--docs", metavar="DIR", help="Folder that gets study.md and the figures.")
    ] = Path("docs"),
    quiet: Quiet = False,
) -> int:
    """Take a study's tables into the results, and write the page and its figures from them."""
    from pretune.study.page import collect, write_page
    from pretune.study.registry import find_folder

    where = find_folder(folder)
    kept = results or where / "results"
    for study in studies or []:
        taken = collect(study, where, kept)
        if not quiet:
            typer.echo(f"{study}: {', '.join(taken) or 'nothing of these experiments'}")
    target = write_page(where, kept, docs)
    if not quiet:
        typer.echo(f"Page: {target}")
    return 0


def _order(
    names: Sequence[str],
    out: Path,
    folder: Path | None,
    scale: Scale,
    shard: str,
    jobs: int | None = None,
    engine: Engine = Engine.PROCESSES,
    address: str | None = None,
    again: bool = False,
    keep: bool = False,
    command: str = "",
) -> Order:
    from pretune.study.registry import find_folder, names_in
    from pretune.study.runner import Order

    where = find_folder(folder)
    return Order(
        folder=where,
        names=tuple(names_in(where)) if ALL in names else tuple(names),
        out=out,
        scale=scale,
        engine=engine,
        workers=jobs,
        address=address,
        shard=read_shard(shard),
        again=again,
        keep=keep,
        command=command,
    )


def _typed() -> list[str]:
    """The words after the program's name; none where it was called from Python."""
    program = Path(sys.argv[0])
    own = program.stem.startswith(PROGRAM) or program.parts[-2:] == ("study", "__main__.py")
    return sys.argv[1:] if own else []


def read_shard(text: str) -> tuple[int, int]:
    """The part and the number of parts of ``2/4``.

    Raises:
        InputError: it is none.
    """
    from pretune.errors import InputError

    part, slash, parts = text.partition("/")
    if slash and part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts) <= 10_000:
        return int(part), int(parts)
    raise InputError.field("--shard", text, "I/N with 1 <= I <= N, such as 2/4")
