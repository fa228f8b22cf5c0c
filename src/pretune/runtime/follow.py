"""A further process of a pre-training: ``python -m pretune.runtime.follow`` as `parallel.Team` starts it.

It deals out the data as rank 0 did, from the plan and scenario in the run's folder, and then does as it is told.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from pretune.ledger import Stage
from pretune.plans import load_plan
from pretune.runtime.job import Job, make_job
from pretune.runtime.load import load_task
from pretune.runtime.local import Crew
from pretune.runtime.parallel import STOP, Replica, join
from pretune.runtime.partition import hold
from pretune.scenario import load_scenario


def main() -> None:
    """Compute until rank 0 says stop, or is gone (then a collective fails, and the process with it)."""
    folder, base, meeting, device = sys.argv[1:5]
    rank, ranks, seed, threads, unused = map(int, sys.argv[5:])
    torch.set_num_threads(threads)
    scenario = load_scenario(Path(folder) / "scenario.json")
    plan = load_plan(Path(folder) / "plan.json")
    job = make_job(plan, scenario, load_task(scenario.task, Path(base)), seed=seed, evaluate_every=None)
    print("ready", flush=True)
    join(rank, ranks, meeting, device)
    follow(job, Replica(job.model, job.task.loss, device, bool(unused)))


def follow(job: Job, replica: Replica) -> None:
    """The rounds that rank 0 asks for, as large as it says."""
    general = hold(job.task, job.scenario).general
    while True:
        batch, round_ = replica.order(0, 0)
        if batch == STOP:
            break
        crew = Crew.of(Stage.PRETRAIN, general, np.array([len(general)]), np.array([batch]), np.ones(1))
        replica.exchange([parameter.detach() for parameter in replica.own])
        replica.gradient(crew.batch_of(job.seed, round_))
    replica.leave()


if __name__ == "__main__":
    main()
