"""Which training samples each device holds, and which general samples the server holds.

The drawing is done by flwr-datasets' partitioners, so that a partition here is one that Flower's users know.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.errors import InputError, MissingExtra
from pretune.physics.types import Ints
from pretune.runtime.datasets import import_hf_datasets
from pretune.runtime.options import Options
from pretune.runtime.task import Samples, Task
from pretune.scenario import Scenario

SCHEMES = ("iid", "dirichlet")


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How training samples are dealt out: ``iid``, or ``dirichlet`` with a concentration `alpha` over the classes."""

    scheme: str = "iid"
    alpha: float = 0.5
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Holdings:
    """Everybody's data: the server's general samples, and the devices' samples one device after the other.

    Device k of K holds ``task[offsets[k] : offsets[k] + sizes[k]]``; `offsets` and `sizes` have shape (K,).
    """

    general: Samples
    task: Samples
    offsets: Ints
    sizes: Ints

    def of(self, device: int) -> Samples:
        """The samples of one device."""
        first = int(self.offsets[device])
        window = slice(first, first + int(self.sizes[device]))
        return Samples(x=self.task.x[window], y=self.task.y[window])


def read_partition(section: Mapping[str, Any] | None) -> Partition:
    """The `partition` part of the scenario's `task` section; absent, it is iid with seed 0.

    Raises:
        InputError: an unknown key or scheme, or `alpha` is no positive number.
    """
    options = Options(section or {}).section("partition")
    choice = Partition(
        scheme=options.one_of("scheme", SCHEMES, "iid"),
        alpha=options.number("alpha", 0.5, low=1e-3, high=1e6),
        seed=options.whole("seed", 0, high=2**32 - 1),
    )
    options.done()
    return choice


def hold(task: Task, scenario: Scenario) -> Holdings:
    """Deal out the task's data: `server.samples` general samples, and `samples` of each device.

    The server gets the first of a shuffle seeded like the partition.

    Raises:
        InputError: the scenario asks for more samples than the task has, the partition can't be drawn, or the task
            brings parts of its own that do not fit the devices.
    """
    choice = read_partition(scenario.task)
    wanted, there = int(scenario.server.samples), len(task.general)
    if wanted > there:
        raise InputError.field("server.samples", wanted, f"at most {there}, the general samples of {task.name}")
    kept = np.random.default_rng([choice.seed, 0]).permutation(there)[:wanted]
    sizes = np.asarray(scenario.devices.samples, dtype=np.int64)
    parts = deal(task, sizes, choice) if task.parts is None else _own_parts(task, sizes)
    return Holdings(
        general=task.general.take(kept),
        task=task.train.take(np.concatenate(parts)),
        offsets=np.cumsum(sizes) - sizes,
        sizes=sizes,
    )


def deal(task: Task, sizes: Ints, choice: Partition) -> list[Ints]:
    """Disjoint sets of training samples, `sizes[k]` of them for device k.

    The order of the samples is shuffled first (`SizePartitioner` cuts blocks), so that with ``iid`` every device sees
    the same distribution. With ``dirichlet`` each device draws its own class proportions from Dir(alpha) and fills
    up with what is left once a class runs out (`InnerDirichletPartitioner`).
    """
    wanted, there = int(sizes.sum()), len(task.train)
    if wanted > there:
        raise InputError(
            f"devices: samples add up to {wanted}, should add up to at most {there}, what {task.name} has to train on"
        )
    order = np.random.default_rng([choice.seed, 1]).permutation(there)
    if choice.scheme == "iid":
        order = order[:wanted]  # the partitioner wants to deal out everything
        labels = np.zeros(wanted, dtype=np.int64)
    else:
        labels = _classes(task)[order]
    datasets = import_hf_datasets()
    try:
        from flwr_datasets.partitioner import InnerDirichletPartitioner, Partitioner, SizePartitioner
    except ImportError:
        raise MissingExtra("train", "flwr-datasets") from None
    partitioner: Partitioner
    if choice.scheme == "iid":
        partitioner = SizePartitioner(partition_sizes=sizes.tolist())
    else:
        partitioner = InnerDirichletPartitioner(
            partition_sizes=sizes.tolist(), partition_by="label", alpha=choice.alpha, seed=choice.seed, shuffle=False
        )
    partitioner.dataset = datasets.Dataset.from_dict({"index": order, "label": labels})
    try:
        with warnings.catch_warnings(), np.errstate(invalid="raise", divide="raise"):
            warnings.simplefilter("ignore")  # it warns when samples are left over, which is what server owners want
            return [np.asarray(partitioner.load_partition(k)["index"][:], dtype=np.int64) for k in range(len(sizes))]
    except (FloatingPointError, ValueError):
        # the classes a device had drawn are used up, and its other proportions have underflowed to zero
        should = "a larger number (with this one the classes of some device run out), or fewer samples per device"
        raise InputError.field("task.partition.alpha", choice.alpha, should) from None


def _classes(task: Task) -> Ints:
    """The training targets as class numbers 0, 1, ... without gaps, which the partitioner takes for granted."""
    targets = task.train.y
    if targets.ndim != 1 or targets.dtype.is_floating_point:
        raise InputError("task.partition.scheme: holds 'dirichlet', should hold iid: the task's targets are no classes")
    return np.unique(targets.numpy(), return_inverse=True)[1].astype(np.int64)


def _own_parts(task: Task, sizes: Ints) -> list[Ints]:
    parts = [np.asarray(part, dtype=np.int64) for part in task.parts or ()]
    lengths = [len(part) for part in parts]
    if lengths != sizes.tolist():
        raise InputError(
            f"task.parts: holds {len(parts)} parts of {_few(lengths)} samples, should hold those of the devices: "
            f"{len(sizes)} parts of {_few(sizes.tolist())}"
        )
    everything = np.concatenate(parts)
    if everything.min() < 0 or everything.max() >= len(task.train):
        raise InputError(f"task.parts: points outside the {len(task.train)} training samples of {task.name}")
    return parts


def _few(numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5]))
    return shown + (", ..." if len(numbers) > 5 else "")
