"""All benchmarks, one command: `make bench`, or

    python benchmarks/run.py [--only joint,fixed,...] [--ours] [--out FOLDER] [--tiny]

Each part replaces its own section of benchmarks/results.json as soon as it is done, with the commit and the time it ran
at (`--ours` measures only pretune again and keeps what the peers took, which some of them take minutes for);
docs/benchmarks.md is written from that file. Times are processor time of the process unless a table says otherwise:
other work on the machine hardly changes it.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from table import page

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = ("numba", "numpy", "cvxpy", "clarabel", "pyscipopt", "casadi", "torch")

Rows = list[dict[str, Any]]


def measured(file: str, only: str = "") -> Callable[[bool, Path], Rows]:
    """A part that pytest-benchmark measures; `only` selects some of its tests."""

    def run(tiny: bool, scratch: Path) -> Rows:
        report = scratch / "report.json"
        command = [sys.executable, "-m", "pytest", str(HERE / file), "-q", "-o", "python_files=bench_*.py"]
        command += [f"--benchmark-json={report}", "--benchmark-timer=time.process_time", "--benchmark-quiet"]
        command += [
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "--timeout=3600",
            *(["--tiny"] if tiny else []),
            "-k",
            only,
        ]
        # A suite's worker (pytest-xdist) tells its children what it is, and pytest-benchmark then measures nothing.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        subprocess.run(command, cwd=ROOT, check=True, env={**outside, "OMP_NUM_THREADS": "1"})
        found = json.loads(report.read_text(encoding="utf-8"))["benchmarks"]
        return [
            {
                "name": one["name"].partition("[")[0],
                "group": one["group"],
                **{"case" if key == "name" else key: value for key, value in (one["params"] or {}).items()},
                "median_s": one["stats"]["median"],
                "least_s": one["stats"]["min"],
                "repeats": one["stats"]["rounds"],
                **one["extra_info"],
            }
            for one in found
        ]

    return run


def scripted(file: str, full: list[str], tiny: list[str]) -> Callable[[bool, Path], Rows]:
    """A part that is a script, which writes a JSON line for each case."""

    def run(quick: bool, scratch: Path) -> Rows:
        lines = scratch / "lines.jsonl"
        command = [sys.executable, str(HERE / file), *(tiny if quick else full), "--out", str(lines)]
        subprocess.run(command, cwd=ROOT, check=True)
        return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]

    return run


def written(results: dict[str, Any]) -> str:
    """The results as JSON, one row to a line."""
    marks: dict[str, str] = {}
    plain = {**results, "parts": {name: dict(part) for name, part in results["parts"].items()}}
    for name, part in plain["parts"].items():
        marks[f"rows of {name}"] = ",\n".join("    " + json.dumps(row, ensure_ascii=False) for row in part["rows"])
        part["rows"] = f"rows of {name}"
    text = json.dumps(plain, indent=1)
    for mark, rows in marks.items():
        text = text.replace(json.dumps(mark), f"[\n{rows}\n   ]")
    return text + "\n"


def oracle(tiny: bool, scratch: Path) -> Rows:
    """The figures over all draws; the lines themselves would be too long to keep."""
    rows = scripted("oracle.py", ["--fixed", "--count", "2000"], ["--fixed", "--count", "1"])(tiny, scratch)
    counted = [row for row in rows if "difference" in row]
    return [
        {
            "draws": len(rows),
            "counted": len(counted),
            "unsolved": [row["seed"] for row in rows if row["kernel"] != 0],
            "worst": max(counted, key=lambda row: abs(row["difference"]), default=None),
            "worst_gap": max(counted, key=lambda row: row["oracle_gap"], default=None),
        }
    ]


def plans(tiny: bool, scratch: Path) -> Rows:
    """The figures over whole plans of drawn scenarios, each checked; criterion trajectory beside the conic optimum."""
    size = ["--count", "2"] if tiny else ["--count", "100", "--seed", "5000"]
    rows = scripted("oracle.py", [*size, "--time-limit", "10"], [*size, "--time-limit", "2"])(tiny, scratch)
    gaps = [row for row in rows if row.get("gap") is not None and math.isfinite(row["gap"])]
    relaxed = [row for row in rows if "above_joint" in row]
    return [
        {
            "draws": len(rows),
            "statuses": dict(Counter(row["plan"] for row in rows)),
            "unproven": [row["seed"] for row in rows if not row.get("proven")],
            "worst_gap": max(gaps, key=lambda row: row["gap"], default=None),
            "relaxed": len(relaxed),
            "least_above": min(relaxed, key=lambda row: row["above_joint"], default=None),
        }
    ]


def scale(tiny: bool, scratch: Path) -> Rows:
    """A line for each size of the fleet, and the exponents of the fitted power laws."""
    out = scratch / "scale.json"
    sizes = ["--sizes", "1000", "2000"] if tiny else ["--access", "fdma", "tdma"]
    subprocess.run([sys.executable, str(HERE / "scale.py"), "--out", str(out), *sizes], cwd=ROOT, check=True)
    found = json.loads(out.read_text(encoding="utf-8"))
    return [*found["lines"], {"exponents": found["exponents"]}]


OURS = {"joint": "bench_joint.py", "fixed": "bench_fixed.py", "global": "bench_global.py"}
"""Parts with peers, which `--ours` does not measure again."""

PARTS: dict[str, Callable[[bool, Path], Rows]] = {
    "joint": measured("bench_joint.py"),
    "fixed": measured("bench_fixed.py"),
    "global": measured("bench_global.py"),
    "shell": measured("bench_shell.py"),
    "scale": scale,
    "exhaustive": scripted("exhaustive.py", ["--count", "120"], ["--count", "1"]),
    "oracle": oracle,
    "plans": plans,
    "simulation": scripted(
        "federated_simulation.py",
        [],
        ["--devices", "4", "--rounds", "3", "--repeats", "1", "--large", "20", "--peers", ""],
    ),
}


def test_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """What a row measures."""
    return tuple(row.get(key) for key in ("name", "group", "case", "way", "seed", "axis"))


def finite(value: Any) -> Any:
    """The same with null for infinities and what is no number: JSON has neither."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def now() -> str:
    """UTC, to the minute."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def commit() -> str:
    """The commit that was measured, with a plus where files had been changed."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--", "src", "benchmarks/*.py", "tests/planner")
    return (git("rev-parse", "--short=10", "HEAD") or "unknown") + ("+" if changed else "")


def machine() -> dict[str, Any]:
    """What the figures were measured on, without its name."""
    processor = platform.processor() or platform.machine()
    with open("/proc/cpuinfo", encoding="utf-8") if os.path.exists("/proc/cpuinfo") else open(os.devnull) as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "processor": names[0] if names else processor,
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **versions,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, by comma: " + ", ".join(PARTS))
    parser.add_argument("--out", type=Path, help="write both files into this folder instead")
    parser.add_argument("--tiny", action="store_true", help="small fleets and short searches: does it run at all?")
    parser.add_argument("--ours", action="store_true", help="measure only pretune again, keep the peers' rows")
    parser.add_argument("--page", action="store_true", help="only write the page again, from the results")
    options = parser.parse_args()
    results_file = (options.out or HERE) / "results.json"
    page_file = (options.out or ROOT / "docs") / "benchmarks.md"
    results: dict[str, Any] = {}
    if results_file.exists():
        results = json.loads(results_file.read_text(encoding="utf-8"))
    wanted = [] if options.page else [name for name in options.only.split(",") if name]
    if unknown := [name for name in wanted if name not in PARTS]:
        parser.error(f"no part is called {', '.join(unknown)}; there are {', '.join(PARTS)}")
    for name in wanted:
        print(f"== {name}", flush=True)
        before = results.get("parts", {}).get(name)
        again = before if options.ours and name in OURS else None
        run = measured(OURS[name], "test_pretune") if again else PARTS[name]
        with tempfile.TemporaryDirectory() as scratch:
            rows = finite(run(options.tiny, Path(scratch)))
        part = {"commit": commit(), "date": now(), "load": round(os.getloadavg()[0], 1), "rows": rows}
        if again:
            known = {test_of(row) for row in rows}
            rows += [row for row in again["rows"] if test_of(row) not in known]
            part["peers"] = again.get("peers") or {"commit": again["commit"], "date": again["date"]}
        results["machine"] = machine()
        results.setdefault("parts", {})[name] = part
        results_file.write_text(written(results), encoding="utf-8")
    page_file.write_text(page(results), encoding="utf-8")
    print(f"Written: {page_file.name}, {results_file.name}")


if __name__ == "__main__":
    main()
