"""Which samples a round uses: uniform with replacement, and a function of (seed, stage, round) alone.

Drawing with replacement is what makes the variance of a batch gradient exactly sigma^2/b, as the theory has it
(math.md section 2). The draws come from Philox, a counter-based generator: the seed and the stage are its key, the
round is the high word of its counter, so no state is carried from round to round. Device k uses a slice of the
round's stream, and can jump to it without drawing what the others use.

Source of the generator: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator, Philox

from pretune.ledger import Stage
from pretune.physics.types import Floats, Ints

_KEY = {Stage.PRETRAIN: 1, Stage.FINETUNE: 2}
_PER_STEP = 4  # Philox4x64 gives four 64-bit words a step of its counter, and a double takes one word


def uniforms(seed: int, stage: Stage, round_: int, first: int, count: int) -> Floats:
    """Draws number `first` to ``first + count - 1`` of a round's stream: doubles in [0, 1), shape (count,)."""
    key = np.array([seed, _KEY[stage]], dtype=np.uint64)
    counter = np.array([0, 0, 0, round_], dtype=np.uint64)
    philox = Philox(key=key, counter=counter)
    jump, skip = divmod(first, _PER_STEP)
    if jump:
        philox.advance(jump)
    return Generator(philox).random(skip + count)[skip:]


def draw(seed: int, stage: Stage, round_: int, sizes: Ints, offsets: Ints, *, first: int = 0) -> Ints:
    """Positions of all samples of a round, those of device 0 first; `first` is how many draws come before them.

    `sizes` and `offsets` have one entry per *draw* (length sum of the batches): how many samples the drawing device
    holds, and where they begin in the concatenated data.
    """
    return offsets + (uniforms(seed, stage, round_, first, len(sizes)) * sizes).astype(np.int64)


def draw_one(seed: int, stage: Stage, round_: int, *, first: int, batch: int, size: int) -> Ints:
    """What one device draws, counted within its own `size` samples; `first` is the sum of the batches before it."""
    return (uniforms(seed, stage, round_, first, batch) * size).astype(np.int64)
