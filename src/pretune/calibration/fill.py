"""A scenario file that may lack what is about to be measured, read with stand-ins in the gaps."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretune.errors import InputError
from pretune.measured import CONVERGENCE, WORKLOAD
from pretune.scenario import Scenario, scenario_from_dict

_STAND_IN = {"flops_per_sample": 1.0, "upload_bits": 1.0, "initial_gap": 0.0, "shift": 0.0}
_STAND_IN |= {"pretrain_variance": 0.0, "finetune_variance": 0.0}
STEPS = ("pretrain_step", "finetune_step")


def filled(tree: Mapping[str, Any], base: Path) -> Scenario:
    """The scenario of a file's tree; constants that are absent or null get stand-ins, which nothing measured reads.

    Raises:
        InputError: one line per bad field; also where a step is missing, which the measured path takes.
    """
    whole: dict[str, Any] = copy.deepcopy(dict(tree))
    for section, keys in (("workload", WORKLOAD), ("convergence", CONVERGENCE)):
        part = whole.get(section)
        if part is None:
            part = {}
        if not isinstance(part, dict):
            continue  # told by the scenario's own reading
        for key in keys:
            if part.get(key) is None:
                part.pop(key, None)
                if key in _STAND_IN:
                    part[key] = _STAND_IN[key]
        whole[section] = part
    part = whole["convergence"]
    if isinstance(part, dict):
        missing = [key for key in STEPS if part.get(key) is None]
        if missing:
            raise InputError(
                *(
                    f"convergence.{key}: is missing, should hold a step size such as 0.05: the measured path takes it"
                    for key in missing
                )
            )
        steps = [part[key] for key in STEPS if isinstance(part[key], int | float)]
        if "smoothness" not in part:  # the largest that these steps allow, and one that allows any rate
            part["smoothness"] = 1.0 / max(steps, default=1.0) if max(steps, default=1.0) > 0 else 1.0
        if "heterogeneity" not in part and part.get("local_steps", 1) != 1:
            part["heterogeneity"] = 0.0
        if "pl_constant" not in part and part.get("criterion") == "final":
            part["pl_constant"] = 1e-12
    return scenario_from_dict(whole, base)
