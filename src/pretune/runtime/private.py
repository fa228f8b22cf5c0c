"""Private fine-tuning, carried out: every device's gradient shortened, the mean noised, the spending accounted for.

The noise is a function of (seed, round) alone, like the samples of a round, so that a run can be repeated and resumed
to the bit. **Whoever knows the seed can take the noise off again**: a simulation measures what privacy costs; a
deployment must draw it from a secret. What is protected is the model after each round and at the end, not the ledger:
its training losses, and the count of clipped updates, are computed from the devices' data without noise and are for the
simulation's own eyes.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from numpy.random import Generator, Philox
from torch import Tensor

from pretune.errors import InputError, MissingExtra
from pretune.privacy import Privacy
from pretune.runtime.aggregate import MEAN, Aggregation, clip_rows, weighted_mean

_KEY = 3
"""Of the noise's stream, beside those of the samples (`sampling`)."""
_PRECISION = 1.0 / 250.0
"""The accountant's numerical error as a share of epsilon; the plan's noise leaves more than that unspent."""


@dataclass(kw_only=True, eq=False)
class PrivateMean:
    """The weighted mean of gradients no longer than `clip`, with normal noise of `noise_std` on each coordinate.

    Counts the updates it has seen and those it had to shorten, in this process.
    """

    clip: float
    noise_std: float
    seed: int
    updates: int = 0
    clipped: int = 0

    def __call__(self, stack: Tensor, weights: Tensor, round_: int) -> Tensor:
        """See `aggregate.Combiner`."""
        norms = clip_rows(stack, self.clip)
        self.updates += len(norms)
        self.clipped += int((norms > self.clip).sum())
        mean = weighted_mean(stack, weights)
        return mean + torch.from_numpy(self.noise(round_, len(mean))).to(mean.dtype)

    def noise(self, round_: int, size: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The noise of a round, shape (size,)."""
        key = np.array([self.seed, _KEY], dtype=np.uint64)
        counter = np.array([0, 0, 0, round_], dtype=np.uint64)
        return self.noise_std * Generator(Philox(key=key, counter=counter)).standard_normal(size)


def private_mean(
    asked: Privacy, rounds: int, heaviest: float, *, seed: int, parameters: int, coupled: bool, aggregation: Aggregation
) -> PrivateMean:
    """What makes `rounds` fine-tuning rounds as private as asked; `heaviest` is the largest weight.

    Raises:
        InputError: the noise was planned for another model, the model can't be trained privately, or a robust rule is
            asked for as well.
        MissingExtra: the accountant is not installed.
    """
    if asked.parameters != parameters:
        should = f"{parameters}, the model's trainable parameters"
        raise InputError.field("privacy.parameters", asked.parameters, should)
    if coupled:
        raise InputError("privacy: the model has batch norm, whose statistics would not be private; use another norm")
    if aggregation != MEAN:
        should = "mean: the noise of privacy is meant for no other rule"
        raise InputError.field("aggregation", aggregation.text, should)
    if find_spec("opacus") is None:
        raise MissingExtra("privacy", "opacus")
    return PrivateMean(clip=asked.clip, noise_std=asked.noise_std(rounds, heaviest), seed=seed)


def account(asked: Privacy, planned: int, done: int) -> dict[str, Any]:
    """For summary.json: what `done` rounds with the noise of `planned` ones have spent, by Opacus' PRV accountant.

    Its epsilon is an upper bound up to its numerical error (Gopi, Lee, Wutschitz, "Numerical composition of
    differential privacy", NeurIPS 2021).
    """
    multiplier = asked.multiplier(planned)
    spent = 0.0
    if done:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            from opacus.accountants import PRVAccountant

            accountant = PRVAccountant()
            accountant.history = [(multiplier, 1.0, done)]
            error = _PRECISION * asked.epsilon
            spent = float(accountant.get_epsilon(asked.delta, eps_error=error, delta_error=1e-3 * asked.delta))
    return {
        "epsilon": asked.epsilon,
        "delta": asked.delta,
        "epsilon_spent": spent,
        "accountant": "opacus PRV",
        "rounds": done,
        "clip": asked.clip,
        "noise_multiplier": multiplier,
    }
