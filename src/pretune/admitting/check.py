"""Checks an admission's file: its plan, its figures, and the bound over all subsets, without a solver."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pretune.admitting.proof import holds_alone, holds_without_finetuning, over_subsets
from pretune.admitting.roster import Mask, Roster, roster_of, subscenario
from pretune.certify import SAME, Checked, check
from pretune.errors import CheckFailed, InputError, PlanMismatch
from pretune.plans import Plan, Status, plan_from_dict
from pretune.reader import Reader
from pretune.scenario import Criterion, Scenario

_CERTIFICATE = {"tolerance", "min_weight", "tree", "prices", "subsets", "pretrain"}


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """An admission's file."""

    status: Status
    plan: Plan
    names: tuple[str, ...]
    dropped: tuple[str, ...]
    weight: float
    objective: float
    lower_bound: float
    relative_gap: float
    fleet_sha256: str
    certificate: dict[str, Any] | None


def is_admission(tree: object) -> bool:
    """Whether a file's tree is that of an admission."""
    return isinstance(tree, dict) and "admitted" in tree


def admission_from_dict(tree: object) -> Admitted:
    """The admission that a file's tree describes.

    Raises:
        InputError: naming the first field that is missing, unknown or of the wrong kind.
    """
    reader = Reader(tree, "admission")
    if reader.take("pretune", int) != 1:
        raise InputError("admission.pretune: holds another format, should hold 1")
    status = reader.take("status", str)
    if status not in list(Status):
        raise InputError.field("admission.status", status, "one of " + ", ".join(Status))
    rows = reader.rows("dropped")
    found = Admitted(
        status=Status(status),
        plan=plan_from_dict(reader.take("plan", dict)),
        names=tuple(str(name) for name in reader.take("admitted", list)),
        dropped=tuple(row.take("name", str) for row in rows),
        weight=reader.take("weight", float),
        objective=reader.budget("objective"),
        lower_bound=reader.budget("lower_bound"),
        relative_gap=reader.budget("relative_gap"),
        fleet_sha256=reader.take("fleet_sha256", str),
        certificate=reader.take("certificate", dict) if reader.tree.get("certificate") is not None else None,
    )
    reader.left -= {"certificate", "whole_objective", "bound_provable_from_file", "scenario_sha256"}
    reader.done()
    return found


def load_tree(path: Path) -> object:
    """The tree of a plan's or an admission's file.

    Raises:
        InputError: the file can't be read or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read as a plan file ({error})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a whole JSON file ({error})") from None


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def check_admission(admitted: Admitted, scenario: Scenario) -> Checked:
    """Recompute what an admission claims: its subset's plan, its figures, and its bound over all subsets.

    Not checked: what it says of the plan with all devices, and why each other device is left out.

    Raises:
        PlanMismatch: it was made for another fleet.
        CheckFailed: with one line per claim that does not hold.
        InputError: the certificate can't be read.
    """
    if admitted.fleet_sha256 != scenario.sha256:
        raise PlanMismatch(
            f"admission.fleet_sha256: holds {admitted.fleet_sha256[:12]}..., should hold {scenario.sha256[:12]}...: "
            "it was made for another fleet; admit again"
        )
    _refuse_kinds(scenario)
    if not admitted.status.has_plan:
        return check(admitted.plan, scenario)
    mask = _mask(admitted, scenario)
    alpha = scenario.devices.weight / scenario.devices.weight.sum()
    weight, plan = float(alpha[mask].sum()), admitted.plan
    checked = check(plan, subscenario(scenario, mask))
    problems: list[str] = []
    for name, claimed, found in (
        ("weight", admitted.weight, weight),
        ("objective", admitted.objective, plan.objective),
    ):
        if not abs(claimed - found) <= SAME * abs(found):
            problems.append(f"admission.{name}: claims {claimed!r}, recomputed {found!r}")
    _check_gap(admitted, problems)
    if problems:
        raise CheckFailed(*problems)
    proven = _check_bound(admitted, scenario, weight)
    return Checked(
        energy_j=checked.energy_j,
        delay_s=checked.delay_s,
        objective=checked.objective,
        lower_bound_proven=proven,
        constraints=checked.constraints,
    )


def _refuse_kinds(scenario: Scenario) -> None:
    """Admission speaks of no such scenarios, and its proof would not hold for them."""
    convergence, radio = scenario.convergence, scenario.radio
    if convergence.robust or convergence.criterion is Criterion.CALIBRATED or scenario.schedule > 1:
        raise CheckFailed("admission: speaks of no robust, calibrated or scheduled scenario")
    if radio.uplink_bandwidth_hz is not None:
        raise CheckFailed("admission: speaks of no scenario with a shared band")
    if scenario.privacy is not None:
        raise CheckFailed("admission: speaks of no scenario with a privacy section")
    if scenario.convergence.choices != (1,):
        raise CheckFailed("admission: speaks of no scenario with other than one local step")


def _mask(admitted: Admitted, scenario: Scenario) -> Mask:
    """Which devices are admitted; they and those left out are all of the fleet's, each once."""
    names = list(scenario.devices.names)
    listed = [*admitted.names, *admitted.dropped]
    if sorted(listed) != sorted(names) or not admitted.names:
        raise CheckFailed("admission.admitted: with those left out these are not the scenario's devices, each once")
    kept = set(admitted.names)
    mask = np.array([name in kept for name in names])
    if [name for name in names if name in kept] != list(admitted.names):
        raise CheckFailed("admission.admitted: is not in the order of the scenario's devices")
    return mask


def _check_gap(admitted: Admitted, problems: list[str]) -> None:
    """Bound, gap and status against each other."""
    lower, objective = admitted.lower_bound, admitted.objective
    if not math.isfinite(lower):
        if admitted.status is Status.OPTIMAL:
            problems.append("admission.status: claims optimal without a lower bound")
        return
    if lower > objective * (1.0 + SAME):
        problems.append(f"admission.lower_bound: {lower!r} is above the objective {objective!r}")
    gap = (objective - lower) / objective if objective > 0.0 else 0.0
    if not abs(admitted.relative_gap - gap) <= 1e-12:
        problems.append(
            f"admission.relative_gap: claims {admitted.relative_gap!r}, "
            f"(objective - lower_bound) / objective is {gap!r}"
        )
    if admitted.certificate is None:
        return
    tolerance = admitted.certificate.get("tolerance")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not math.isfinite(tolerance):
        problems.append("admission.certificate.tolerance: is missing")
    elif (admitted.status is Status.OPTIMAL) != (gap <= tolerance * (1.0 + SAME)):
        problems.append(f"admission.status: claims {admitted.status.value}, at a gap of {gap:.3g}")


def _check_bound(admitted: Admitted, scenario: Scenario, weight: float) -> bool:
    """Whether the certificate proves the bound; without one it is claimed without a proof that can be repeated."""
    certificate, claim = admitted.certificate, admitted.lower_bound
    if certificate is None or not math.isfinite(claim):
        return False
    unknown = sorted(set(certificate) - _CERTIFICATE)
    if unknown:
        raise CheckFailed(f"admission.certificate.{unknown[0]}: is not a key of a certificate")
    roster = _roster(scenario, certificate)
    if weight < roster.least_weight:
        raise CheckFailed(f"admission.weight: {weight!r} is below the least weight asked for")
    found = over_subsets(roster, certificate)
    if not found.least >= claim - SAME * abs(claim):
        raise CheckFailed(f"admission.lower_bound: claims {claim!r}, the certificate's leaves prove {found.least!r}")
    listed = _subsets(certificate, len(roster.alpha))
    for mask in found.alone:
        who = mask.nonzero()[0].tolist()
        own = listed.get(tuple(who))
        if own is None or not holds_alone(scenario, mask, own, claim)[0]:
            raise CheckFailed(f"admission.certificate.subsets: do not prove {claim!r} of the devices {who}")
    if not holds_without_finetuning(scenario, certificate, claim):
        raise CheckFailed(f"admission.certificate.pretrain: does not prove {claim!r} without fine-tuning")
    return True


def _roster(scenario: Scenario, certificate: dict[str, Any]) -> Roster:
    least = certificate.get("min_weight")
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0.0 <= least <= 1.0:
        raise CheckFailed(f"admission.certificate.min_weight: holds {least!r}, should hold a share from 0 to 1")
    return roster_of(scenario, float(least))


def _subsets(certificate: dict[str, Any], count: int) -> dict[tuple[int, ...], dict[str, Any]]:
    """The subsets with price sets of their own, by their devices."""
    entries = certificate.get("subsets")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InputError("admission.certificate.subsets: should hold a list of objects")
    found = {}
    for i, entry in enumerate(entries):
        devices = entry.get("devices")
        if not isinstance(devices, list) or not all(isinstance(k, int) and 0 <= k < count for k in devices):
            raise InputError(f"admission.certificate.subsets[{i}].devices: should hold numbers of devices")
        found[tuple(devices)] = entry
    return found
