"""Who computes gradients in a round: the server alone in the first stage, the devices in the second.

`Crew` simulates all of them in one weighted batch. `Worker` is one of them by itself: it needs nothing of the others
but the number of samples they draw before it, so a real device gives the same gradient as the simulated one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from pretune.ledger import Stage
from pretune.physics.types import Floats, Ints
from pretune.runtime.aggregate import Combiner
from pretune.runtime.charges import Charge
from pretune.runtime.fedavg import fused_local, looped_local
from pretune.runtime.gradient import Gradient, fused_gradient, looped_gradient, stacked_gradient
from pretune.runtime.sampling import draw, draw_one
from pretune.runtime.task import PerSampleLoss, Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Worker:
    """One participant: its own samples, its batch, its share in the average, and how many draws come before its own."""

    stage: Stage
    data: Samples
    batch: int
    share: float
    first: int

    def batch_of(self, seed: int, round_: int) -> Samples:
        """What it computes on in this round."""
        return self.data.take(
            draw_one(seed, self.stage, round_, first=self.first, batch=self.batch, size=len(self.data))
        )

    def gradient(self, model: nn.Module, loss: PerSampleLoss, seed: int, round_: int) -> Gradient:
        """Its own mean gradient (not weighted by its share)."""
        return looped_gradient(model, loss, [self.batch_of(seed, round_)], [1.0])


@dataclass(frozen=True, kw_only=True)
class LocalSteps:
    """How many steps of which size a device takes on its own in a round; `fused`: all devices at once."""

    count: int
    size: float
    fused: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class Crew:
    """All participants of a stage, K of them; with `local` they take several steps each between two averages.

    `data` is their samples one after the other; `batch` and `shares` have shape (K,). The three columns below have
    one entry per sample of a round, shape (sum of the batches,): the owner's size, where its samples begin, and
    the weight ``share / batch``.
    """

    stage: Stage
    data: Samples
    batch: Ints
    shares: Floats
    size_column: Ints
    offset_column: Ints
    weight_column: Tensor
    local: LocalSteps | None = None

    @staticmethod
    def of(
        stage: Stage, data: Samples, sizes: Ints, batch: Ints, shares: Floats, local: LocalSteps | None = None
    ) -> Crew:
        """The crew whose member k holds `sizes[k]` samples, in order, and computes `batch[k]` of them a step."""
        offsets = np.cumsum(sizes) - sizes
        return Crew(
            stage=stage,
            data=data,
            batch=batch,
            shares=shares,
            size_column=np.repeat(sizes, batch),
            offset_column=np.repeat(offsets, batch),
            weight_column=torch.from_numpy(np.repeat(shares / batch, batch)),
            local=local,
        )

    def batch_of(self, seed: int, round_: int, local_step: int = 0) -> Samples:
        """All samples of a local step, those of the first member first; a round's steps share its stream."""
        first = local_step * len(self.size_column)
        return self.data.take(draw(seed, self.stage, round_, self.size_column, self.offset_column, first=first))

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
        """The weighted average of the members' gradients at `model`, or what `combine` makes of them.

        With local steps the average of all that they add up to, and no `combine`.

        In one batch, or member by member where samples of a batch influence each other (`coupled`, batch norm) or the
        members' own gradients are asked for (`combine`; not for coupled models).
        """
        if self.local is not None:
            way = fused_local if self.local.fused and not coupled else looped_local
            draws = partial(self.batch_of, seed, round_)
            return way(model, loss, draws, self.batch, self.shares, steps=self.local.count, size=self.local.size)
        if combine is None and not coupled:
            rows = draw(seed, self.stage, round_, self.size_column, self.offset_column)
            return fused_gradient(model, loss, self.data, self.weight_column, torch.from_numpy(rows))
        everything = self.batch_of(seed, round_)
        if combine is not None:
            pieces = list(self._pieces(everything))
            return stacked_gradient(
                model, loss, pieces, self.shares.tolist(), lambda stack, shares: combine(stack, shares, round_)
            )
        return looped_gradient(model, loss, list(self._pieces(everything)), self.shares.tolist())

    def exceptions(self) -> Mapping[int, Charge]:
        """The rounds that cost something else by the model than the stage's others; here none can."""
        return {}

    def workers(self) -> list[Worker]:
        """The members one by one."""
        firsts = np.cumsum(self.batch) - self.batch
        found = []
        for k in range(len(self.batch)):
            row = int(firsts[k])
            start, size = int(self.offset_column[row]), int(self.size_column[row])
            found.append(
                Worker(
                    stage=self.stage,
                    data=Samples(x=self.data.x[start : start + size], y=self.data.y[start : start + size]),
                    batch=int(self.batch[k]),
                    share=float(self.shares[k]),
                    first=row,
                )
            )
        return found

    def _pieces(self, everything: Samples) -> Sequence[Samples]:
        ends = np.cumsum(self.batch).tolist()
        starts = [0, *ends[:-1]]
        return [Samples(x=everything.x[a:b], y=everything.y[a:b]) for a, b in zip(starts, ends, strict=True)]
