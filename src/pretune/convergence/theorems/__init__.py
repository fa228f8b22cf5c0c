"""The bounds that pretune plans with, one file each: assumptions, statement, proof sketch, when it is tight, source.

Every file has a `check` that returns (computed, bound) on a quadratic with known constants, where the left-hand side is
known exactly: ``computed <= bound`` always, and equal where the file says it is tight
(tests/convergence/test_theorems.py, and test_local_theorems.py for those with local steps).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pretune.convergence.theorems import (
    descent_finetune,
    descent_pretrain,
    final_gap,
    finetune_average,
    local_average,
    local_final,
    trajectory,
    young_family,
)
from pretune.convergence.theorems.crowd import Crowd
from pretune.convergence.theorems.quadratic import Quadratic

__all__ = ["LOCAL_THEOREMS", "THEOREMS", "Crowd", "Quadratic"]

THEOREMS: Mapping[str, Callable[[Quadratic], tuple[float, float]]] = {
    "descent_pretrain": descent_pretrain.check,
    "descent_finetune": descent_finetune.check,
    "trajectory": trajectory.check,
    "young_family": young_family.check,
    "final_gap": final_gap.check,
    "finetune_average": finetune_average.check,
}

LOCAL_THEOREMS: Mapping[str, Callable[[Crowd], tuple[float, float]]] = {
    "local_average": local_average.check,
    "local_final": local_final.check,
}
"""Those with local steps, on quadratics that differ from device to device."""
