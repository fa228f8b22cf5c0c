"""Pre-training on several processes or GPUs of the server: data parallel, by Accelerate over torch.distributed.

The process that keeps the books is rank 0 and runs the loop of `run.py` or `live.py` unchanged; the others
(`follow.py`) only compute. In every round rank 0 says which one it is and how large its batch, and sends the model;
each rank takes its slice of that batch, the same samples that one process would draw, and DistributedDataParallel
averages the gradients. Followers keep no state from round to round, so a resumed run needs nothing of them. The result
is that of one process up to the order of sums.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, distributed, nn

from pretune.errors import InputError, MissingExtra, RunFailed
from pretune.ledger import Stage
from pretune.runtime.aggregate import Combiner
from pretune.runtime.gradient import SLICE, Gradient, norm_sq, trainable
from pretune.runtime.job import Job
from pretune.runtime.local import Crew
from pretune.runtime.task import PerSampleLoss, Samples

DEVICES = ("cpu", "cuda")
STOP = -1
"""The batch that sends followers home."""
START_S, ROUND_S = 120.0, 1800.0
"""How long ranks wait for each other: to find each other, and in a round."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How pre-training is spread: processes, and what they compute on."""

    processes: int = 1
    device: str = "cpu"

    @property
    def plain(self) -> bool:
        """Whether it is this process on the CPU, which needs nothing of this file."""
        return self.processes == 1 and self.device == "cpu"

    @staticmethod
    def of(identity: Mapping[str, Any]) -> Layout:
        """What a run was started with, from its run.json."""
        return Layout(processes=int(identity.get("processes", 1)), device=str(identity.get("device", "cpu")))

    def to_dict(self) -> dict[str, Any]:
        """For run.json; nothing where it is plain."""
        return {} if self.plain else {"processes": self.processes, "device": self.device}


def check_layout(layout: Layout, job: Job, *, own_task: bool) -> None:
    """Refuse what can't be done, before anything is written.

    Raises:
        InputError: too many processes for a batch, no such device, a model or task that can't be split.
        MissingExtra: Accelerate is not installed.
    """
    if layout.processes < 1:
        raise InputError.field("processes", layout.processes, "a whole number >= 1")
    if layout.device not in DEVICES:
        raise InputError.field("device", layout.device, "one of " + ", ".join(DEVICES))
    if layout.plain:
        return
    if layout.device == "cuda" and not torch.cuda.is_available():
        raise InputError.field("device", layout.device, "cpu: PyTorch finds no CUDA device here")
    if layout.device == "cuda" and layout.processes > torch.cuda.device_count():
        raise InputError.field("processes", layout.processes, f"at most {torch.cuda.device_count()}, one for each GPU")
    batches = [int(stage.crew.batch.min()) for stage in job.stages if stage.stage is Stage.PRETRAIN]
    if batches and layout.processes > min(batches):
        should = f"at most {min(batches)}, the plan's smallest pre-training batch"
        raise InputError.field("processes", layout.processes, should)
    if job.coupled and layout.processes > 1:
        raise InputError.field("processes", layout.processes, "1: a batch can't be split in a model with batch norm")
    if own_task and layout.processes > 1:
        should = "1, or a task in the scenario file: other processes can't be given one that was made by hand"
        raise InputError.field("processes", layout.processes, should)
    try:
        import accelerate  # noqa: F401
    except ImportError:
        raise MissingExtra("parallel", "accelerate") from None


class Replica:
    """One rank's copy of the model, on its device and wrapped by the engine."""

    def __init__(self, model: nn.Module, loss: PerSampleLoss, device: str, unused: bool) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        # parameters that no sample touches have no gradient to wait for, and DDP must know
        spare = DistributedDataParallelKwargs(find_unused_parameters=unused)
        self.engine = Accelerator(cpu=device == "cpu", kwargs_handlers=[spare])
        self.model = self.engine.prepare_model(model)
        self.own = trainable(self.engine.unwrap_model(self.model))
        self.loss = loss
        self.rank, self.ranks = self.engine.process_index, self.engine.num_processes

    def exchange(self, tensors: list[Tensor]) -> None:
        """Rank 0's values to all ranks, in place: one message for all tensors of a kind."""
        from accelerate.utils import broadcast

        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            some = [tensor for tensor in tensors if tensor.dtype == kind]
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            broadcast(flat, from_process=0)
            for tensor, part in zip(some, torch.split(flat, [tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def order(self, batch: int, round_: int) -> tuple[int, int]:
        """What rank 0 says is next: how many samples of which round."""
        said = torch.tensor([batch, round_], dtype=torch.int64, device=self.engine.device)
        self.exchange([said])
        return int(said[0]), int(said[1])

    def gradient(self, batch: Samples) -> tuple[Tensor, list[Tensor]]:
        """The mean loss and gradient of the whole batch, of which this rank computes its slice.

        DDP averages over the ranks what each has summed, hence the factor: sum_i l_i / b, whatever the slices' sizes.
        """
        size, device = len(batch), self.engine.device
        ends = [size * (self.rank + i) // self.ranks for i in (0, 1)]
        x, y = batch.x[ends[0] : ends[1]].to(device), batch.y[ends[0] : ends[1]].to(device)
        for parameter in self.own:
            parameter.grad = None
        total = torch.zeros((), dtype=torch.float64, device=device)
        for first in range(0, len(x), SLICE):
            window = slice(first, first + SLICE)
            last = first + SLICE >= len(x)
            with contextlib.nullcontext() if last else self.engine.no_sync(self.model):
                value = self.loss(self.model(x[window]), y[window]).sum() / size
                self.engine.backward(value * self.ranks)
            total += value.detach()
        total = self.engine.reduce(total, reduction="sum")
        return total, [torch.zeros_like(p) if p.grad is None else p.grad for p in self.own]

    def leave(self) -> None:
        """End the engine's state and the process group; another run may begin in this process."""
        from accelerate.state import AcceleratorState

        AcceleratorState._reset_state(reset_partial_state=True)
        if distributed.is_initialized():
            distributed.destroy_process_group()


def join(rank: int, ranks: int, meeting: str, device: str) -> None:
    """Enter the process group of a run: ranks find each other by a file, so that no port needs to be agreed on."""
    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_WORLD_SIZE=str(ranks))
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else the engine picks a number
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # all ranks are on this host
    store = distributed.FileStore(meeting, ranks)  # type: ignore[attr-defined]
    store.set_timeout(timedelta(seconds=START_S))
    distributed.init_process_group(
        "gloo" if device == "cpu" else "nccl",
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=ROUND_S),
    )


class Team:
    """Rank 0's side: starts the followers when the first round needs them, and sends them home after the last."""

    def __init__(self, job: Job, layout: Layout, folder: Path, base: Path) -> None:
        self.job, self.layout, self.folder, self.base = job, layout, folder, base
        self.replica: Replica | None = None
        self._followers: list[subprocess.Popen[bytes]] = []
        self._room: tempfile.TemporaryDirectory[str] | None = None
        self._errors: IO[bytes] | None = None
        self._environment: dict[str, str] = {}

    def compute(self, round_: int, batch: Samples) -> Gradient | None:
        """The gradient of a round's batch at the job's model, by all ranks together; None if it has too few samples."""
        if len(batch) < self.layout.processes:
            return None
        try:
            replica = self.replica or self._start()
            self._look_after()
            replica.order(len(batch), round_)
            own = trainable(self.job.model)
            with torch.no_grad():
                for copy, parameter in zip(replica.own, own, strict=True):
                    copy.copy_(parameter)
                replica.exchange([copy.detach() for copy in replica.own])
            total, found = replica.gradient(batch)
        except RuntimeError as error:
            raise RunFailed(f"a pre-training process failed at round {round_}: {self._why(error)}") from error
        parts = [part.to(parameter.device) for part, parameter in zip(found, own, strict=True)]
        return Gradient(loss=float(total), parts=parts, norm_sq=norm_sq(parts))

    def _start(self) -> Replica:
        import copy

        self._environment = dict(os.environ)
        ranks = self.layout.processes
        unused = _has_unused(self.job)
        if ranks > 1:
            self._room = tempfile.TemporaryDirectory(prefix="pretune-ranks-")
            meeting = str(Path(self._room.name) / "meeting")
            self._errors = open(Path(self._room.name) / "errors", "w+b")  # noqa: SIM115 - closed in `close`
            for rank in range(1, ranks):
                words = [str(self.folder.resolve()), str(self.base.resolve()), meeting, self.layout.device]
                words += [str(number) for number in (rank, ranks, self.job.seed, torch.get_num_threads(), int(unused))]
                command = [sys.executable, "-m", "pretune.runtime.follow", *words]
                self._followers.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._errors,
                        start_new_session=True,
                    )
                )  # fmt: skip
            for follower in self._followers:  # each says one line when it has loaded all it needs
                if follower.stdout is None or not follower.stdout.readline():
                    raise RuntimeError("it could not start")
            join(0, ranks, meeting, self.layout.device)
        self.replica = Replica(copy.deepcopy(self.job.model), self.job.task.loss, self.layout.device, unused)
        return self.replica

    def _look_after(self) -> None:
        """Refuse to begin a round without a follower: gloo notices who dies, but for a moment in which it waits on.

        Raises:
            RuntimeError: one has ended.
        """
        for follower in self._followers:
            if follower.poll() is not None:
                raise RuntimeError(f"it ended by itself (exit code {follower.returncode})")

    def _why(self, error: RuntimeError) -> str:
        said = b""
        if self._errors is not None:
            for follower in self._followers:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    follower.wait(timeout=5.0)
            self._errors.seek(0)
            said = self._errors.read()
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else (str(error).splitlines() or ["no reason given"])[0]

    def close(self) -> None:
        """Send the followers home (once; safe to call at any time), and leave this process as it was."""
        replica, self.replica = self.replica, None
        if replica is not None:
            with contextlib.suppress(RuntimeError):  # a follower may be gone already
                self._look_after()
                replica.order(STOP, 0)
            replica.leave()
        for follower in self._followers:
            try:
                follower.wait(timeout=10.0 if replica is not None else 0.0)
            except subprocess.TimeoutExpired:
                follower.kill()
                follower.wait()
            if follower.stdout is not None:
                follower.stdout.close()
        self._followers.clear()
        if self._errors is not None:
            self._errors.close()
        if self._room is not None:
            self._room.cleanup()
        if self._environment:
            os.environ.clear()
            os.environ.update(self._environment)
        self._errors, self._room, self._environment = None, None, {}


@dataclass(frozen=True, kw_only=True, eq=False)
class ParallelCrew(Crew):
    """The server, computing its batches with a team."""

    team: Team
    last: int

    def gradient(
        self,
        model: nn.Module,
        loss: PerSampleLoss,
        seed: int,
        round_: int,
        *,
        coupled: bool = False,
        combine: Combiner | None = None,
    ) -> Gradient:
        """See `Crew.gradient`; `model` is the job's."""
        found = self.team.compute(round_, self.batch_of(seed, round_))
        if found is None:
            raise ValueError("a batch with fewer samples than processes was checked for before")
        if round_ == self.last:
            self.team.close()
        return found


@contextmanager
def in_parallel(job: Job, layout: Layout, folder: Path, base: Path) -> Iterator[Job]:
    """The job with its pre-training spread as `layout` says; the followers are gone when the block is left."""
    if layout.plain:
        yield job
        return
    team = Team(job, layout, folder, base)
    stages = []
    for stage in job.stages:
        if stage.stage is Stage.PRETRAIN:
            crew = ParallelCrew(**vars(stage.crew), team=team, last=stage.last)
            stages.append(replace(stage, crew=crew))
        else:
            stages.append(stage)
    try:
        yield replace(job, stages=tuple(stages), together=team)
    finally:
        team.close()


def _has_unused(job: Job) -> bool:
    """Whether some parameters get no gradient from a sample."""
    few = job.task.general.take(torch.arange(1))
    value = job.task.loss(job.model(few.x), few.y).sum()
    return any(part is None for part in torch.autograd.grad(value, trainable(job.model), allow_unused=True))
