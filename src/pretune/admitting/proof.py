"""The lower bound that an admission's certificate proves, over all subsets and with no fine-tuning at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pretune.admitting.offers import offers_of
from pretune.admitting.roster import Mask, Roster, subscenario
from pretune.admitting.tree import proven
from pretune.compact import most_rounds
from pretune.errors import InputError
from pretune.figures import SAME, System, system_of
from pretune.proof import cover, price_set
from pretune.scenario import Scenario

WHERE = "admission.certificate"
FREE_PRICES: dict[str, Any] = {"energy": 0.0, "omega": 0.0}
"""Prices of nothing, which prove that what does not fit does not."""


@dataclass(frozen=True, kw_only=True)
class Subsets:
    """What the certificate's tree proves: a bound over all subsets but some, which need a proof of their own."""

    least: float
    alone: list[Mask]


def over_subsets(roster: Roster, certificate: Mapping[str, Any]) -> Subsets:
    """What the tree proves.

    Raises:
        InputError: the certificate can't be read, or its tree does not cover all subsets.
    """
    tree, entries = (_list(certificate, key) for key in ("tree", "prices"))
    least, masks = proven(roster, tree, offers_of(roster, entries))
    return Subsets(least=least, alone=[np.frombuffer(mask, dtype=np.bool_) for mask in masks])


def holds_alone(scenario: Scenario, mask: Mask, listed: Mapping[str, Any], claim: float) -> tuple[bool, list[int]]:
    """Whether a subset's own price sets bound all its rounds at the claim or above, and which of them that took.

    Raises:
        InputError: the price sets can't be read.
    """
    system = system_of(subscenario(scenario, mask))
    sets = [price_set(system, entry) for entry in _objects(listed, "prices")]
    spans = listed.get("spans", False)
    if not sets or not isinstance(spans, bool):
        raise InputError(f"{WHERE}.subsets: each should hold price sets, and spans true or false")
    return cover(system, sets, claim - SAME * abs(claim), spans)


def holds_without_finetuning(scenario: Scenario, certificate: Mapping[str, Any], claim: float) -> bool:
    """Whether price sets bound all plans that only pre-train, which know no devices, at the claim or above.

    Raises:
        InputError: the price sets can't be read.
    """
    system = server_alone(scenario)
    sets = [price_set(system, entry) for entry in (FREE_PRICES, *_objects(certificate, "pretrain"))]
    return cover(system, sets, claim - SAME * abs(claim), False, (most_rounds(system)[0], 0.0))[0]


def server_alone(scenario: Scenario) -> System:
    """The system with its first device only, which a plan without fine-tuning never asks."""
    one = np.zeros(len(scenario.devices), dtype=np.bool_)
    one[0] = True
    return system_of(subscenario(scenario, one))


def _list(tree: Mapping[str, Any], key: str) -> list[Any]:
    found = tree.get(key)
    if not isinstance(found, list):
        raise InputError(f"{WHERE}.{key}: should hold a list")
    return found


def _objects(tree: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = _list(tree, key)
    if not all(isinstance(entry, Mapping) for entry in found):
        raise InputError(f"{WHERE}.{key}: should hold objects")
    return found
