"""What the API answers about scenarios and plans. SI units; the unit is in the name; null where there is no figure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Answered(BaseModel):
    """Base of all answers."""

    model_config = ConfigDict(ser_json_inf_nan="null")


class Problem(Answered):
    """What is wrong: the field that holds it (empty where there is none), and the command line's own line."""

    field: str
    message: str
    problems: list[str] = Field(default=[], description="All lines, where there is more than one.")


class Refusal(Answered):
    """The body of every 4xx and 5xx."""

    error: Problem


class Budgets(Answered):
    """What may be spent, or what is."""

    energy_j: float
    delay_s: float


class Span(Answered):
    """From and to."""

    low: float
    high: float


class FieldInfo(Answered):
    """One value of the scenario that can be edited; `path` is what `changes` takes."""

    path: str
    section: str
    key: str
    value: Any
    text: str = Field(description="The value with its unit, as people write it.")
    unit: str
    description: str
    should: str = Field(description="What the field should hold.")
    choices: list[str] | None = None
    optional: bool = False


class ColumnInfo(Answered):
    """One column of the fleet."""

    key: str
    unit: str
    description: str
    least: float | None
    median: float | None
    most: float | None
    words: str


class FleetInfo(Answered):
    """The devices in short."""

    count: int
    samples: int
    columns: list[ColumnInfo]


class ScenarioAnswer(Answered):
    """A scenario that was read and is kept under its id."""

    scenario_id: str
    name: str
    sha256: str
    words: str = Field(description="The scenario in a sentence.")
    criterion: str
    access: str
    budget: Budgets
    energy_range_j: Span = Field(description="Where a slider of the energy budget may go.")
    delay_range_s: Span
    fields: list[FieldInfo]
    devices: FleetInfo
    tree: dict[str, Any] = Field(description="The scenario in SI; its devices are left out of fleets above 500.")
    defaults: list[str]
    warnings: list[str]
    can_run: bool
    cannot_run_because: str


class StageInfo(Answered):
    """One stage of the plan."""

    rounds: int
    round_s: float
    delay_s: float
    energy_j: float
    batch: int | None = Field(description="The server's batch; null for fine-tuning, where each device has its own.")
    clock_hz: float | None
    local_steps: int | None = None
    segments: list[dict[str, Any]] = []


class Spending(Answered):
    """What one cause costs over all rounds."""

    stage: str
    cause: str
    energy_j: float
    delay_s: float


class Price(Answered):
    """A multiplier, and what it says."""

    budget: str
    price: float = Field(description="Change of the objective for one more unit of the budget.")
    unit: str
    step: float = Field(description="A step of about a hundredth of the budget.")
    share: float = Field(description="Share of the objective that the step takes off it.")
    sentence: str


class Limit(Answered):
    """One of the limits that are not a single device's."""

    name: str
    value: float
    limit: float
    binding: bool


class DeviceTable(Answered):
    """The devices as columns, in the scenario's order; times and energies are of one round but for `total_j`.

    `slack_s`: how much longer the device could take without making the round longer (TDMA: its computing).
    `binds`: the device's own limits without slack.
    """

    name: list[str]
    batch: list[int]
    clock_hz: list[float]
    power_w: list[float]
    bandwidth_hz: list[float]
    compute_s: list[float]
    upload_s: list[float]
    slack_s: list[float]
    round_j: list[float]
    total_j: list[float]
    binds: list[list[str]]


class Suggestion(Answered):
    """Budgets that are feasible, to apply with one click."""

    words: str
    energy_j: float
    delay_s: float


class InfeasibleInfo(Answered):
    """Why nothing fits."""

    clash: list[str]
    sentences: list[str]
    min_energy_j: float | None
    min_delay_s: float | None
    drop: list[str] | None
    suggestions: list[Suggestion]


class CertificateInfo(Answered):
    """What is proven."""

    tolerance: float
    price_sets: int
    words: str


class PlanAnswer(Answered):
    """A plan with all that the page shows of it."""

    scenario_id: str
    name: str
    status: str
    has_plan: bool
    message: str
    planning_s: float
    budget: Budgets
    criterion: str
    criterion_words: str
    objective: float | None
    lower_bound: float | None
    relative_gap: float | None
    energy_j: float | None
    delay_s: float | None
    pretrain: StageInfo | None
    finetune: StageInfo | None
    spending: list[Spending]
    prices: list[Price]
    prices_note: str
    binding: str
    limits: list[Limit]
    devices: DeviceTable | None
    certificate: CertificateInfo | None
    promise: str
    privacy: str
    infeasible: InfeasibleInfo | None


class CheckAnswer(Answered):
    """What `pretune check` says."""

    holds: bool
    lower_bound_proven: bool
    problems: list[str]


class Compared(Answered):
    """One way of planning."""

    name: str
    title: str
    status: str
    objective: float | None
    ratio: float | None = Field(description="The objective in units of the joint plan's.")
    pretrain_rounds: int | None
    finetune_rounds: int | None
    energy_j: float | None
    delay_s: float | None
    planning_s: float
    note: str


class CompareAnswer(Answered):
    """The joint plan beside the baselines, best first."""

    scenario_id: str
    lower_bound: float | None
    relative_gap: float | None
    compared: list[Compared]


class FrontPointInfo(Answered):
    """One budget and its plan."""

    axis: str
    energy_j: float
    delay_s: float
    status: str
    objective: float | None
    lower_bound: float | None
    relative_gap: float | None
    used_energy_j: float | None
    used_delay_s: float | None
    pretrain_rounds: int | None
    finetune_rounds: int | None


class ParetoAnswer(Answered):
    """The fronts, each in ascending order of its budget."""

    scenario_id: str
    points: list[FrontPointInfo]


class ExampleInfo(Answered):
    """A scenario that comes with the studio."""

    name: str
    title: str
    description: str
    devices: int
    can_run: bool


class Examples(Answered):
    """All of them."""

    examples: list[ExampleInfo]


class StatusAnswer(Answered):
    """Whether the studio is ready, and what it allows."""

    version: str
    ready: bool = Field(description="Whether the first solver has started; compiling once may take a minute.")
    first: str | None = Field(description="The scenario to begin with, by its id.")
    can_run: bool = Field(description="Whether the optional part `train` is installed.")
    task_files: list[str]
    limits: dict[str, float]
