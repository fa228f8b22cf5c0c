"""The worst constants within their measured intervals: what a robust plan counts with.

Both bounds grow in the smoothness, the initial gap, the shift and the variances, and fall in the Polyak-Lojasiewicz
constant, whatever the rounds and batches. For `trajectory` every term shows it. For `final` one round takes a gap ``D``
to ``r D + eta0/2 (zeta^2 + L eta0 sigma0^2/b0)`` or ``q D + L eta^2 S/2`` with ``r = 1 - eta0 mu`` and
``q = 1 - mu eta (2 - L eta)``: with steps of at most ``1/L`` neither the factor nor the constant falls when a constant
gets worse, and ``D`` is never negative, so the result follows by induction over the rounds. The worst case of all
constants in their intervals is therefore one corner, the same for all plans, and the best plan for that corner is the
plan whose worst case is best: nothing is relaxed, and its certificate is that of any plan. Local steps change nothing
of this: their weights fall in the smoothness, their costs grow in it and in the heterogeneity (`convergence.drift`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import ValidationError

from pretune.constants import Convergence, Criterion
from pretune.measured import Figure, Measurements
from pretune.problems import Problems

RISING = ("smoothness", "initial_gap", "shift", "pretrain_variance", "finetune_variance", "heterogeneity")
"""The bounds grow in these, and fall in `pl_constant`."""


def worst_case(used: Convergence, measured: Measurements | None) -> Convergence:
    """The constants at the worst ends of their intervals; one that was not measured, or is worse in use, stays.

    Raises:
        Refused: nothing was measured, the criterion has no such constants, or the bounds do not hold at the worst ends.
    """
    problems = Problems()
    found = dict(measured.found) if measured is not None else {}
    if used.criterion is Criterion.CALIBRATED:
        problems.holds("convergence.robust", True, "false: criterion calibrated has a law, and no constants")
    elif not any(key in found for key in (*RISING, "pl_constant")):
        problems.say("convergence.robust: holds true, but nothing is measured; run `pretune calibrate` first")
    problems.refuse()
    worst: dict[str, Any] = {
        key: _worse(getattr(used, key), found[key].high)
        for key in RISING
        if key in found and getattr(used, key) is not None
    }
    if used.pl_constant is not None and "pl_constant" in found:
        low = found["pl_constant"].low
        worst["pl_constant"] = min(used.pl_constant, low if isinstance(low, float) else min(low))
    same = {key: getattr(used, key) for key in used.model_fields_set}
    try:
        return Convergence(**{**same, **worst})
    except ValidationError as error:
        for entry in error.errors():
            text = str(entry.get("msg", "")).removeprefix("Value error, ")
            problems.say(f"convergence.robust: at the worst ends of the intervals, {text}")
        problems.refuse()
        raise


def _worse(used: Figure, high: Figure) -> Figure:
    worst = np.maximum(*np.broadcast_arrays(used, high))
    return float(worst) if worst.ndim == 0 else tuple(worst.tolist())
