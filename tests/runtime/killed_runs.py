"""Run as a script by test_resume.py: starts runs in processes of their own and kills them with SIGKILL.

    killed_runs.py FOLDER      reference runs, then every case, each in a sub-folder of its own

Everything heavy is imported once, before the processes are forked. A process kills itself at a named moment, which
is the one way to hit the middle of a write; test_resume.py also kills from outside.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from runtime_helpers import hand_plan, norm_task, small_scenario, tiny_task

from pretune.runtime import checkpoint, folder
from pretune.runtime.run import run

ROUNDS = (20, 10)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def at_record(n: int) -> Callable[[], dict]:
    """Die when the n-th record of this process has been entered."""

    def arm() -> dict:
        seen = []

        def progress(record) -> None:
            seen.append(record)
            if len(seen) == n:
                kill()

        return {"progress": progress}

    return arm


def at_write(n: int, moment: str) -> Callable[[], dict]:
    """Die in the n-th whole-file write: halfway through the part file, before its renaming, or right after it."""

    def arm() -> dict:
        seen = []
        real_replace, real_write = os.replace, checkpoint.write_whole

        def replace(source, target) -> None:
            if len(seen) == n and moment == "written":
                kill()
            real_replace(source, target)
            if len(seen) == n and moment == "renamed":
                kill()

        def write(path: Path, data: bytes) -> None:
            seen.append(path)
            if len(seen) == n and moment == "half":
                path.with_name(path.name + ".part").write_bytes(data[: len(data) // 2])
                kill()
            real_write(path, data)

        checkpoint.os.replace = replace
        checkpoint.write_whole = folder.write_whole = write
        return {}

    return arm


def carry_out(out: Path, kind: str = "plain", **options) -> None:
    scenario = small_scenario()
    task = norm_task() if kind == "norm" else tiny_task()
    plan = hand_plan(scenario, rounds=ROUNDS)
    run(plan, scenario, out=out, task=task, checkpoint_every=7, checkpoint_s=1e9, evaluate_every=5, **options)


def in_a_process(act: Callable[[], None]) -> int:
    """Do `act` in a forked process; returns the signal that ended it, 0 if it ended well."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status):
        if os.WEXITSTATUS(status):
            raise SystemExit("a run failed")
        return 0
    return os.WTERMSIG(status)


def killed_then_finished(out: Path, arm: Callable[[], dict], kind: str = "plain") -> int:
    """Start a run that dies as `arm` says, again and again, until one gets through; returns how often it died."""
    deaths = 0
    while in_a_process(lambda: carry_out(out, kind, **arm())) == signal.SIGKILL:
        deaths += 1
        if arm.__qualname__.startswith("at_write"):
            return deaths + in_a_process(lambda: carry_out(out, kind))
        if deaths > 40:
            raise SystemExit("no progress from start to start")
    return deaths


def main(target: Path) -> None:
    torch.set_num_threads(1)
    report = {}
    for kind in ("plain", "norm"):
        in_a_process(lambda kind=kind: carry_out(target / f"whole-{kind}", kind))
        report[f"chain-{kind}"] = killed_then_finished(target / f"chain-{kind}", at_record(9), kind)
    for n in (1, 2, 8, 21, 31):
        # only the first start dies: at record n of it
        out = target / f"record-{n}"
        died = in_a_process(lambda n=n, out=out: carry_out(out, **at_record(n)()))
        report[out.name] = int(died == signal.SIGKILL)
        in_a_process(lambda out=out: carry_out(out))
    for n in range(1, 11):
        for moment in ("half", "written", "renamed"):
            out = target / f"{moment}-{n}"
            report[out.name] = killed_then_finished(out, at_write(n, moment))
    (target / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
