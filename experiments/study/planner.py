"""h. The planner's time and proven gap beside the literature's search, on scenarios drawn at random.

Everything is drawn by the seed from the ranges below: fleet, links, budgets and the criterion's constants; none was
picked for its result. The literature's way is `pretune compare --only successive` as it is tuned there: successive
convex approximation at fixed rounds, each program started from the nearest answer known and compiled once, inside a
coarse-to-fine search over the rounds. Both get the same scenario in the same process, one after the other; times are
processor times, the planner's the median of several plans after one that is not counted.

Ranges (SI units): switched capacitance 5e-29 to 5e-28 and clocks 0.5 to 2 GHz as for phones' processors, 4 to 16
operations a cycle, powers 0.05 to 0.3 W and noise of -174 dBm/Hz as common in the literature on wireless federated
learning, gains of -120 to -95 dB, bands of 0.3 to 3 MHz, 20 to 600 samples; a sample takes 1e6 to 1e8 operations, a
model has 1e5 to 1e7 bits. Budgets: the least time and the energy that drawn rounds of one sample take, times a drawn
slack. Beyond 50 devices the literature's search takes minutes a plan, so there is none of that here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.physics import cost, link
from pretune.planner import plan
from pretune.planner.baselines import baseline
from pretune.scenario import Scenario, scenario_from_dict
from pretune.study import Experiment, Figure, Point, Scale, Table, grid
from pretune.study.draw import colour_of, drawing
from pretune.study.statistics import mean_interval
from pretune.study.words import interval_text, number, table_text

NOISE_W_PER_HZ = 4e-21
ACCESSES, CRITERIA = ("fdma", "tdma"), ("final", "trajectory")
ROUNDS = (1, 300)


def points(scale: Scale) -> list[Point]:
    """Scenarios of 10 devices over both accesses and criteria, larger ones over both criteria."""
    if scale is Scale.SMOKE:
        return grid(devices=(3,), access=("tdma",), criterion=("trajectory",), seed=(0,))
    few = grid(devices=(10,), access=ACCESSES, criterion=CRITERIA, seed=range(5))
    return few + grid(devices=(50,), access=("fdma",), criterion=CRITERIA, seed=range(5))


def measure(point: Point) -> list[dict[str, Any]]:
    """Plan the drawn scenario both ways."""
    scenario = drawn(point.integer("seed"), point.integer("devices"), point.text("access"), point.text("criterion"))
    ours = plan(scenario)
    spent = []
    while len(spent) < 3 or (sum(spent) < 0.5 and len(spent) < 15):
        began = time.process_time()
        plan(scenario)
        spent.append(time.process_time() - began)
    began = time.process_time()
    theirs = baseline("successive", scenario, ours)
    took = time.process_time() - began
    ours_s = float(np.median(spent))
    found = theirs.plan
    return [
        {
            "plan_s": ours_s,
            "objective": ours.objective,
            "gap": ours.relative_gap,
            "status": ours.status.value,
            "literature_s": took,
            "literature_objective": None if found is None else found.objective,
            "literature_gap": None if found is None else found.relative_gap,
            "literature_work": theirs.note,
            "times_faster": took / ours_s,
            "literature_above": None if found is None else found.objective / ours.objective - 1.0,
        }
    ]


def drawn(seed: int, devices: int, access: str, criterion: str) -> Scenario:
    """A scenario by its seed, with budgets that some rounds of both stages certainly fit."""
    rng = np.random.default_rng([seed, devices, ACCESSES.index(access), CRITERIA.index(criterion)])
    bits = 10 ** rng.uniform(5.0, 7.0)
    fleet = {
        "capacitance": 10 ** rng.uniform(-28.3, -27.3, devices),
        "flops_per_cycle": rng.uniform(4.0, 16.0, devices),
        "max_clock_hz": rng.uniform(0.5e9, 2e9, devices),
        "max_power_w": rng.uniform(0.05, 0.3, devices),
        "gain": 10 ** rng.uniform(-12.0, -9.5, devices),
        "bandwidth_hz": 10 ** rng.uniform(5.5, 6.5, devices),
        "samples": rng.integers(20, 600, devices),
    }
    tree: dict[str, Any] = {
        "pretune": 1,
        "name": f"drawn-{seed}",
        "workload": {"flops_per_sample": 10 ** rng.uniform(6.0, 8.0), "upload_bits": bits, "download_bits": bits},
        "server": {
            "capacitance": 1e-27,
            "flops_per_cycle": 2048.0,
            "max_clock_hz": 1.5e9,
            "samples": int(rng.integers(1000, 60000)),
            "transmit_power_w": 20.0,
        },
        "radio": {"access": access, "noise_psd_w_per_hz": NOISE_W_PER_HZ, "broadcast_bandwidth_hz": 2e7},
        "devices": [dict(zip(fleet, map(float, row), strict=True)) for row in zip(*fleet.values(), strict=True)],
        "budget": {"energy_j": 1.0, "delay_s": 1.0},
        "convergence": {
            "criterion": criterion,
            "smoothness": 10.0,
            "initial_gap": rng.uniform(0.5, 5.0),
            "shift": rng.uniform(0.05, 0.7),
            "pretrain_step": rng.uniform(0.01, 0.1),
            "finetune_step": rng.uniform(0.01, 0.1),
            "pretrain_variance": 10 ** rng.uniform(0.0, 2.5),
            "finetune_variance": (10 ** rng.uniform(0.0, 2.5, devices)).tolist(),
            "pl_constant": rng.uniform(0.1, 1.0),
        },
    }
    for row in tree["devices"]:
        row["samples"] = int(row["samples"])
    scenario = scenario_from_dict(tree)
    m, n = (int(value) for value in rng.integers(*ROUNDS, 2))
    joules, seconds = of_one_sample(scenario, m, n, float(10 ** rng.uniform(0.05, 1.5)))
    return scenario.with_budget(energy_j=joules * float(10 ** rng.uniform(0.05, 2.0)), delay_s=seconds)


def of_one_sample(scenario: Scenario, m: int, n: int, slack: float) -> tuple[float, float]:
    """Joules and seconds of `m` and `n` rounds with batches of one, `slack` times slower than the fastest."""
    fleet, bits, psd = scenario.devices, scenario.workload.upload_bits, scenario.radio.noise_psd_w_per_hz
    server = cost.pretrain_round(scenario, 1.0, scenario.server.max_clock_hz / slack)
    fastest = link.airtime(bits, fleet.max_power_w, fleet.gain, fleet.bandwidth_hz, psd)
    power = link.power_for_airtime(bits, slack * fastest, fleet.gain, fleet.bandwidth_hz, psd)
    each = cost.finetune_round(scenario, np.ones(len(fleet)), fleet.max_clock_hz / slack, power)
    return m * server.energy_j + n * each.energy_j, m * server.time_s + n * each.time_s


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """Times beside each other, and the objectives' difference with the gap that is proven."""
    caption = (
        "Left: processor time of a whole plan, the literature's search against pretune, one mark a scenario; the lines "
        "are ratios of 1, 100 and 10,000. Right: how far the literature's objective is above pretune's (below zero: it "
        "is better), against the gap that pretune proves of its own."
    )
    with drawing(folder, "planner", caption, columns=2, size=(3.8, 3.2)) as (axes, made):
        times, gaps = axes[0]
        for at, (devices,) in enumerate(key for key, _ in rows.groups("devices")):
            part = rows.where(devices=devices)
            look = {"label": f"K = {devices}", "color": colour_of("", at), "marker": "os^dv"[at % 5], "s": 18}
            times.scatter(part.numbers("plan_s"), part.numbers("literature_s"), **look)
            gaps.scatter(100 * part.numbers("gap"), 100 * part.numbers("literature_above"), **look)
        ends = np.array([rows.numbers("plan_s").min() / 2, rows.numbers("plan_s").max() * 2])
        for ratio in (1, 100, 10_000):
            times.plot(ends, ratio * ends, color="0.6", linewidth=0.7)
        times.set(xscale="log", yscale="log", xlabel="pretune, s", ylabel="literature's search, s")
        gaps.set(xlabel="proven gap, %", ylabel="literature's objective above ours, %")
        gaps.set_yscale("symlog", linthresh=1e-3)
        gaps.axhline(0.0, color="0.6", linewidth=0.7)
        times.legend()
    return made


def words(rows: Table) -> str:
    """Times, ratios, gaps and both sides' wins, by fleet size."""
    lines = []
    for (devices,), part in rows.groups("devices"):
        ratios, above = part.numbers("times_faster"), part.numbers("literature_above")
        logs = mean_interval(np.log10(ratios))
        ends = [number(10**end, 2) for end in (logs.mean, logs.low, logs.high)]
        known = above[~np.isnan(above)]
        lines.append(
            [
                str(devices),
                str(len(part)),
                interval_text(mean_interval(part.numbers("plan_s")), 1, scale=1e3) + " ms",
                interval_text(mean_interval(part.numbers("literature_s")), 2) + " s",
                f"{ends[0]} [{ends[1]}, {ends[2]}]",
                f"{number(ratios.min())} to {number(ratios.max())}",
                f"{100 * part.numbers('gap').max():.2g} %",
                f"{int(np.sum(known > 1e-6))} / {int(np.sum(known < -1e-6))} / {part_without(part)}",
                f"{100 * known.min():.2g} % to {100 * known.max():.2g} %" if known.size else None,
            ]
        )
    heads = (
        "devices",
        "scenarios",
        "pretune",
        "literature",
        "times faster",
        "from, to",
        "largest proven gap",
        "better / worse / no plan of theirs",
        "its objective above ours",
    )
    above, gaps = rows.numbers("literature_above"), rows.numbers("gap")
    beaten = above[above < -1e-6]
    said = "The literature's search nowhere found a better objective by more than a millionth."
    if beaten.size:
        said = (
            f"The literature's search found a better objective in {beaten.size} of {len(rows)} scenarios, by "
            f"{-100 * beaten.min():.2g} % at the most: pretune stops as soon as its proven gap is below 0.01 %. "
        )
        wrong = int(np.sum(-above > gaps * (1.0 + 1e-6) + 1e-9))
        said += (
            f"**In {wrong} of them by more than the gap that pretune had proven, which must not be.**"
            if wrong
            else "Nowhere is it better by more than the gap that pretune had proven."
        )
    return "\n\n".join(
        [
            table_text(heads, lines),
            "Times are processor time with 95 % intervals over drawn scenarios, `times faster` the geometric mean of "
            "the ratios; *better* counts scenarios where pretune's objective is lower by more than a millionth.",
            said + " What the literature's search proves of its own plans is nothing; pretune's bound holds for both.",
        ]
    )


def part_without(part: Table) -> int:
    """Scenarios in which the literature's search found no plan."""
    return sum(math.isnan(value) for value in part.numbers("literature_above"))


EXPERIMENT = Experiment(
    name="planner",
    title="h. Planner time and proven gap",
    question="How fast is the planner beside the literature's search, and who finds the better plan?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
