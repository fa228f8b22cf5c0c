"""The page of benchmarks, written from results.json; every figure on it is computed here from the measured rows."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

from simulation_table import section as simulation

Rows = list[dict[str, Any]]

HEAD = """\
# Benchmarks

<!-- Written by `make bench` from benchmarks/results.json. -->

`make bench` runs them all and writes this page. Times are processor time of one process, medians after a warm-up,
unless a table says otherwise; ratios above 1 are in pretune's favour. Every peer gets the scenario that pretune gets.
What is compared is in `benchmarks/`; none of the scenarios was picked for its result.
"""


def page(results: dict[str, Any]) -> str:
    """The page as Markdown."""
    parts = results.get("parts", {})
    text = [HEAD, _machine(results.get("machine", {}), parts), _summary(parts)]
    text += [write(parts[name]["rows"]) for name, write in SECTIONS.items() if name in parts]
    return "\n".join(text)


def _machine(machine: dict[str, Any], parts: dict[str, Any]) -> str:
    if not machine:
        return "Nothing has been measured yet.\n"
    tools = ", ".join(f"{name} {machine[name]}" for name in machine if name not in ("processor", "cores", "memory_gib"))
    lines = [f"Machine: {machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {tools}.", ""]
    body = []
    for name, part in parts.items():
        body.append((name, f"`{part['commit']}`", part["date"], str(part.get("load", "–"))))
        if "peers" in part:
            body.append((f"{name}, the peers", f"`{part['peers']['commit']}`", part["peers"]["date"], "–"))
    lines += table(("part", "commit", "measured", "processes that wanted a core"), body)
    return "\n".join(lines) + "\n"


def _summary(parts: dict[str, Any]) -> str:
    """What was aimed at beside what was measured."""
    body: list[tuple[str, str, str]] = []
    if "joint" in parts:
        rows = [row for row in parts["joint"]["rows"] if row["group"] == "joint"]
        ours = {row["case"]: row for row in rows if row["name"] == "test_pretune"}
        peers = [row for row in rows if row["name"] == "test_literature"]
        by_way = {"once": [], "anew": []}
        for peer in peers:
            by_way["anew" if peer["way"] == "anew" else "once"].append(
                peer["median_s"] / ours[peer["case"]]["median_s"]
            )
        ratios, anew = by_way["once"], by_way["anew"]
        below = [1.0 - peer["objective"] / ours[peer["case"]]["objective"] for peer in peers]
        slowest = max(ours.values(), key=lambda row: row["median_s"])
        spent = [row["median_s"] for row in ours.values()]
        worst = f"median {ms(median(spent))}, worst {ms(slowest['median_s'])} ({slowest['case']})"
        body.append(("whole plan, 10 devices", "20 ms", worst))
        if ratios:
            body.append(("its ratio to the literature's coarse-to-fine search, compiled once", "1000", span(ratios)))
            if anew:
                body.append(("the same, the program written down anew for each solve", "1000", span(anew)))
            least = f"{max(below):.1e} worse at the most" if max(below) > 0.0 else "never worse"
            body.append(("its objective beside the literature's", "no worse", least))
    if "fixed" in parts:
        rows = parts["fixed"]["rows"]
        pairs = [(one(rows, "test_pretune", case=row["case"]), row) for row in rows if row["name"] == "test_clarabel"]
        ratios = [peer["solver_s"] / us["median_s"] for us, peer in pairs if us and peer["solver_s"]]
        if ratios:
            body.append(("fixed rounds, 1000 devices: ratio to Clarabel alone", "100", span(ratios)))
    if "shell" in parts:
        for row in parts["shell"]["rows"]:
            if row["name"] == "test_front":
                what = f"front of {row['points']} plans along {row['axis']}, {row['devices']} devices"
                body.append((what, "5 s", seconds(row["median_s"])))
            else:
                measured = f"{seconds(row['median_s'])} (processor time {seconds(row['processor_s'])})"
                body.append(("`pretune plan` from the shell, wall-clock", "1.5 s", measured))
    return "\n".join(["## In short", "", *table(("what", "aim", "measured"), body)]) + "\n"


def span(ratios: Sequence[float]) -> str:
    return f"{times(min(ratios))} to {times(max(ratios))}, median {times(median(ratios))}"


# ---------------------------------------------------------------------------------------------------- sections


def _joint(rows: Rows) -> str:
    body, ratios, commonly = [], [], []
    names = list(dict.fromkeys(row["case"] for row in rows if row["group"] == "joint"))
    for name in names:
        ours = one(rows, "test_pretune", case=name)
        peers = {way: one(rows, "test_literature", case=name, way=way) for way in ("tuned", "plain")}
        anew = one(rows, "test_literature", case=name, way="anew")
        if ours is None:
            continue
        cells = [name, ms(ours["median_s"]), number(ours["objective"], 7), percent(ours["gap"])]
        for peer in peers.values():
            if peer is None:
                cells += ["–", "–", "–"]
                continue
            ratio = peer["median_s"] / ours["median_s"]
            ratios.append(ratio)
            cells += [seconds(peer["median_s"]), times(ratio), percent(peer["objective"] / ours["objective"] - 1.0)]
        cells += ["–", "–"]
        if anew is not None:
            commonly.append(anew["median_s"] / ours["median_s"])
            cells[-2:] = [seconds(anew["median_s"]), times(commonly[-1])]
        body.append(cells)
    text = ["## Whole plans with whole rounds and batches, ten devices", ""]
    text += prose(
        "The literature's way is successive convex approximation at fixed rounds inside a coarse-to-fine search over "
        "the rounds (`pretune compare --only successive`). `tuned` starts every program from the nearest answer known, "
        "`plain` always from the same point; both compile the program once and skip rounds that are known not to fit. "
        "`anew` is `plain` with the program written down and compiled for each solve: the common use of a modelling "
        "layer, and that of the trial of 29 s from which the aim of 1000 was taken."
    )
    heads = ("scenario", "pretune", "objective", "proven gap")
    for way in ("tuned", "plain"):
        heads += (way, "ratio", "its objective above ours")
    heads += ("anew", "ratio")
    text += table(heads, body)
    if ratios:
        text += ["", f"Ratios to `tuned` and `plain`: {span(ratios)}.", ""]
    if commonly:
        text += [f"Ratios to `anew`: {span(commonly)}.", ""]
    grid = [one(rows, name) for name in ("test_pretune_on_a_small_grid", "test_literature_on_a_small_grid")]
    if grid[0] and grid[1]:
        ours, peer = grid
        above = percent(peer["objective"] / ours["objective"] - 1.0)
        text += prose(
            f"Its exhaustive form on a small grid (the demo with heavy samples; {peer['note']}): "
            f"{seconds(peer['median_s'])} against {ms(ours['median_s'])}, a ratio of "
            f"{times(peer['median_s'] / ours['median_s'])}. Its objective is {above} above pretune's, whose proven gap "
            f"is {percent(ours['gap'])}."
        )
    return "\n".join(text) + "\n"


def _fixed(rows: Rows) -> str:
    body = []
    for ours in (row for row in rows if row["name"] == "test_pretune"):
        name = ours["case"]
        peer, whole = one(rows, "test_clarabel", case=name), one(rows, "test_clarabel_with_modelling", case=name)
        cells = [name, str(ours["devices"]), ms(ours["median_s"])]
        if peer is not None and peer["solver_s"] is None:
            cells += ["not the same to 1e-6", "–", "–"]
        elif peer is not None:
            cells += [ms(peer["solver_s"]), times(peer["solver_s"] / ours["median_s"]), f"{peer['difference']:.1e}"]
        else:
            cells += ["–"] * 3
        if whole is not None:
            cells += [seconds(whole["median_s"]), times(whole["median_s"] / ours["median_s"])]
        else:
            cells += ["–"] * 2
        body.append(cells)
    text = ["## Fixed rounds, a thousand devices", ""]
    text += prose(
        "Real batches, clocks and powers at fixed rounds, from a cold start, beside the conic program of "
        "[the mathematics](mathematics.md) in CVXPY and Clarabel. Clarabel's time is the processor time inside of it, "
        "of its quickest trial (of several settings and scalings) that met the same optimum to 1e-6; the modelling "
        "layer is extra. `idle` scenarios have static and circuit powers."
    )
    heads = ("scenario", "devices", "pretune", "Clarabel alone", "ratio", "difference", "with CVXPY", "ratio")
    return "\n".join(text + table(heads, body)) + "\n"


def _global(rows: Rows) -> str:
    text = ["## Few devices, beside global solvers", ""]
    text += prose(
        "The problem as it is first written down - rounds, batches, clocks and powers as variables, nothing eliminated "
        "or relaxed - given to SCIP, which proves a global optimum, and to Ipopt and Bonmin (in CasADi's wheel), which "
        "find local ones from several starts. Differences are of the peer's objective from pretune's, both by the cost "
        "model; a peer may break a limit by its tolerance, which is where small negative ones come from."
    )
    text += ["Fixed rounds, real batches:", ""]
    text += _peers(rows, "global-fixed", ("test_ipopt", "test_scip"))
    text += ["", "Whole rounds and whole batches:", ""]
    text += _peers(rows, "global-whole", ("test_bonmin", "test_scip"))
    return "\n".join(text) + "\n"


def _peers(rows: Rows, group: str, peers: Sequence[str]) -> list[str]:
    body = []
    rows = [row for row in rows if row["group"] == group]
    for ours in (row for row in rows if row["name"] == "test_pretune"):
        cells = [str(ours["seed"]), str(ours["devices"]), ms(ours["median_s"])]
        if group == "global-whole":
            cells.append(percent(ours["gap"]))
        for name in peers:
            peer = next((row for row in rows if row["name"] == name and row["seed"] == ours["seed"]), None)
            if peer is None:
                cells += ["–"] * (3 if name == "test_scip" else 2)
                continue
            found = peer["value"] is not None and peer["violation"] < 1e-3
            cells += [seconds(peer["seconds"]), f"{peer['value'] / ours['value'] - 1.0:.1e}" if found else "none found"]
            if name == "test_scip":
                cells.append("–" if peer["bound"] is None else f"{1.0 - peer['bound'] / ours['value']:.1e}")
        body.append(cells)
    heads: tuple[str, ...] = ("seed", "devices", "pretune", *(("its gap",) if group == "global-whole" else ()))
    for name in peers:
        title = {"test_ipopt": "Ipopt", "test_bonmin": "Bonmin", "test_scip": "SCIP"}[name]
        heads += (title, "difference", *(("SCIP's bound below",) if name == "test_scip" else ()))
    return table(heads, body)


def _shell(rows: Rows) -> str:
    text = ["## What a user waits for", ""]
    body = []
    shell = one(rows, "test_plan_from_the_shell")
    if shell is not None:
        what = "`pretune plan examples/digits.yaml`, a cold process, compiled code on disk (wall-clock time)"
        left = (
            f"least of {shell['repeats']}: {seconds(shell['least_s'])}; processor time {seconds(shell['processor_s'])}"
        )
        body.append((what, seconds(shell["median_s"]), left))
    for row in (row for row in rows if row["name"] == "test_front"):
        what = f"a front of {row['points']} plans along the {row['axis']} budget, {row['devices']} devices"
        left = f"{row['optimal']} of {row['plans']} within the tolerance, worst gap {percent(row['worst_gap'])}"
        body.append((what, seconds(row["median_s"]), left))
    return "\n".join(text + table(("what", "median", ""), body)) + "\n"


def _scale(rows: Rows) -> str:
    exponents = next(row["exponents"] for row in rows if "exponents" in row)
    body = []
    for row in (row for row in rows if "devices" in row):
        cells = [f"{row['devices']:,}".replace(",", " "), row["access"]]
        if "error" in row:
            body.append([*cells, "failed", *["–"] * 8])
            continue
        cells += [seconds(row["cost_model_cpu_s"]), seconds(row["fixed_cpu_s"])]
        cells += [times(row["fixed_in_cost_models_cpu"]), seconds(row["plan_cpu_s"]), seconds(row["plan_wall_s"])]
        cells += [percent(row["gap"]), seconds(row["csv_cpu_s"]), seconds(row["parquet_cpu_s"])]
        body.append([*cells, f"{row['peak_gb']:.2g} GB"])
    text = ["## Large fleets", ""]
    text += prose(
        "Processor time of both cores, in a process for each size (`benchmarks/scale.py`): one evaluation of the cost "
        "model, the optimum at fixed rounds and how many evaluations it costs, the whole plan (also by the clock) with "
        "its proven gap, the fleet read from a file, and the most memory that all of it took."
    )
    heads = ("devices", "access", "cost model", "fixed rounds", "in cost models", "whole plan", "by the clock")
    text += table((*heads, "gap", "CSV", "Parquet", "memory"), body)
    for access, found in exponents.items():
        text += ["", f"Exponents over the sizes, {access}: {found['fixed_cpu_s']:.2f} at fixed rounds, "]
        text[-1] += f"{found['plan_cpu_s']:.2f} of a whole plan."
    return "\n".join(text) + "\n"


def _exhaustive(rows: Rows) -> str:
    missed, below = (max(rows, key=lambda row: row[key]) for key in ("missed", "bound_below"))
    exact = sum(row["missed"] <= 1e-12 for row in rows)
    unproven = sum(row["status"] != "optimal" for row in rows)
    wrong = [row["seed"] for row in rows if not row["holds"]]
    text = [
        "## Small problems by exhaustive search",
        "",
        "Every pair of rounds with every choice of whole batches (`benchmarks/exhaustive.py`).",
        "",
        *table(
            ("", ""),
            [
                ("drawn problems", str(len(rows))),
                ("best value outside of the proven interval", str(wrong) if wrong else "none"),
                ("plans that are the best there is", f"{exact} of {len(rows)}"),
                ("worst plan, above the best", f"{percent(missed['missed'])} (seed {missed['seed']})"),
                ("worst bound, below the best", f"{percent(below['bound_below'])} (seed {below['seed']})"),
                ("plans not proven to the tolerance", str(unproven)),
            ],
        ),
    ]
    return "\n".join(text) + "\n"


def _oracle(rows: Rows) -> str:
    found = rows[0]
    body = [
        ("draws", str(found["draws"])),
        ("conic answers that count (decisions and prices meet within 1e-5)", str(found["counted"])),
        ("not solved by pretune", str(found["unsolved"]) if found["unsolved"] else "none"),
    ]
    if worst := found["worst"]:
        body.append(("worst difference of the optimum", f"{worst['difference']:.1e} (seed {worst['seed']})"))
    if gap := found["worst_gap"]:
        body.append(("worst gap of a conic answer", f"{gap['oracle_gap']:.1e} (seed {gap['seed']})"))
    text = ["## Fixed rounds beside the conic oracle", ""]
    text += prose("Drawn scenarios of 1 to 13 devices, all kinds (`benchmarks/oracle.py --fixed`).")
    return "\n".join(text + table(("", ""), body)) + "\n"


def _plans(rows: Rows) -> str:
    found = rows[0]
    body = [
        ("draws", str(found["draws"])),
        ("statuses", ", ".join(f"{status} {count}" for status, count in sorted(found["statuses"].items()))),
        ("bounds that the check did not prove again", str(found["unproven"]) if found["unproven"] else "none"),
    ]
    if worst := found["worst_gap"]:
        body.append(("worst proven gap", f"{percent(worst['gap'])} (seed {worst['seed']}: {worst['label']})"))
    if least := found["least_above"]:
        what = f"least of objective / joint conic optimum - 1, over {found['relaxed']} of criterion trajectory"
        body.append((what, f"{least['above_joint']:.1e} (seed {least['seed']})"))
    text = ["## Whole plans of drawn scenarios", ""]
    text += prose(
        "The same kinds of scenarios, planned within ten seconds each and checked (`benchmarks/oracle.py`). The joint "
        "conic program has real rounds and batches: no plan may be below it."
    )
    return "\n".join(text + table(("", ""), body)) + "\n"


SECTIONS: dict[str, Callable[[Rows], str]] = {
    "joint": _joint,
    "fixed": _fixed,
    "global": _global,
    "shell": _shell,
    "scale": _scale,
    "exhaustive": _exhaustive,
    "oracle": _oracle,
    "plans": _plans,
    "simulation": simulation,
}


# ---------------------------------------------------------------------------------------------------- cells


def one(rows: Rows, test: str, **params: Any) -> dict[str, Any] | None:
    """The row of a test with these parameters."""
    return next(
        (row for row in rows if row["name"] == test and all(row.get(k) == v for k, v in params.items())),
        None,
    )


def table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table, figures to the right."""
    rule = ["---", *("---:" for _ in heads[1:])]
    return ["| " + " | ".join(cells) + " |" for cells in (heads, rule, *body)]


def prose(text: str) -> list[str]:
    """A paragraph, as lines, and the blank line after it."""
    return [*textwrap.wrap(text, 118, break_long_words=False, break_on_hyphens=False), ""]


def number(value: float, digits: int) -> str:
    return f"{value:.{digits}g}"


def seconds(value: float) -> str:
    """A time with three digits and the unit it needs."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.1e} s"


def ms(value: float) -> str:
    return f"{value * 1e3:.3g} ms"


def times(value: float) -> str:
    return f"{value:.3g}"


def percent(value: float) -> str:
    return f"{value * 100.0:.2g} %"
