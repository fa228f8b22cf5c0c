"""Who holds which samples."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from runtime_helpers import SAMPLES, small_scenario, tiny_task

from pretune.errors import InputError
from pretune.runtime.load import load_task
from pretune.runtime.partition import Partition, deal, hold, read_partition
from pretune.runtime.task import Samples, Task

SIZES = np.array(SAMPLES)


def _task(n: int = 700, classes: int = 10) -> Task:
    """Samples that know their own number."""
    x = torch.arange(float(n)).reshape(n, 1)
    data = Samples(x=x, y=torch.arange(n) % classes)
    return Task(name="numbers", model=lambda g: torch.nn.Linear(1, 10), general=data, train=data, test=data)


def _spread(task: Task, parts) -> float:
    """Mean distance of the devices' class proportions from the whole's."""
    labels = task.train.y.numpy()
    whole = np.bincount(labels, minlength=10) / len(labels)
    return float(np.mean([np.abs(np.bincount(labels[p], minlength=10) / len(p) - whole).sum() for p in parts]))


@pytest.mark.parametrize("choice", [Partition(), Partition(scheme="dirichlet", alpha=0.5)])
@pytest.mark.parametrize("sizes", [SIZES, np.array([1]), np.array([700]), np.array([350, 349, 1])])
def test_sizes_are_exact_and_parts_disjoint(choice, sizes):
    parts = deal(_task(), sizes, choice)
    assert [len(part) for part in parts] == sizes.tolist()
    everything = np.concatenate(parts)
    assert len(np.unique(everything)) == len(everything)
    assert everything.min() >= 0
    assert everything.max() < 700


@pytest.mark.parametrize("scheme", ["iid", "dirichlet"])
def test_seed_decides(scheme):
    def dealt(seed: int) -> list[list[int]]:
        return [part.tolist() for part in deal(_task(), SIZES, Partition(scheme=scheme, seed=seed))]

    assert dealt(0) == dealt(0) != dealt(1)


def test_smaller_alpha_is_more_skewed():
    sizes = np.full(10, 70)
    task = _task()
    iid = _spread(task, deal(task, sizes, Partition()))
    skews = [_spread(task, deal(task, sizes, Partition(scheme="dirichlet", alpha=a))) for a in (100.0, 1.0, 0.1)]
    assert iid < 0.5
    assert skews == sorted(skews)
    assert skews[-1] > 1.0


def test_labels_need_not_be_without_gaps():
    task = _task()
    gapped = dataclasses.replace(task, train=Samples(x=task.train.x, y=task.train.y * 7 - 3))
    parts = deal(gapped, SIZES, Partition(scheme="dirichlet"))
    assert [part.tolist() for part in parts] == [p.tolist() for p in deal(task, SIZES, Partition(scheme="dirichlet"))]


def test_holdings_are_each_device_s_own():
    task = load_task({"name": "digits", "partition": {"scheme": "dirichlet", "alpha": 0.3, "seed": 4}})
    scenario = small_scenario({"name": "digits", "partition": {"scheme": "dirichlet", "alpha": 0.3, "seed": 4}})
    held = hold(task, scenario)
    parts = deal(task, SIZES, Partition(scheme="dirichlet", alpha=0.3, seed=4))
    assert (len(held.general), len(held.task)) == (600, 300)
    for k, part in enumerate(parts):
        assert torch.equal(held.of(k).x, task.train.x[part])
        assert torch.equal(held.of(k).y, task.train.y[part])


def test_server_gets_the_first_of_a_shuffle():
    task = _task()
    fields = small_scenario().to_dict()["server"]
    some, more = (
        set(hold(dataclasses.replace(task), small_scenario(server={**fields, "samples": n})).general.x[:, 0].tolist())
        for n in (100, 200)
    )
    assert (len(some), len(more)) == (100, 200)
    assert some < more  # more samples are the same and others
    assert max(some) > 300  # shuffled


def test_parts_of_the_task_s_own():
    task = tiny_task()
    held = hold(task, small_scenario())
    assert torch.equal(held.of(2).x, task.train.x[task.parts[2]])
    with pytest.raises(InputError, match=r"task\.parts: holds 1 parts of 3 samples, should hold .* 4 parts of 120, 90"):
        hold(dataclasses.replace(task, parts=(np.arange(3),)), small_scenario())
    outside = (*task.parts[:-1], task.parts[-1] + 1)
    with pytest.raises(InputError, match="points outside the 300 training samples"):
        hold(dataclasses.replace(task, parts=outside), small_scenario())


def test_too_many_samples_asked_for():
    with pytest.raises(InputError, match="devices: samples add up to 300, should add up to at most 299"):
        deal(_task(299), SIZES, Partition())


def test_dirichlet_needs_classes():
    task = _task()
    regression = dataclasses.replace(task, train=Samples(x=task.train.x, y=task.train.x[:, 0]))
    with pytest.raises(InputError, match="the task's targets are no classes"):
        deal(regression, SIZES, Partition(scheme="dirichlet"))
    assert len(deal(regression, SIZES, Partition())) == 4


def test_classes_that_run_out_are_one_clear_line():
    """With a tiny alpha each device wants one class only; when that is used up there is nothing left to want."""
    with pytest.raises(InputError, match=r"task\.partition\.alpha: holds 0\.001, should hold a larger number"):
        deal(_task(), np.full(10, 70), Partition(scheme="dirichlet", alpha=0.001))


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"scheme": "pathological"}, "task.partition.scheme: holds 'pathological', should hold one of iid, dirichlet"),
        ({"alpha": 0}, "task.partition.alpha: holds 0, should hold a number from 0.001 to 1e+06"),
        ({"seed": -1}, "task.partition.seed: holds -1"),
        ({"beta": 1}, "task.partition.beta: is not a key of this section; it has scheme, alpha, seed"),
        ("iid", "task.partition: holds 'iid', should hold a section"),
    ],
)
def test_refusals(section, says):
    with pytest.raises(InputError) as caught:
        read_partition({"name": "digits", "partition": section})
    assert says in str(caught.value)


def test_defaults():
    assert read_partition({"name": "digits"}) == read_partition(None) == Partition()
