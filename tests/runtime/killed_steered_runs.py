"""Run as a script by test_steered_run.py: steered runs killed with SIGKILL and gone on with (see killed_runs.py)."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import torch
from killed_runs import at_record, at_write, in_a_process
from steered import carry_out


def main(target: Path) -> None:
    torch.set_num_threads(1)
    report = {"whole": in_a_process(lambda: carry_out(target / "whole"))}
    for n in (7, 13):
        out = target / f"record-{n}"
        died = in_a_process(lambda n=n, out=out: carry_out(out, **at_record(n)()))
        report[out.name] = int(died == signal.SIGKILL)
        in_a_process(lambda out=out: carry_out(out))
    for n in (5,):
        for moment in ("half", "written", "renamed"):
            out = target / f"{moment}-{n}"
            died = in_a_process(lambda out=out, n=n, moment=moment: carry_out(out, **at_write(n, moment)()))
            report[out.name] = int(died == signal.SIGKILL)
            in_a_process(lambda out=out: carry_out(out))
    (target / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
