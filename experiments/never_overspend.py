"""Do runs ever overspend, or lose their model? A thousand of them, with faults drawn at random.

Every run has scenario, budgets, variation, way of steering and faults of its own, all drawn from its number: devices
that vanish for good, clocks that lie, channels that go dark, everybody gone, a trace that ends, one device's battery
nearly empty. With ``--trained N`` N more of them train a model too, each interrupted once in mid-run and resumed.
Runs that are in the results already are not done again, unless ``--fresh`` is given.

    python experiments/never_overspend.py [--runs 1000] [--trained 40] [--fresh]
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import math
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, Ticker, read_rows, write_rows

from pretune.control.rules import Control, Replan, Rules, Stop
from pretune.control.simulate import simulate, steer
from pretune.errors import InputError
from pretune.physics import cost
from pretune.plans import FinetuneStage, Plan, PretrainStage, Status
from pretune.reality import Conditions, Reality
from pretune.runtime.replan import Replanner
from pretune.scenario import Scenario

FAULTS = ("none", "lost", "all gone", "dark", "lying clock", "slow all", "trace ends", "poor battery")
WAYS = (("none", "off"), ("rounds", "off"), ("rounds", "auto"), ("rounds", "every"))


class Faulty:
    """A reality with a fault from some round on."""

    def __init__(self, inner: Reality, fault: str, rng: np.random.Generator, rounds: int) -> None:
        self.inner, self.fault = inner, fault
        self.seed, self.columns, self.trace = inner.seed, inner.columns, inner.trace
        self.first, self.who = int(rng.integers(0, max(rounds, 1))), int(rng.integers(0, len(inner.gain)))
        self.long, self.factor = int(rng.integers(1, 12)), float(10.0 ** rng.uniform(-1.0, 2.5))

    def start(self) -> Any:
        return self.inner.start()

    def next(self, state: Any, round_s: float, drawn_w: Any = None) -> tuple[Any, Conditions]:
        state, met = self.inner.next(state, round_s, drawn_w)
        on, count = met.round >= self.first, len(met.gain)
        one = np.arange(count) == self.who
        if self.fault == "lost" and on:
            met = dataclasses.replace(met, available=met.available & ~one)
        elif self.fault == "all gone" and on:
            met = dataclasses.replace(met, available=np.zeros(count, dtype=np.bool_))
        elif self.fault == "dark" and on and met.round < self.first + self.long:
            met = dataclasses.replace(met, gain=np.zeros(count))
        elif self.fault == "lying clock" and on:
            met = dataclasses.replace(met, compute_factor=np.where(one, self.factor, met.compute_factor))
        elif self.fault == "slow all" and on:
            met = dataclasses.replace(met, compute_factor=met.compute_factor * self.factor)
        elif self.fault == "trace ends" and on:
            raise InputError("variation.trace: ends at 1 s, and the next round begins at 2 s")
        return state, met


def drawn(number: int, task: dict[str, Any] | None = None, samples: tuple[int, ...] = ()) -> tuple[Any, ...]:
    """Scenario, plan, rules, fault and the generator of one run."""
    rng = np.random.default_rng([8, number])
    count = len(samples) or int(rng.integers(1, 7))
    fault, way = FAULTS[number % len(FAULTS)], WAYS[int(rng.integers(len(WAYS)))]
    variation: dict[str, Any] = {"seed": int(rng.integers(1000))}
    if rng.random() < 0.8:
        variation["fading"] = {"kind": "rayleigh"}
    if rng.random() < 0.4:
        variation["shadowing"] = {"std_db": float(rng.uniform(0, 8)), "correlation_s": float(rng.uniform(0, 3))}
    if rng.random() < 0.5:
        variation["availability"] = {
            "mean_up_s": float(rng.uniform(0.2, 5)),
            "mean_down_s": float(rng.uniform(0.05, 1)),
        }
    if rng.random() < 0.5:
        variation["jitter"] = {"kind": "lognormal", "sigma": float(rng.uniform(0, 1))}
    if rng.random() < 0.3:
        variation["throttling"] = {
            "resistance_k_per_w": 100.0, "time_constant_s": 1.0, "from_k": 5.0, "to_k": 20.0, "floor": 0.4,
        }  # fmt: skip
    sizes = samples or tuple(int(n) for n in rng.integers(20, 200, count))
    devices = [
        {
            "name": f"d{k}",
            "capacitance": float(10 ** rng.uniform(-28, -27)),
            "flops_per_cycle": 2.0,
            "max_clock_hz": float(rng.uniform(0.4e9, 1.5e9)),
            "max_power_w": float(rng.uniform(0.05, 0.3)),
            "static_power_w": float(rng.uniform(0, 0.05) * (rng.random() < 0.3)),
            "gain": float(10 ** rng.uniform(-11, -9)),
            "bandwidth_hz": float(rng.uniform(0.5e6, 2e6)),
            "samples": size,
            "battery_j": None,
        }
        for k, size in enumerate(sizes)
    ]
    tree: dict[str, Any] = {
        "name": f"run {number}",
        "workload": {"flops_per_sample": 20224.0, "upload_bits": 153920.0},
        "server": {
            "capacitance": 1e-27, "flops_per_cycle": 8.0, "max_clock_hz": 1.5e9, "samples": 600,
            "transmit_power_w": 1.0,
        },
        "radio": {"access": "fdma" if rng.random() < 0.7 else "tdma", "broadcast_bandwidth_hz": 1e7},
        "devices": devices,
        "budget": {"energy_j": 1.0, "delay_s": 1.0},
        "convergence": {
            "criterion": "final" if rng.random() < 0.6 else "trajectory", "smoothness": 9.5, "initial_gap": 2.3,
            "shift": float(rng.uniform(0.2, 3.0)), "pretrain_step": 0.05, "finetune_step": 0.05,
            "pretrain_variance": 23.0, "finetune_variance": 23.0, "pl_constant": 0.2,
        },
        "variation": variation,
        "task": task,
    }  # fmt: skip
    plan = made(Scenario(**tree), rng)
    share = float(10 ** rng.uniform(-0.7, 0.4))
    energy, delay = plan.energy_j * share, plan.delay_s * share * float(rng.uniform(0.7, 1.4))
    if fault == "poor battery":
        one = int(rng.integers(count))
        devices[one]["battery_j"] = float(plan.energy_j * rng.uniform(0.001, 0.1))
    scenario = Scenario(**{**tree, "budget": {"energy_j": energy, "delay_s": delay}})
    plan = dataclasses.replace(plan, scenario_sha256=scenario.sha256)
    outage = float(rng.choice([0.0, 0.1, 0.3]))
    rules = Rules(control=Control(way[0]), replan=Replan(way[1]), outage=outage)
    return scenario, plan, rules, fault, rng


def made(scenario: Scenario, rng: np.random.Generator) -> Plan:
    """A plan with decisions drawn at random, and what it takes where nothing varies."""
    fleet = scenario.devices
    rounds = int(rng.integers(0, 12)), int(rng.integers(1, 25))
    batch = np.minimum(rng.integers(1, 60, len(fleet)), fleet.samples.astype(np.int64))
    clock, power = fleet.max_clock_hz * rng.uniform(0.3, 1.0), fleet.max_power_w * rng.uniform(0.1, 1.0)
    once, each = (
        cost.pretrain_round(scenario, 32, 1e9),
        cost.finetune_round(scenario, batch.astype(float), clock, power),
    )
    return Plan(
        status=Status.FEASIBLE,
        criterion=scenario.convergence.criterion.value,
        scenario_sha256=scenario.sha256,
        pretrain=PretrainStage(
            rounds=rounds[0], batch=32 if rounds[0] else 0, clock_hz=1e9 if rounds[0] else 0.0,
            round_s=once.time_s if rounds[0] else 0.0,
        ),
        finetune=FinetuneStage(
            rounds=rounds[1], round_s=each.time_s, names=tuple(fleet.names), batch=batch, clock_hz=clock,
            power_w=power, upload_s=each.upload_s,
        ),
        energy_j=rounds[0] * once.energy_j + rounds[1] * each.energy_j,
        delay_s=rounds[0] * once.time_s + rounds[1] * each.time_s,
        objective=1.0, lower_bound=0.0, relative_gap=1.0, multipliers={},
    )  # fmt: skip


def over(scenario: Scenario, energy_j: float, delay_s: float, device_j: Any) -> bool:
    """Whether a budget was broken, by a share of 1e-9 at the least for a battery (what `pretune check` lets pass)."""
    battery = np.asarray(scenario.devices.battery_j)
    return (
        energy_j > scenario.budget.energy_j
        or delay_s > scenario.budget.delay_s
        or bool((device_j > battery * (1.0 + 2e-9)).any())
    )


def simulated(number: int) -> dict[str, Any]:
    """One run without training."""
    scenario, plan, rules, fault, rng = drawn(number)
    planner = Replanner(scenario) if rules.replan is not Replan.OFF else None
    reality = Reality.of(scenario)
    try:
        steering = steer(scenario, plan, rules, reality, planner=planner)
    except InputError as error:  # a fleet that answers too rarely for its steps: refused, nothing is spent
        return {"run": number, "fault": fault, "ended": "refused", "why": str(error)[:60], "overspent": 0}
    steering.reality = Faulty(reality, fault, rng, plan.finetune.rounds)
    energy, seconds, device_j = [], [], np.zeros(len(scenario.devices))

    def each(done: Any) -> None:
        energy.append(done.outcome.energy_j)
        seconds.append(done.outcome.time_s + done.waited_s)
        np.add(device_j, done.outcome.device_j, out=device_j)

    once = cost.pretrain_round(scenario, 32, 1e9)
    found = simulate(steering, each)
    if rules.replan is Replan.OFF:  # the sums by another way than the steering's own subtraction
        energy_j = math.fsum([*energy, found.pretrain * once.energy_j])
        delay_s = math.fsum([*seconds, found.pretrain * once.time_s])
    else:
        energy_j, delay_s = found.energy_j, found.delay_s
    return {
        "run": number,
        "fault": fault,
        "control": rules.control.value,
        "replan": rules.replan.value,
        "ended": "finished" if found.stop.finished else "stopped",
        "why": found.stop.why[:60],
        "pretrain": found.pretrain,
        "finetune": found.finetune,
        "energy_share": energy_j / scenario.budget.energy_j,
        "delay_share": delay_s / scenario.budget.delay_s,
        "overspent": int(over(scenario, max(energy_j, found.energy_j), max(delay_s, found.delay_s), device_j)),
    }


def trained(number: int) -> dict[str, Any]:
    """One run that trains, is interrupted once and resumed; whether its model is there and as good as it says."""
    from pretune.runtime import live
    from pretune.runtime.evaluate import evaluate
    from pretune.runtime.load import load_task
    from pretune.runtime.run import run

    sizes = (60, 50, 40, 30)
    scenario, plan, rules, fault, rng = drawn(number, {"name": "digits", "model": {"kind": "logistic"}}, sizes)
    row: dict[str, Any] = {"run": number, "fault": fault, "control": rules.control.value, "replan": rules.replan.value}
    task = load_task(scenario.task, None)
    faulty, begun = Faulty(Reality.of(scenario), fault, rng, plan.finetune.rounds), live.steer

    def with_fault(*args: Any, **more: Any) -> Any:
        steering = begun(*args, **more)
        steering.reality = Faulty(steering.reality, fault, np.random.default_rng(number), plan.finetune.rounds)
        steering.reality.first, steering.reality.who = faulty.first, faulty.who
        return steering

    seen = 0
    stop_at = int(rng.integers(1, 15))

    def interrupt(_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == stop_at:
            raise KeyboardInterrupt

    live.steer = with_fault
    try:
        with tempfile.TemporaryDirectory() as folder:
            how = {"control": rules.control.value, "replan": rules.replan.value, "outage": rules.outage}
            out = Path(folder) / "run"
            try:
                run(plan, scenario, out=out, task=task, checkpoint_every=3, checkpoint_s=1e9, progress=interrupt, **how)
            except KeyboardInterrupt:
                pass
            except InputError as error:
                return {**row, "ended": "refused", "why": str(error)[:60], "overspent": 0, "lost": 0}
            found = run(plan, scenario, out=out, task=task, checkpoint_every=3, checkpoint_s=1e9, **how)
            loss = evaluate(found.model, task.loss, task.test).loss
            total = found.ledger.table()[-1]
            stopped = found.summary["status"] == "stopped"
            best = min(record.test_loss for record in found.ledger.evaluations)
            sound = abs(loss - found.test_loss) <= 1e-5 * abs(loss) and (not stopped or found.test_loss == best)
            return {
                **row,
                "ended": found.summary["status"],
                "why": found.summary["message"][:60],
                "pretrain": found.summary["rounds"]["pretrain"],
                "finetune": found.summary["rounds"]["finetune"],
                "energy_share": total.realised_j / scenario.budget.energy_j,
                "delay_share": total.realised_s / scenario.budget.delay_s,
                "overspent": int(over(scenario, total.realised_j, total.realised_s, np.zeros(len(sizes)))),
                "lost": int(not sound),
            }
    finally:
        live.steer = begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--trained", type=int, default=40)
    parser.add_argument("--fresh", action="store_true")
    wanted = parser.parse_args()
    warnings.simplefilter("error", RuntimeWarning)
    target = RESULTS / "never_overspend.csv"
    rows: list[dict[str, Any]] = [] if wanted.fresh or not target.is_file() else list(read_rows(target))
    known = {(row["kind"], int(row["run"])) for row in rows}
    todo = [("simulated", number) for number in range(wanted.runs)]
    todo += [("trained", 10_000 + number) for number in range(wanted.trained)]
    todo = [one for one in todo if one not in known]
    ticker = Ticker("runs", len(todo))
    for count, (kind, number) in enumerate(todo, start=1):
        rows.append({"kind": kind, **(simulated if kind == "simulated" else trained)(number)})
        ticker(1)
        if count % 25 == 0 or count == len(todo):
            write_rows(target, rows)
    ends = collections.Counter((row["kind"], row["ended"]) for row in rows)
    print(", ".join(f"{kind} {ended}: {count}" for (kind, ended), count in sorted(ends.items())))
    print(f"overspent: {sum(int(row['overspent']) for row in rows)} of {len(rows)}")
    trained_rows = [row for row in rows if row["kind"] == "trained"]
    lost = sum(int(row.get("lost") or 0) for row in trained_rows)
    print(f"models lost: {lost} of {len(trained_rows)} trained")
    most = [max(float(row.get(key) or 0.0) for row in rows) for key in ("energy_share", "delay_share")]
    print(f"largest share of the energy spent: {most[0]:.12f}, of the delay: {most[1]:.12f}")
    sys.exit(int(any(int(row["overspent"]) for row in rows) or lost > 0))


__all__ = ["Stop", "main"]

if __name__ == "__main__":
    main()
