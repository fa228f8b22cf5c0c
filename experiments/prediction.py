"""How well a law fitted to pilot runs predicts runs that were not used for fitting.

    python experiments/prediction.py --task digits
    python experiments/prediction.py --task mnist-usps        # PRETUNE_DATA names the folder with the data
    python experiments/prediction.py --task cifar

For each of several pilots (other seeds, same design) every family is fitted; the test runs have random rounds and
batches within the pilot runs' ranges and seeds of their own. Writes

- ``results/prediction_runs_TASK.csv``: the test runs, one row a look, with the seed;
- ``results/prediction_TASK.csv``: one row a pilot, measure and family; `chosen` marks the law `pretune pilot` writes;
- ``results/pilot_TASK_SEED.json``: the pilot runs themselves.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from common import RESULTS, Ticker, ground_of, read_rows, write_rows
from scipy.stats import spearmanr

from pretune.convergence.design import Design, batches_of, design_for, noise_of
from pretune.convergence.fit import Fit, fit_family
from pretune.convergence.laws import predict
from pretune.errors import PretuneError
from pretune.law import FAMILIES
from pretune.runtime.branches import Ground
from pretune.runtime.pilot import points_of, run_pilot
from pretune.scenario import Scenario

PILOTS = (0, 1000, 2000)
SEEDS = (11, 12, 13)
ARMS, BRANCHES, LOOKS = 12, 2, 4


def main() -> int:
    """Make the runs, judge the laws, write the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", required=True)
    parser.add_argument("--again", action="store_true", help="judge anew, with the test runs that are there")
    options = parser.parse_args()
    try:
        scenario, ground = ground_of(options.task)
        runs = RESULTS / f"prediction_runs_{options.task}.csv"
        if not (options.again and runs.is_file()):
            write_rows(runs, test_runs(scenario, ground, design_for(scenario)))
        held = [{key: float(value) for key, value in row.items()} for row in read_rows(runs)]
        rows = []
        for seed in PILOTS:
            design = design_for(scenario, seed=seed)
            file = RESULTS / f"pilot_{options.task}_{seed}.json"
            for measure in ("loss", "error"):
                beat = Ticker(f"pilot {seed}", design.rounds)
                pilot = run_pilot(scenario, file=file, design=design, measure=measure, task=ground.task, beat=beat)
                rows += judge(pilot.fit, list(pilot.rows), held, measure, seed, len(ground.task.test))
                write_rows(RESULTS / f"prediction_{options.task}.csv", rows)
                for row in rows[-len(FAMILIES) :]:
                    print({key: value if isinstance(value, str) else round(value, 4) for key, value in row.items()})
    except PretuneError as error:
        sys.exit(str(error))
    return 0


def test_runs(scenario: Scenario, ground: Ground, design: Design) -> list[dict[str, float]]:
    """Runs at random rounds and batches within the design's ranges, each with every seed."""
    rng = np.random.default_rng(7)
    longest, last = design.arms[-1].branches[-1].stop, design.marks[-1]
    largest = max(arm.server_batch for arm in design.arms)
    per_device = max(branch.batch for arm in design.arms for branch in arm.branches)

    def log_uniform(low: float, high: float, size: int) -> list[int]:
        return np.round(np.exp(rng.uniform(np.log(low), np.log(high), size))).astype(int).tolist()

    plans = []
    for arm in range(ARMS):
        stops = [0] * (arm % 6 == 0) + sorted(log_uniform(20, longest, BRANCHES))
        looks = [sorted(set(log_uniform(3, last, LOOKS))) for _ in stops]
        plans.append((log_uniform(2, largest, 1)[0], stops, log_uniform(1, per_device, len(stops)), looks))
    total = sum(stops[-1] + sum(marks[-1] for marks in looks) for _, stops, _, looks in plans) * len(SEEDS)
    beat, rows = Ticker("test runs", total), []
    for arm, (server_batch, stops, batches, looks) in enumerate(plans):
        for seed in SEEDS:
            models = dict(ground.pretrain(1000 * seed + arm, server_batch, sorted(set(stops)), beat))
            for branch, (stop, batch, marks) in enumerate(zip(stops, batches, looks, strict=True)):
                sizes = batches_of(scenario, batch)
                for mark, model in ground.finetune(models[stop], 1000 * seed + arm, sizes, marks, beat):
                    score = ground.score(model)
                    rows.append(
                        {
                            "arm": arm,
                            "branch": branch,
                            "seed": 1000 * seed + arm,
                            "repeat": seed,
                            "pretrain": stop,
                            "finetune": mark,
                            "server_batch": server_batch,
                            "batch": batch,
                            "noise": noise_of(scenario, batch),
                            "loss": score.loss,
                            "error": 1.0 - (score.accuracy or 0.0),
                        }
                    )
    return rows


def judge(
    found: Fit, rows: list[list[float]], held: list[dict[str, float]], measure: str, seed: int, samples: int
) -> list[dict[str, float | str]]:
    """Each family's error on the test runs: against single runs, and against the mean over the seeds of a point."""
    points = points_of(rows, measure, samples=samples)
    columns = np.array([[r["pretrain"], r["finetune"], 1.0 / r["server_batch"], r["noise"]] for r in held])
    single = np.maximum(np.array([r[measure] for r in held]), 0.5 / samples)
    _, group = np.unique(np.array([[r["arm"], r["branch"], r["finetune"]] for r in held]), axis=0, return_inverse=True)
    group = group.ravel()
    average = np.bincount(group, single) / np.bincount(group)
    first = np.array([np.flatnonzero(group == g)[0] for g in range(group.max() + 1)])
    low, high = found.interval(columns)
    # a family's predictions with the chosen law's own parameters, or those of a fit of its own
    out: list[dict[str, float | str]] = []
    for family in FAMILIES:
        chosen = family == found.law.family
        values = np.asarray(found.law.values) if chosen else fit_family(points, family)
        told = predict(family, values, columns)
        to_mean = np.abs(told[first] / average - 1.0)
        row: dict[str, float | str] = {
            "pilot_seed": seed,
            "measure": measure,
            "family": family,
            "chosen": int(chosen),
            "held_out_error": found.errors[family],
            "median_error": float(np.median(to_mean)),
            "p90_error": float(np.quantile(to_mean, 0.9)),
            "spearman": float(spearmanr(told[first], average)[0]),
            "median_error_single": float(np.median(np.abs(told / single - 1.0))),
            "spearman_single": float(spearmanr(told, single)[0]),
            "points": len(average),
            "runs": len(single),
        }
        if chosen:
            row["claimed"] = 0.9
            row["covered"] = float(np.mean((single >= low) & (single <= high)))
            row["spread"] = float(found.law.spread or 0.0)
        out.append(row)
    return out


if __name__ == "__main__":
    sys.exit(main())
