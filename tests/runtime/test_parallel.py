"""Pre-training on two processes: the model of one, resumable, and what is refused."""

from __future__ import annotations

import json
import os

import pytest
import torch
from runtime_helpers import hand_plan, norm_task, small_scenario, tiny_task
from steered import small

from pretune.errors import InputError, RunFailed
from pretune.runtime import parallel
from pretune.runtime.job import make_job
from pretune.runtime.run import run

pytest.importorskip("accelerate", reason="needs the extra `parallel`")


TASK = """
import numpy as np, torch
from torch import nn
from pretune.runtime.models import draw_weights
from pretune.runtime.task import Samples, Task

def make_task():
    generator = torch.Generator().manual_seed(0)
    def samples(n):
        x = torch.randn(n, 64, generator=generator)
        return Samples(x=x, y=x[:, :10].argmax(dim=1))
    def model(generator):
        made = nn.Sequential(nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 10))
        draw_weights(made, generator)
        return made
    ends = np.cumsum([120, 90, 60, 30])
    parts = tuple(np.arange(end - size, end) for end, size in zip(ends, [120, 90, 60, 30]))
    return Task(name="own", model=model, general=samples(600), train=samples(300), test=samples(100), parts=parts)
"""
"""A task in a file of its own: the other process has to find and load it, and nothing else."""


def test_two_processes_give_the_model_of_one_though_one_is_killed(tmp_path, monkeypatch):
    """The other process is killed in round 8; the run says so, goes on from its checkpoint and ends as one would."""
    (tmp_path / "task.py").write_text(TASK, encoding="utf-8")
    scenario = small_scenario({"file": "task.py"})
    plan = hand_plan(scenario, rounds=(12, 4), pretrain_batch=15)  # 15: the slices are unequal
    one = run(plan, scenario, out=tmp_path / "one", threads=1, base=tmp_path)
    compute = parallel.Team.compute

    def killing(team, *asked):
        if 8 in asked:
            for follower in team._followers:
                follower.kill()
                follower.wait()
        return compute(team, *asked)

    monkeypatch.setattr(parallel.Team, "compute", killing)
    said = r"a pre-training process failed at round 8: it ended by itself \(exit code -9\)"
    with pytest.raises(RunFailed, match=said):
        run(plan, scenario, out=tmp_path / "two", threads=1, processes=2, checkpoint_every=3, base=tmp_path)
    monkeypatch.undo()
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)
    assert not torch.distributed.is_initialized()

    two = run(plan, scenario, out=tmp_path / "two", threads=1, base=tmp_path)  # goes on with two processes, as it began
    assert json.loads((tmp_path / "two/run.json").read_text())["processes"] == 2
    assert json.loads((tmp_path / "two/timing.json").read_text())["resumed_at"] == 7  # the start and six rounds
    for name, value in one.model.state_dict().items():
        torch.testing.assert_close(two.model.state_dict()[name], value, rtol=1e-5, atol=1e-6)
    assert [record.round for record in two.ledger] == [record.round for record in one.ledger]
    assert two.ledger.column("loss")[1:] == pytest.approx(one.ledger.column("loss")[1:], rel=1e-5)


def test_a_steered_run_s_batches_are_computed_by_two_processes(tmp_path, monkeypatch):
    """They are not the plan's: it plans anew before it begins. Eight rounds are seen."""
    (tmp_path / "task.py").write_text(TASK, encoding="utf-8")
    scenario, plan = small(task={"file": "task.py"}, convergence=small_scenario().convergence, rounds=(12, 3))
    sizes, losses = [], {}
    compute = parallel.Team.compute
    monkeypatch.setattr(parallel.Team, "compute", lambda team, n, x: (sizes.append(len(x)), compute(team, n, x))[1])
    for processes in (1, 2):

        def progress(record, processes=processes) -> None:
            losses.setdefault(processes, []).append(record.loss)
            if record.round == 8:
                raise KeyboardInterrupt

        options = {"threads": 1, "base": tmp_path, "control": "rounds", "replan": "auto", "processes": processes}
        with pytest.raises(KeyboardInterrupt):
            run(plan, scenario, out=tmp_path / str(processes), progress=progress, **options)
    assert len(sizes) >= 8
    assert plan.pretrain.batch not in sizes
    assert losses[2][1:] == pytest.approx(losses[1][1:], rel=1e-5)
    assert len(losses[1]) == len(losses[2]) == 9
    assert not torch.distributed.is_initialized()


def test_a_batch_too_small_for_all_processes_is_not_split(tmp_path):
    scenario = small_scenario()
    job = make_job(hand_plan(scenario), scenario, tiny_task(), seed=0, evaluate_every=None)
    team = parallel.Team(job, parallel.Layout(processes=2), tmp_path, tmp_path)
    assert team.compute(1, job.task.general.take(torch.arange(1))) is None


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"processes": 17}, "processes: holds 17, should hold at most 16, the plan's smallest pre-training batch"),
        ({"processes": 0}, "processes: holds 0, should hold a whole number >= 1"),
        ({"device": "tpu"}, "device: holds 'tpu', should hold one of cpu, cuda"),
        ({"processes": 2, "task": norm_task()}, "processes: holds 2, should hold 1: a batch can't be split"),
        ({"processes": 2, "task": tiny_task()}, "processes: holds 2, should hold 1, or a task in the scenario file"),
    ],
)
def test_what_is_refused(tmp_path, options, line):
    scenario = small_scenario()
    with pytest.raises(InputError) as caught:
        run(hand_plan(scenario), scenario, out=tmp_path / "run", **options)
    assert str(caught.value).startswith(line)
    assert not (tmp_path / "run").exists()
