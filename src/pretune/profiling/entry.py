"""The device entry: a profile as a YAML file that a folder of devices reads (fleetfolder.py), with its provenance."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pretune.device import NAME, QUANTITIES, REQUIRED
from pretune.errors import InputError
from pretune.fleetfolder import ENTRY_FORMAT, ENTRY_KEY
from pretune.problems import Problems
from pretune.profiling.profile import Profile
from pretune.profiling.speed import Timing

DIGITS = 6
HEAD = """\
# A device entry, written by `pretune profile`. A folder of them is a fleet: devices: {{folder: ...}}.
# {state}
"""


def read_given(words: list[str]) -> dict[str, Any]:
    """What the user says of the device: ``key=value``, the value a number or a text with a unit.

    Raises:
        InputError: one line per word that is none, or whose value the key does not take.
    """
    found: dict[str, Any] = {}
    problems = Problems()
    for word in words:
        key, equals, text = (part.strip() for part in word.partition("="))
        if not equals:
            problems.holds("--set", word, "KEY=VALUE, such as gain=3.1e-11")
        elif key not in QUANTITIES:
            problems.unknown("--set", QUANTITIES, key)
        elif key in found:
            problems.say(f"--set {key}: is given twice, should be given once")
        else:
            try:
                number = QUANTITIES[key].read(text)
                found[key] = int(number) if QUANTITIES[key].whole else number
            except ValueError:
                problems.holds(f"--set {key}", text, QUANTITIES[key].should)
    if problems:
        raise problems.error()
    return found


def entry_of(profile: Profile, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The entry's tree. What is in `given` goes before what was measured; both are told apart in ``measured``.

    Raises:
        InputError: the name can't be one of a device.
    """
    values: dict[str, float | None] = {
        "capacitance": profile.switching.capacitance,
        "flops_per_cycle": profile.flops_per_cycle,
        "max_clock_hz": profile.chosen.clock_hz,
        "static_power_w": profile.switching.static_power_w,
    }
    if not NAME.allows(name):
        raise InputError.field("--name", name, NAME.should)
    device: dict[str, Any] = {"name": name}
    for key in QUANTITIES:
        value = given.get(key, _round(values.get(key)))
        if value is not None or key in REQUIRED:
            device[key] = value
    cost = profile.cost
    unmeasured = {key: why for key, why in profile.unmeasured.items() if key not in given}
    return {
        ENTRY_KEY: ENTRY_FORMAT,
        "device": device,
        "workload": {
            "flops_per_sample": cost.flops_per_sample,
            "upload_bits": cost.upload_bits,
            "download_bits": cost.download_bits,
        },
        "measured": {
            "date": profile.date,
            "seconds": round(profile.seconds, 1),
            "task": profile.task,
            "seed": profile.wish.seed,
            "machine": dict(profile.machine),
            "versions": dict(profile.versions),
            "given": list(given),
            "unmeasured": unmeasured,
            "notes": list(profile.notes),
            "figures": _figures(profile),
            "sweep": [_timing(timing, profile) for timing in profile.sweep],
        },
    }


def missing_from(entry: Mapping[str, Any]) -> list[str]:
    """The keys of an entry that a device can't do without and that are neither measured nor given."""
    return [key for key, value in entry["device"].items() if value is None and key in REQUIRED]


def yaml_of(entry: Mapping[str, Any]) -> str:
    """The entry's text."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 110
    yaml.representer.add_representer(type(None), lambda it, _: it.represent_scalar("tag:yaml.org,2002:null", "null"))
    text = io.StringIO()
    yaml.dump(dict(entry), text)
    missing = missing_from(entry)
    state = f"To be given by you before it can be used: {', '.join(missing)}." if missing else "Ready to be used."
    return HEAD.format(state=state) + text.getvalue()


def _figures(profile: Profile) -> dict[str, Any]:
    """Every figure with how it came about."""
    cost, chosen = profile.cost, profile.chosen
    flops = cost.flops_per_sample
    counter = "PyTorch's flop counter: forward and backward pass, products and convolutions, no element-wise work"
    at = f"{chosen.threads} thread{'s' * (chosen.threads != 1)}, batch {chosen.batch}"
    clock = f"{profile.clock.source}, median while computing" if profile.clock.read else profile.clock.source
    found: dict[str, Any] = {
        "flops_per_sample": {"value": flops, "how": counter if flops is not None else "nothing was counted"},
        "upload_bits": {"value": cost.upload_bits, "how": f"the {cost.parameters} trainable parameters, uncompressed"},
        "upload_frame_bits": {
            "value": cost.upload_frame_bits,
            "how": "the whole frame that the federated runtime sends",
        },
        "download_frame_bits": {"value": cost.download_frame_bits, "how": "the same, from the server"},
        "flops_per_s": {
            "value": _round(profile.flops_per_s),
            "low": None if flops is None else _round(flops * chosen.batch / chosen.high_s),
            "high": None if flops is None else _round(flops * chosen.batch / chosen.low_s),
            "how": f"{at}: median of {chosen.repetitions} timings with its 95% interval, no distribution assumed",
        },
        "clock_hz": {"value": _round(chosen.clock_hz), "how": clock},
        "flops_per_cycle": {"value": _round(profile.flops_per_cycle), "how": f"flops_per_s / clock_hz; {at}"},
        "capacitance": {"value": _round(profile.switching.capacitance), "how": profile.switching.how},
        "static_power_w": {"value": _round(profile.switching.static_power_w), "how": profile.switching.how},
    }
    if profile.powers is not None:
        powers = profile.powers
        found["power"] = {
            "counter": powers.source,
            "clock": powers.set_by,
            "rest": None if powers.rest is None else _rounded(asdict(powers.rest)),
            "computing": [_rounded(asdict(reading)) for reading in powers.active],
        }
    return found


def _timing(timing: Timing, profile: Profile) -> dict[str, Any]:
    flops = profile.cost.flops_per_sample
    return {
        "threads": timing.threads,
        "batch": timing.batch,
        "step_s": _round(timing.step_s),
        "low_s": _round(timing.low_s),
        "high_s": _round(timing.high_s),
        "repetitions": timing.repetitions,
        "processor_share": _round(timing.processor_share),
        "flops_per_s": None if flops is None else _round(timing.flops_per_s(flops)),
    }


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _rounded(tree: Mapping[str, float | None]) -> dict[str, float | None]:
    return {key: _round(value) for key, value in tree.items()}
