"""Writes down what proves an admission's bound, and has the checker's own code say what that comes to."""

from __future__ import annotations

import math
from typing import Any

from pretune.admitting.proof import holds_alone, holds_without_finetuning, over_subsets
from pretune.admitting.roster import roster_of
from pretune.errors import InputError
from pretune.planner.admission_bound import SubsetSearch
from pretune.planner.admission_fleet import Choice
from pretune.planner.admission_record import settle, written


def certify(
    choice: Choice, search: SubsetSearch, pretrain: list[dict[str, Any]], tolerance: float, lower: float
) -> tuple[dict[str, Any] | None, float]:
    """The certificate of a lower bound over all subsets, and the bound that it proves, at most `lower`.

    None, and `lower` as it was, where there is nothing to write or the checker's code does not prove it again.
    """
    if not math.isfinite(settle(search.record)) and search.record.entry != ["e"]:
        return None, lower
    tree, prices = written(search.record, choice.problem.devices.battery)
    certificate: dict[str, Any] = {
        "tolerance": tolerance,
        "min_weight": choice.min_weight,
        "tree": tree,
        "prices": prices,
        "subsets": [],
        "pretrain": pretrain,
    }
    try:
        found = over_subsets(roster_of(choice.scenario, choice.min_weight), certificate)
        claim = min(lower, found.least - 1e-12 * abs(found.least))
        for mask in found.alone:
            known = search.alone.get(mask.tobytes())
            if known is None:
                return None, lower
            listed = {"devices": mask.nonzero()[0].tolist(), "prices": known.entries, "spans": known.spans}
            whole, needed = holds_alone(choice.scenario, mask, listed, claim)
            if not whole:
                return None, lower
            # many sets were tried on the way: those that the proof took are enough
            certificate["subsets"].append(listed | {"prices": [known.entries[i] for i in needed]})
        if not holds_without_finetuning(choice.scenario, certificate, claim):
            return None, lower
    except InputError:
        # the two sides differ by rounding in what a part rules out: then the bound stands without a proof
        return None, lower
    return certificate, claim
