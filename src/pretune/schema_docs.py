"""Writes the reference of the scenario file from the models themselves: ``python -m pretune.schema_docs``."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pretune.cell import Cell
from pretune.constants import Convergence
from pretune.device import Device
from pretune.fields import Quantity, mark_of
from pretune.law import COMMON, FAMILIES
from pretune.measured import Measurement, Measurements
from pretune.planning import Planning
from pretune.population import Population
from pretune.privacy import Privacy
from pretune.problems import concise
from pretune.system import Budget, Radio, Server, Workload
from pretune.variation import Availability, Fading, Jitter, Mobility, Shadowing, Throttling, Variation

DERIVED = {
    (Workload, "download_bits"): "`upload_bits`",
    (Radio, "noise_psd_w_per_hz"): "-174 dBm/Hz, 3.98e-21",
    (Device, "name"): "`device-<i>`",
    (Device, "bandwidth_hz"): "required, unless the band is shared",
    (Device, "weight"): "`samples / sum(samples)`",
    (Variation, "devices"): "none",
    (Cell, "min_distance_m"): "10 for `umi`, else 35",
    (Cell, "base_height_m"): "10 for `umi`, 25 for `uma`",
    (Cell, "device_height_m"): "1.5",
    (Cell, "line_of_sight"): "probabilistic",
    (Cell, "shadowing_db"): "`umi` 4 or 7.82, `uma` 4 or 6 (with or without line of sight), `log_distance` 8",
}
"""Defaults that are worked out from something else."""

VARYING: dict[str, type[BaseModel]] = {
    "fading": Fading,
    "shadowing": Shadowing,
    "mobility": Mobility,
    "availability": Availability,
    "throttling": Throttling,
    "jitter": Jitter,
}

HEAD = """\
# The scenario file

<!-- Written by `python -m pretune.schema_docs docs/scenario.md` from the models. Edit those. -->

A scenario is a YAML, TOML or JSON file; all three hold the same tree. A bare number is in SI units. A text with a unit
does as well: `"20 MHz"`, `"23 dBm"`, `"-174 dBm/Hz"`, `"90 s"`, `"2.4 MB"`, `"72 MFLOP"`, `"-105 dB"`.
Units are case-sensitive: `mW` is a milliwatt and `MW` a megawatt.

```yaml
pretune: 1
name: campus-digits
workload: {flops_per_sample: 72 MFLOP, upload_bits: 19.2 Mbit}
server:   {capacitance: 1.0e-27, flops_per_cycle: 2048, max_clock_hz: 1.5 GHz, samples: 60000, transmit_power_w: 43 dBm}
radio:    {access: fdma, broadcast_bandwidth_hz: 20 MHz}
devices:
  - {name: cam-1, capacitance: 1.0e-28, flops_per_cycle: 8, max_clock_hz: 1.2 GHz, max_power_w: 23 dBm, gain: 3.1e-11,
     bandwidth_hz: 2 MHz, samples: 600}
  - {name: cam-2, capacitance: 1.0e-28, flops_per_cycle: 8, max_clock_hz: 1.0 GHz, max_power_w: 23 dBm, gain: 8.2e-11,
     bandwidth_hz: 2 MHz, samples: 450, battery_j: 0.5 Wh}
budget: {energy_j: 2 kJ, delay_s: 10 min}
convergence: {criterion: trajectory, smoothness: 10, initial_gap: 2.3, shift: 0.7, pretrain_step: 0.01,
              finetune_step: 0.01, pretrain_variance: 100, finetune_variance: 120}
```

- A key without a default is required; a key that took its default is listed in the plan.
- An unknown key is an error, and so is a key that stands twice.
- All errors are reported at once, one line for each field and twenty at most: `devices[17].gain (fleet.csv line 19):
  holds -1.0, should hold a positive power ratio, such as '-105 dB' or 3.1e-11`.
- Numbers are finite; a positive one lies between 1e-60 and 1e60.
- YAML is version 1.2, without aliases.

## Top level

| key | default | meaning |
|---|---|---|
| `pretune` | required | Format of the file: `1`. |
| `name` | required | Name of the scenario. |
| `workload`, `server`, `radio`, `budget`, `convergence` | required | Mappings, below. |
| `devices` | required | A list of mappings, a fleet file, a folder of profiles, or a drawn population, below. |
| `privacy` | null | User-level differential privacy of the fine-tuning, below. |
| `variation` | null | How channels and devices vary over a run, below. |
| `planning` | null | Under what a plan is to hold, below. |
| `schedule` | 1 | Segments of each stage, 1 to 32; batch, clock and power are constant within a segment, below. |
| `task` | null | Model and data: a mapping that is kept as it is, needed only to run, calibrate or profile. |
| `measured` | null | Where the constants come from: what `pretune calibrate` measured. For information, below. |
"""

BAND = """\
### A band that is shared

```yaml
radio: {access: fdma, broadcast_bandwidth_hz: 20 MHz, uplink_bandwidth_hz: 10 MHz, bandwidth_shares: optimal}
```

With `uplink_bandwidth_hz` the uploads share one band, and no device has a `bandwidth_hz` of its own, whether the
devices are a list, a file or drawn. `bandwidth_shares: optimal` makes each device's bandwidth a decision of the plan,
the same in all rounds; `equal` gives each the same. With `tdma` there is nothing to share.
"""

FLEET_FILE = """\
### A fleet file

```yaml
devices: {file: fleet.csv}
```

A CSV or Parquet file whose columns are the keys above, in any order; a relative path starts at the scenario file's
folder. A CSV file has a line of column names. Cells hold numbers or texts with units; an empty cell is an absent key.
A million rows load in a few seconds.

A file whose columns are called otherwise, or in other units, is read with `columns`: from a device's key to a column,
or to a column and the unit of its bare numbers. A key that is left out comes from the column of its own name, if there
is one; all other columns of the file are then left alone.

```yaml
devices:
  file: inventory.csv
  columns: {name: site, gain: {column: gain_db, unit: dB}, max_clock_hz: {column: clock, unit: MHz}, samples: images}
```

### A folder of profiles

```yaml
devices: {folder: profiles}
```

One file a device, as [`pretune profile`](profile.md) writes them, in the order of the files' names. What a profile
could not measure is null there: a key that a device can't do without is asked for, file by file, in one line.
"""

DRAW = """\
### A drawn population

```yaml
devices:
  count: 50
  seed: 0
  draw:
    capacitance: 1.0e-28
    flops_per_cycle: {choice: [4, 8]}
    max_clock_hz: {uniform: [0.8 GHz, 1.6 GHz]}
    max_power_w: 23 dBm
    gain: {cell: {model: umi, carrier_hz: 3.5 GHz, radius_m: 250}}
    bandwidth_hz: 2 MHz
    samples: {loguniform: [100, 2000]}
```

Each of a device's keys but `name` is a constant or one of `{uniform: [a, b]}`, `{loguniform: [a, b]}` and
`{choice: [a, b, ...]}`. Whole numbers include both limits. Drawn weights are divided by their sum. The same file always
draws the same fleet, and each key has random numbers of its own: drawing one key otherwise leaves the others alone.
"""

CELL = """\
### The gains of a cell

`gain: {cell: {...}}` spreads the devices evenly over a ring around the base station. `umi` and `uma` are the street
canyon and the macro cell of 3GPP TR 38.901: path loss and shadowing of Table 7.4.1-1, line of
sight of Table 7.4.2-1.
"""


LAW = """\
With `criterion: calibrated` the scenario needs a `law`: a mapping with a `family`, the parameters of that family and
those that all have in common, all required, as [`pretune pilot`](cli.md#pretune-pilot) writes them; what they mean is
in [calibrated laws](calibrated.md). `measure` is `loss` (the default) or `error`; `spread` may be left out: nine runs
in ten are predicted to within a factor `exp(±spread)`. A scenario with a schedule can't have a law.
"""

SCHEDULE = """\
## `schedule`

By default batch, clock and power are the same in every round of a stage. With `schedule: J` each stage is cut into J
segments, and batch, clock and power may change from one to the next. Segment `j` of a stage with `R` rounds (counted
from 0) holds the rounds from `floor(jR/J)` up to `floor((j+1)R/J)`; a stage with fewer rounds than segments has empty
ones, which the plan leaves out. For the criterion `trajectory` a schedule brings nothing (but what whole batches leave
over), for `final` batches that grow towards the end do ([the mathematics](mathematics.md#schedules)). A scenario with
a schedule can't have batteries (`battery_j`).
"""


PRIVACY = """\
The noise that this takes is counted in the criterion, so a plan knows what privacy costs and often has fewer
fine-tuning rounds for it ([the mathematics](mathematics.md#privacy);
[what is promised](federation.md#differential-privacy)). 
Not with criterion `calibrated` or a schedule.
"""

VARIATION = """\
```yaml
variation:
  seed: 0
  fading: {kind: rician, k_factor: 6 dB, correlation: gauss_markov, coherence_s: 3 s}
  shadowing: {std_db: 6, correlation_s: 60 s}
  mobility: {waypoints_m: [[60, 0], [60, 80], [200, 80]], speed_m_per_s: 5 km/h,
             cell: {model: umi, carrier_hz: 3.5 GHz, radius_m: 500, line_of_sight: never}}
  availability: {mean_up_s: 10 min, mean_down_s: 30 s}
  throttling: {resistance_k_per_w: 20 K/W, time_constant_s: 2 min, from_k: 35, to_k: 55}
  jitter: {kind: lognormal, sigma: 0.2}
  devices:
    cam-1: {fading: null, jitter: {kind: uniform, least: 0.9, most: 1.5}}
```

What a run meets, round by round. Everything is drawn from the seed, and what is random in a round depends on the seed
and the round's number alone. Fading and shadowing multiply the device's `gain` and have mean one, so that `gain` stays
the mean. Which law each process follows, and what a plan can promise under it, is in [uncertainty](uncertainty.md).
"""

TRACE = """\
### A trace of measured gains

```yaml
variation:
  trace: {file: gains.csv, repeat: false}
```

A CSV file with the columns `device`, `time` and `gain`, in any order. A device's times rise from 0; a gain holds from
its time until the next, and the last time is the end. A gain may be zero: then there is no channel. For a device with
a trace the trace is its gain, and nothing is drawn on top of it. A trace must last as long as `budget.delay_s`; with
`repeat: true` it begins anew at its end. Instead of a file the scenario can hold the rows:
`trace: {gains: {cam-1: [[0, 1e-11], [10, 3e-11]]}}`.
"""

PLANNING = """\
```yaml
planning: {under: outage, outage: 0.05, per: device}
```

What each mode promises, and why, is in [uncertainty](uncertainty.md). `ergodic` and `outage` need a `variation`. With a
`confidence` a scenario can have neither batteries nor a trace.
"""

MEASURED = """\
## `measured`

What [`pretune calibrate`](calibrate.md) measured, for each key with its provenance. The values in use are those in
`convergence` and `workload`; `pretune plan` and `pretune calibrate` say in one line each which of them is not the
measured one. This section changes no plan: it is no part of the scenario's digest.
"""

MEASURED_KEYS = """\
Its keys, each of them a mapping as above:
"""


def _law() -> str:
    lines = ["### The law", "", LAW, "| family | parameters |", "|---|---|"]
    lines += [f"| `{family}` | {_names(parameters)} |" for family, parameters in FAMILIES.items()]
    return "\n".join([*lines, f"| all | {_names(COMMON)} |", ""])


def _names(parameters: Mapping[str, tuple[float, float]]) -> str:
    return ", ".join(f"`{key}` ({concise(low)} to {concise(high)})" for key, (low, high) in parameters.items())


def render() -> str:
    """The page, as Markdown."""
    sections = [HEAD]
    sections += [
        _section("##", key, model) for key, model in (("workload", Workload), ("server", Server), ("radio", Radio))
    ]
    sections += [BAND, _section("##", "devices", Device)]
    sections += [FLEET_FILE, DRAW + "\n" + _table(Population), CELL + "\n" + _table(Cell)]
    sections += [_section("##", key, model) for key, model in (("budget", Budget), ("convergence", Convergence))]
    sections += [_law()]
    sections += [MEASURED + "\n" + _table(Measurement), MEASURED_KEYS + "\n" + _table(Measurements), SCHEDULE]
    sections += [_section("##", "privacy", Privacy) + "\n" + PRIVACY]
    sections += [_section("##", "variation", Variation) + "\n" + VARIATION]
    sections += [_section("###", f"variation.{key}", model) for key, model in VARYING.items()]
    sections += [TRACE]
    sections += [_section("##", "planning", Planning) + "\n" + PLANNING]
    return "\n".join(sections)


def _section(level: str, key: str, model: type[BaseModel]) -> str:
    return f"{level} `{key}`\n\n{(model.__doc__ or '').strip().splitlines()[0]}\n\n{_table(model)}"


def _table(model: type[BaseModel]) -> str:
    lines = ["| key | unit | range | default | example | meaning |", "|---|---|---|---|---|---|"]
    for key, field in model.model_fields.items():
        mark = mark_of(field)
        unit = (mark.unit if isinstance(mark, Quantity) else "") or "–"
        span, example = (mark.range, _example(mark)) if mark is not None else (_options(field), "–")
        default = DERIVED.get((model, key)) or _default(field)
        lines.append(f"| `{key}` | {unit} | {span} | {default} | {example} | {field.description} |")
    return "\n".join(lines) + "\n"


def _example(mark: Any) -> str:
    if isinstance(mark, Quantity):
        return f"`{mark.example}`" if mark.example else f"`{concise(mark.si)}`"
    return f"`{mark.example}`"


def _options(field: FieldInfo) -> str:
    for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
        if isinstance(kind, type) and issubclass(kind, Enum):
            return ", ".join(f"`{option.value}`" for option in kind)
        if kind is bool:
            return "`true`, `false`"
        if kind is str:
            return "text"
    return "a mapping"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value.value if isinstance(value, Enum) else value)


def main(arguments: list[str]) -> None:
    """Write the page to the file that is named, or to standard output."""
    if arguments:
        Path(arguments[0]).write_text(render(), encoding="utf-8")
    else:
        sys.stdout.write(render())


if __name__ == "__main__":
    main(sys.argv[1:])
