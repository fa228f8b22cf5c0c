"""How the devices' gradients become one: the weighted mean, or a rule that a few bad devices can't pull away.

Every rule takes the gradients stacked, one row a device, shape (K, d), and the devices' weights, shape (K,), and gives
one vector, shape (d,). It knows nothing of models, rounds or links, so a federated server calls it as the simulation
does. What an attacker may weigh is bounded by the scenario's weights, not by what a device claims.

| rule | what it does | holds against attackers of total weight |
|---|---|---|
| `mean` | the weighted mean | none |
| `median` | coordinate by coordinate the weighted median | below 1/2 |
| `trimmed:T` | coordinate by coordinate the weighted mean without a share T of weight at both ends | at most T |
| `clip:C` | the weighted mean of gradients shortened to the norm C | none, but moves the mean by 2 C a weight at most |

"Holds" means: every coordinate of the result lies between the least and the largest honest value (the convex hull in
one dimension). The convergence bounds speak of the weighted mean: of the other rules they claim nothing, since with
unlike data at the devices a median is not the mean's unbiased estimate.

Sources: Yin, Chen, Ramchandran, Bartlett, "Byzantine-robust distributed learning" (ICML 2018) for median and trimmed
mean; the weighted versions are the ones that a device of weight 2w and two equal devices of weight w make the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pretune.errors import InputError

CELLS = 1 << 22
"""Entries of the stack sorted at a time: bounds the memory beside the stack itself."""
_TIE = 1e-9
"""Cumulative weights that are this near to a half count as a half (they are sums of rounded numbers)."""
SHOULD = "mean, median, trimmed:T with T from 0 to below 0.5, or clip:C with C > 0"


class Rule(StrEnum):
    """The rules by name."""

    MEAN = "mean"
    MEDIAN = "median"
    TRIMMED = "trimmed"
    CLIP = "clip"


class Combiner(Protocol):
    """What a round does with the devices' gradients."""

    def __call__(self, stack: Tensor, weights: Tensor, round_: int) -> Tensor:
        """The one gradient of shape (d,) from `stack`, shape (K, d), which may be changed, and `weights`, (K,)."""
        ...


@dataclass(frozen=True, kw_only=True)
class Aggregation:
    """A rule with its parameter (T of `trimmed`, C of `clip`; 0 where there is none)."""

    rule: Rule = Rule.MEAN
    parameter: float = 0.0

    @staticmethod
    def read(text: str) -> Aggregation:
        """The rule that a text such as ``trimmed:0.2`` names.

        Raises:
            InputError: it names none, or its parameter is out of range.
        """
        name, colon, number = text.partition(":")
        wrong = InputError.field("aggregation", text, SHOULD)
        if name not in tuple(Rule) or bool(colon) != (name in (Rule.TRIMMED, Rule.CLIP)):
            raise wrong
        rule = Rule(name)
        if not colon:
            return Aggregation(rule=rule)
        try:
            value = float(number)
        except ValueError:
            raise wrong from None
        if not math.isfinite(value) or not (0.0 <= value < 0.5 if rule is Rule.TRIMMED else value > 0.0):
            raise wrong
        return Aggregation(rule=rule, parameter=value)

    @property
    def text(self) -> str:
        """The rule as `read` takes it."""
        return f"{self.rule.value}:{self.parameter!r}" if self.rule in (Rule.TRIMMED, Rule.CLIP) else self.rule.value

    def __call__(self, stack: Tensor, weights: Tensor, round_: int = 0) -> Tensor:
        """See `Combiner`; the rules don't depend on the round."""
        if self.rule is Rule.MEDIAN:
            return weighted_median(stack, weights)
        if self.rule is Rule.TRIMMED:
            return trimmed_mean(stack, weights, self.parameter)
        if self.rule is Rule.CLIP:
            clip_rows(stack, self.parameter)
        return weighted_mean(stack, weights)


MEAN = Aggregation()
"""The plain weighted mean."""


def weighted_mean(stack: Tensor, weights: Tensor) -> Tensor:
    """``sum_k w_k g_k`` (the weights as they are: a round's add up to one); `stack` (K, d), `weights` (K,)."""
    mean: Tensor = weights.to(stack.dtype) @ stack
    return mean


def weighted_median(stack: Tensor, weights: Tensor) -> Tensor:
    """Coordinate by coordinate the point with half of the weight on either side.

    Where exactly half of the weight ends at a value, the middle of that value and the next: with equal weights and an
    even K the usual median.
    """
    found = torch.empty(stack.shape[1], dtype=stack.dtype)
    for window, values, cumulated, _ in _sorted(stack, weights):
        half = torch.full((len(values), 1), 0.5, dtype=torch.float64)
        low = torch.searchsorted(cumulated, half - _TIE)
        high = torch.searchsorted(cumulated, half + _TIE).clamp_max(len(stack) - 1)
        found[window] = torch.lerp(values.gather(1, low), values.gather(1, high), 0.5)[:, 0]
    return found


def trimmed_mean(stack: Tensor, weights: Tensor, trim: float) -> Tensor:
    """Coordinate by coordinate the weighted mean of what is left without a share `trim` of the weight at either end.

    A device whose weight straddles a cut keeps the part inside it. `trim` 0 is the weighted mean of weights that add
    up to one; towards one half it becomes the weighted median.
    """
    found = torch.empty(stack.shape[1], dtype=stack.dtype)
    for window, values, cumulated, own in _sorted(stack, weights):
        kept = cumulated.clamp_max(1.0 - trim) - (cumulated - own).clamp_min(trim)
        kept = kept.clamp_min(0.0)
        found[window] = ((kept * values).sum(dim=1) / kept.sum(dim=1)).to(stack.dtype)
    return found


def clip_rows(stack: Tensor, norm: float) -> Tensor:
    """Shorten, in place, every row longer than `norm` to it; returns the rows' norms as they were, shape (K,)."""
    norms: Tensor = torch.linalg.vector_norm(stack, dim=1)
    stack.mul_((norm / norms).clamp_max(1.0).nan_to_num(1.0).unsqueeze(1))
    return norms


def _sorted(stack: Tensor, weights: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Some columns at a time: which, and in a row for each column its values rising, the weight up to each, its own.

    Weights are in double precision and add up to one.
    """
    share = weights.to(torch.float64) / weights.to(torch.float64).sum()
    equal, count = bool((share == share[0]).all()), len(stack)
    width = max(1, CELLS // count)
    for first in range(0, stack.shape[1], width):
        window = slice(first, first + width)
        columns = stack[:, window].T.contiguous()
        # NumPy's sort takes a tenth of the time that torch's does, its argsort a third
        if equal:
            values, own = torch.from_numpy(np.sort(columns.numpy(), axis=1)), share.expand(columns.shape)
            yield window, values, share.cumsum(dim=0).expand(columns.shape).contiguous(), own
        else:
            order = torch.from_numpy(np.argsort(columns.numpy(), axis=1))
            own = share[order]
            yield window, columns.gather(1, order), own.cumsum(dim=1), own
