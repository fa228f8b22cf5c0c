"""What the API takes. Unknown keys are refused, numbers are finite, and every length has an end."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

ScenarioId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
RunId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
Amount = Annotated[
    float | Annotated[str, StringConstraints(max_length=60)],
    Field(description="A number in SI units, or a text with a unit such as '2 kJ'.", examples=["2 kJ", 600.0]),
]
Ends = Annotated[list[Amount], Field(min_length=2, max_length=2)]
Rule = Annotated[str, StringConstraints(pattern=r"^(mean|median|trimmed:[0-9]{1,6}|clip:[0-9.e-]{1,20})$")]
Seconds = Annotated[float, Field(gt=0, le=600, description="Give up after so many seconds.")]
Tolerance = Annotated[float, Field(ge=1e-6, le=0.1, description="Relative gap at which a plan counts as optimal.")]


class Asked(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class Target(Asked):
    """A scenario, by its id or as a tree, with other budgets if there are any."""

    scenario_id: ScenarioId | None = Field(default=None, description="What `POST scenario` answered.")
    scenario: dict[str, Any] | None = Field(default=None, description="The tree of a scenario file, instead of an id.")
    energy_j: Amount | None = Field(default=None, description="Energy budget instead of the scenario's.")
    delay_s: Amount | None = Field(default=None, description="Delay budget instead of the scenario's.")


class PlanRequest(Target):
    """Plan a scenario."""

    tolerance: Tolerance = 1e-3
    devices: bool = Field(default=True, description="Whether the answer lists the devices.")
    time_limit_s: Seconds | None = None


class PlanFileRequest(Target):
    """Plan a scenario as `pretune plan -o` does."""

    tolerance: Tolerance = 1e-4
    time_limit_s: Seconds | None = None


class CheckRequest(Asked):
    """Check a plan file against its scenario."""

    plan: dict[str, Any] = Field(description="The tree of a plan file.")
    scenario_id: ScenarioId | None = None
    scenario: dict[str, Any] | None = Field(default=None, description="The scenario the plan was made for.")
    energy_j: Amount | None = Field(default=None, description="Energy budget instead of the scenario's.")
    delay_s: Amount | None = Field(default=None, description="Delay budget instead of the scenario's.")


class CompareRequest(Target):
    """Put the joint plan beside baselines."""

    only: list[Annotated[str, StringConstraints(max_length=40)]] | None = Field(
        default=None, max_length=20, description="Baselines by name; by default all but `successive`, which is slow."
    )
    tolerance: Tolerance = 1e-3
    batch: int = Field(default=32, ge=1, le=10**9, description="The fixed batch.")
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Seed of the random baseline.")
    time_limit_s: Seconds | None = Field(default=None, description="Give up on each way of planning after so long.")


class ParetoRequest(Target):
    """Plan along one budget or both."""

    axes: list[Literal["energy", "delay"]] = Field(default=["energy", "delay"], min_length=1, max_length=2)
    points: int = Field(default=15, ge=2, le=60, description="Plans on each front.")
    energy_range: Ends | None = Field(default=None, description="Energy budgets, from and to.")
    delay_range: Ends | None = Field(default=None, description="Delay budgets, from and to.")
    tolerance: Tolerance = 1e-3


class Column(Asked):
    """Where a column of a CSV file belongs."""

    key: Annotated[str, StringConstraints(max_length=40)] = Field(description="A device's key, such as `gain`.")
    unit: Annotated[str, StringConstraints(max_length=20)] | None = Field(
        default=None, description="Unit of the column's numbers, such as `dB` or `MHz`; SI without one."
    )


class FleetText(Asked):
    """A fleet as the text of a CSV file."""

    csv: str = Field(description="A line of column names, then a line for each device.")
    columns: dict[str, Column] | None = Field(
        default=None,
        max_length=100,
        description="From the file's column names to a device's keys; columns that are not named are left out. "
        "Without it the columns bear the names of the keys.",
    )


class ScenarioRequest(Asked):
    """Read a scenario: one of `text`, `scenario`, `example` and `scenario_id`, then changes to it."""

    text: str | None = Field(default=None, description="The text of a scenario file.")
    format: Literal["yaml", "toml", "json"] = Field(default="yaml", description="What `text` is.")
    scenario: dict[str, Any] | None = Field(default=None, description="The tree of a scenario file.")
    example: Annotated[str, StringConstraints(max_length=60)] | None = Field(
        default=None, description="An example by name."
    )
    scenario_id: ScenarioId | None = Field(default=None, description="A scenario that was read before.")
    changes: dict[str, Any] | None = Field(
        default=None,
        max_length=1000,
        description="New values by path, with or without a unit: {'server.max_clock_hz': '1.2 GHz'}; devices by "
        "number: 'devices[3].gain'. null takes an optional key out.",
    )
    fleet: FleetText | None = Field(default=None, description="Devices instead of the scenario's.")


class RunRequest(Target):
    """Start a run: plan the scenario, then carry the plan out."""

    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    tolerance: Tolerance = 1e-4
    aggregation: Rule = "mean"
    control: Literal["none", "rounds"] = Field(
        default="none", description="Clocks and powers: the plan's, or the best for what each round meets."
    )
    replan: Literal["off", "auto", "every"] = Field(
        default="off", description="When what is left is planned anew; needs `control` rounds."
    )
    outage: float = Field(
        default=0.0, ge=0, le=0.5, description="Share of the rounds in which each device is left out for its channel."
    )


class CalibrateRequest(Target):
    """Measure the convergence constants on the scenario's model and data."""

    samples: int = Field(default=2000, ge=2, le=10**6)
    seconds: float = Field(default=60.0, gt=0, le=3600)
    repetitions: int = Field(default=5, ge=3, le=100)
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    overwrite: bool = Field(default=False, description="Replace values that were set by hand, too.")
