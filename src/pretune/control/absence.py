"""A round as it was where devices are real, and some of those that should have answered did not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pretune.control.columns import Fleetwide
from pretune.control.moves import Round, carry_out
from pretune.control.standing import made_up
from pretune.physics.types import Bools


def really(fleet: Fleetwide, done: Round, who: Bools) -> Round:
    """The round `done`, simulated, when only `who` (K,) of those that should have answered did.

    Each of the others is charged with the most that it may have taken. A real absence is none that the probabilities
    know of: the weights of those that answered make up for it, which is unbiased if it is a matter of chance.
    """
    missing = done.outcome.done & ~who
    if not missing.any():
        return done
    outcome = carry_out(fleet, done.move, done.met, missing)
    raised = made_up(done.shares, done.outcome.done, outcome.done)
    shares = np.where(outcome.done, raised * done.shares, 0.0)
    return replace(done, outcome=outcome, shares=shares, missing=missing)
