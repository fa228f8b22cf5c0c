"""What plans under uncertainty promise, and what simulated runs of them keep.

    python experiments/promise_coverage.py                    # all, a few minutes on one core
    python experiments/promise_coverage.py --runs 100 --dry   # a look, nothing is written

For every law of the channel, number of devices and mode: one plan, checked, and 4,000 runs of it (1,000 with 50
devices), each in channels of its own, by the policy of docs/uncertainty.md. What is counted:

- `outage`, `ergodic`: whether a device's upload arrives (with `per: round` all of them), in each run's last round
  alone, so that the samples are independent although channels last from round to round; and whether the whole run
  stays within both budgets.
- `worst_case`: gains drawn anywhere within the interval, a different one each round, one run in ten at its worst end;
  whether all uploads of the run arrive, and the budgets.

Intervals are Clopper and Pearson's, 95%, two-sided. Whether less is kept than was promised is tested by the exact
one-sided binomial test, for each mode all laws and fleets together, and for each cell, with Holm's correction. Writes
``results/promise_coverage.csv`` and the tables of docs/uncertainty.md; with ``--table`` the tables alone, from there.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from common import HERE, RESULTS, read_rows, write_rows
from rich.progress import track
from scipy.stats import beta, binom

import pretune
from pretune.fleet import COLUMNS, Fleet
from pretune.physics import cost
from pretune.plans import Plan
from pretune.reality import Reality
from pretune.scenario import Scenario, scenario_from_dict
from pretune.uncertainty import equivalent
from pretune.uncertainty.policy import round_under

PAGE = HERE.parent / "docs" / "uncertainty.md"
LAWS: dict[str, dict[str, Any]] = {
    "Rayleigh": {"fading": {"kind": "rayleigh"}},
    "Rician 6 dB": {"fading": {"kind": "rician", "k_factor": "6 dB"}},
    "Rayleigh, shadowing 6 dB": {
        "fading": {"kind": "rayleigh", "correlation": "jakes", "doppler_hz": 0.01},
        "shadowing": {"std_db": 6, "correlation_s": 120},
    },
    "Rician, shadowing 4 dB, jitter": {
        "fading": {"kind": "rician", "k_factor": 4, "correlation": "gauss_markov", "coherence_s": 30},
        "shadowing": {"std_db": 4, "correlation_s": 60},
        "jitter": {"kind": "lognormal", "sigma": 0.2},
    },
}
MODES: dict[str, dict[str, Any]] = {
    "outage, device": {"under": "outage"},
    "outage, round": {"under": "outage", "per": "round"},
    "ergodic": {"under": "ergodic"},
    "ergodic, 95 %": {"under": "ergodic", "confidence": 0.95},
}
COUNTS = (3, 10, 50)
DEVICE = {
    "capacitance": 1e-28,
    "flops_per_cycle": 8,
    "max_clock_hz": 1.2e9,
    "max_power_w": 0.2,
    "circuit_power_w": 0.02,
    "bandwidth_hz": 2e6,
    "samples": 600,
    "gain": {"loguniform": [1e-11, 1e-10]},
}


def scenario_of(count: int, variation: dict[str, Any] | None, planning: dict[str, Any] | None) -> Scenario:
    """Devices whose best plan fine-tunes; 15 joules each and 40 for the broadcasts, and 25 minutes."""
    tree: dict[str, Any] = {
        "pretune": 1,
        "name": "coverage",
        "workload": {"flops_per_sample": 7.2e7, "upload_bits": 1.92e7},
        "server": {
            "capacitance": 1e-27,
            "flops_per_cycle": 2048,
            "max_clock_hz": 1.5e9,
            "samples": 60000,
            "transmit_power_w": 20,
        },
        "radio": {"noise_psd_w_per_hz": 4e-21, "broadcast_bandwidth_hz": 2e7},
        "devices": {"count": count, "seed": 1, "draw": DEVICE},
        "budget": {"energy_j": 15.0 * count + 40.0, "delay_s": 1500},
        "convergence": {
            "criterion": "trajectory",
            "smoothness": 10,
            "initial_gap": 2.3,
            "shift": 20.0,
            "pretrain_step": 0.01,
            "finetune_step": 0.01,
            "pretrain_variance": 100,
            "finetune_variance": 120,
        },
    }
    return scenario_from_dict({**tree, "variation": variation, "planning": planning})


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs of a plan: joules and seconds (runs,), whether all uploads arrived (runs,), the last round's (runs, K)."""

    energy_j: Any
    delay_s: Any
    whole: Any
    last: Any


def carried_out(plan: Plan, scenario: Scenario, runs: int, worst: float | None) -> Runs:
    """The runs side by side: as one fleet of as many times the devices, in channels of their own.

    Rounds begin when they were planned to, also where the one before was over sooner. `worst`: decibels that the gains
    lie within instead of the scenario's law; at the worst end in one run of ten.
    """
    assert plan.finetune is not None
    assert plan.pretrain is not None
    counted = equivalent(scenario, (plan.under or {}).get("reserve_j", 0.0))
    stage, count = plan.finetune, len(scenario.devices)
    many = scenario.replace(devices=tiled(scenario.devices, runs), planning=None)
    model = counted.scenario.replace(devices=tiled(counted.scenario.devices, runs))
    counted = replace(
        counted, scenario=model, floor_gain=np.tile(counted.floor_gain, runs), slowest=np.tile(counted.slowest, runs)
    )
    columns = {key: np.tile(getattr(stage, key), runs) for key in ("batch", "clock_hz", "power_w", "upload_s")}
    stage = replace(stage, names=many.devices.names, **columns)
    energy_j, delay_s = np.zeros(runs), np.zeros(runs)
    if plan.pretrain.rounds:
        before = cost.pretrain_round(scenario, plan.pretrain.batch, plan.pretrain.clock_hz)
        energy_j += plan.pretrain.rounds * before.energy_j
        delay_s += plan.pretrain.rounds * before.time_s
    broadcast = cost.broadcast(model)
    reality, rng = Reality.of(many), np.random.default_rng(0)
    state, elapsed = reality.start(), float(delay_s[0])
    whole, last = np.ones(runs, dtype=np.bool_), np.zeros((runs, count), dtype=np.bool_)
    for _ in range(stage.rounds):
        state, met = reality.next(state, elapsed)
        if worst is not None:
            drop = rng.random((runs, count))
            drop[::10] = 1.0
            met = replace(met, gain=met.gain * 10 ** (-0.1 * worst * drop.ravel()))
        went = round_under(many, counted, stage, met)
        last = went.arrived.reshape(runs, count)
        spans = (went.compute_s + went.upload_s).reshape(runs, count).max(axis=1) + broadcast.time_s
        delay_s += np.where(last.all(axis=1), np.minimum(spans, stage.round_s), stage.round_s)
        energy_j += went.device_j.reshape(runs, count).sum(axis=1) + broadcast.energy_j
        whole &= last.all(axis=1)
        elapsed = stage.round_s
    return Runs(energy_j=energy_j, delay_s=delay_s, whole=whole, last=last)


def tiled(fleet: Fleet, times: int) -> Fleet:
    """So many copies of the fleet as one."""
    columns = {key: np.tile(getattr(fleet, key), times) for key in COLUMNS}
    return replace(fleet, **{**columns, "weight": columns["weight"] / times}, given_names=None)


def interval(kept: int, count: int) -> tuple[float, float]:
    """Clopper and Pearson's 95% interval of a probability."""
    low = 0.0 if kept == 0 else float(beta.ppf(0.025, kept, count - kept + 1))
    high = 1.0 if kept == count else float(beta.ppf(0.975, kept + 1, count - kept))
    return low, high


def cell(law: str, count: int, mode: str, runs: int) -> dict[str, Any]:
    """One plan and its runs."""
    worst = 3.0 if mode == "worst case 3 dB" else None
    variation = None if worst is not None else LAWS[law]
    planning = {"under": "worst_case", "interval_db": worst} if worst is not None else MODES[mode]
    scenario = scenario_of(count, variation, planning)
    began = time.perf_counter()
    plan = pretune.plan(scenario)
    planned = time.perf_counter()
    pretune.check(plan, scenario)
    checked = time.perf_counter()
    nominal = pretune.plan(scenario_of(count, None, None))
    head = {"law": law, "devices": count, "mode": mode, "objective_over_mean": plan.objective / nominal.objective}
    if plan.finetune is None or plan.finetune.rounds == 0:
        return {**head, "rounds": 0}
    found = carried_out(plan, scenario, runs, worst)
    energy, delay = found.energy_j, found.delay_s
    events = found.last.all(axis=1) if mode == "outage, round" else found.last.ravel()
    if worst is not None:
        events = found.whole
    low, high = interval(int(events.sum()), events.size)
    budget = scenario.budget
    within = (energy <= budget.energy_j * (1 + 1e-9)) & (delay <= budget.delay_s * (1 + 1e-9))
    within_low, within_high = interval(int(within.sum()), within.size)
    return {
        **head,
        "rounds": plan.finetune.rounds,
        "runs": runs,
        "promised": 1.0 if worst is not None else 0.95,
        "kept": float(events.mean()),
        "kept_low": low,
        "kept_high": high,
        "samples": events.size,
        "budgets_promised": {"ergodic": "mean", "ergodic, 95 %": "0.95"}.get(mode, "1"),
        "budgets_kept": float(within.mean()),
        "budgets_low": within_low,
        "budgets_high": within_high,
        "energy_over_plan": float(energy.mean() / plan.energy_j),
        "energy_over_plan_error": float(energy.std() / np.sqrt(runs) / plan.energy_j),
        "most_energy_over_budget": float(energy.max() / budget.energy_j),
        "most_delay_over_budget": float(delay.max() / budget.delay_s),
        "reserve_over_budget": float((plan.under or {}).get("reserve_j", 0.0) / budget.energy_j),
        "gap": plan.relative_gap,
        "plan_s": planned - began,
        "check_s": checked - planned,
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """The page's table."""
    lines = [
        "| channel | K | mode | rounds | uploads: promised | kept (95 % interval) | budgets: promised "
        "| kept (95 % interval) | energy spent / planned | highest / budget | objective / that of `mean` |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row["rounds"] == 0:
            nothing = "too dear a promise: the plan does not fine-tune"
            lines.append(
                f"| {row['law']} | {row['devices']} | {row['mode']} | 0 | {nothing} | | | | | | "
                f"{row['objective_over_mean']:.2f} |"
            )
            continue
        lines.append(
            f"| {row['law']} | {row['devices']} | {row['mode']} | {row['rounds']} | {row['promised']:.2f} "
            f"| {row['kept']:.4f} ({row['kept_low']:.4f} to {row['kept_high']:.4f}) | {row['budgets_promised']} "
            f"| {row['budgets_kept']:.3f} ({row['budgets_low']:.3f} to {row['budgets_high']:.3f}) "
            f"| {row['energy_over_plan']:.4f} ± {2 * row['energy_over_plan_error']:.4f} "
            f"| {row['most_energy_over_budget']:.3f} | {row['objective_over_mean']:.2f} |"
        )
    return lines


def holm(chances: list[float]) -> list[float]:
    """Holm's correction of the probabilities of several tests."""
    corrected, largest = [0.0] * len(chances), 0.0
    for place, i in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        largest = max(largest, min(1.0, (len(chances) - place) * chances[i]))
        corrected[i] = largest
    return corrected


def tests(rows: list[dict[str, Any]]) -> list[str]:
    """Whether less is kept than was promised: each mode's uploads together, and the worst single cell."""
    asked = [row for row in rows if row["rounds"] and row["promised"] < 1.0]
    kept = [round(row["kept"] * row["samples"]) for row in asked]
    cells = holm([float(binom.cdf(k, row["samples"], row["promised"])) for k, row in zip(kept, asked, strict=True)])
    modes = list(dict.fromkeys(row["mode"] for row in asked))
    sums = [
        tuple(sum(x for x, row in zip(column, asked, strict=True) if row["mode"] == mode) for mode in modes)
        for column in (kept, [row["samples"] for row in asked])
    ]
    chances = [float(binom.cdf(k, n, asked[0]["promised"])) for k, n in zip(*sums, strict=True)]
    lines = [
        "| mode | uploads | promised | kept | P(as few or fewer), if 0.95 is the truth | Holm, over the modes |",
        "|---|---|---|---|---|---|",
    ]
    for mode, k, n, one, all_ in zip(modes, *sums, chances, holm(chances), strict=True):
        lines.append(f"| {mode} | {n} | {asked[0]['promised']:.2f} | {k / n:.4f} | {one:.3f} | {all_:.3f} |")
    return [*lines, "", f"Of the {len(asked)} cells one by one, the smallest probability is {min(cells):.3f} (Holm)."]


def read_back() -> list[dict[str, Any]]:
    """The rows of the results, numbers as numbers."""
    words, whole = {"law", "mode", "budgets_promised"}, {"devices", "rounds", "runs", "samples"}
    return [
        {
            key: text if key in words else int(float(text)) if key in whole else float(text)
            for key, text in row.items()
            if text
        }
        for row in read_rows(RESULTS / "promise_coverage.csv")
    ]


def write_page(rows: list[dict[str, Any]]) -> None:
    """Both tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, lines in (("coverage", table(rows)), ("tests", tests(rows))):
        block = "\n".join(lines)
        marks = rf"(<!-- table {name}: [^>]*-->\n).*?(\n<!-- end -->)"
        text = re.sub(marks, lambda found, block=block: found[1] + block + found[2], text, flags=re.DOTALL)
    PAGE.write_text(text, encoding="utf-8")


def main() -> None:
    """All cells, one after the other."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    parser.add_argument("--table", action="store_true", help="write the tables anew, from the results")
    arguments = parser.parse_args()
    if arguments.table:
        write_page(read_back())
        return
    cells = [(law, count, mode) for law in LAWS for count in COUNTS for mode in MODES]
    cells += [("any within 3 dB", count, "worst case 3 dB") for count in COUNTS]
    rows = []
    for law, count, mode in track(cells, description="Cells", disable=not sys.stderr.isatty()):
        runs = arguments.runs if count < 50 else max(1, arguments.runs // 4)
        rows.append(cell(law, count, mode, runs))
    print("\n".join([*table(rows), "", *tests(rows)]))
    if not arguments.dry:
        write_rows(RESULTS / "promise_coverage.csv", rows)
        write_page(rows)


if __name__ == "__main__":
    main()
