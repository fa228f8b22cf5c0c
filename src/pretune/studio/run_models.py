"""What the API answers about runs and calibrations."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from pretune.studio.responses import Answered, Budgets

Status = Literal["planning", "running", "finished", "diverged", "interrupted", "infeasible", "failed"]


class Rounds(Answered):
    """Rounds of both stages."""

    pretrain: int
    finetune: int


class Steered(Answered):
    """How a run meets changing conditions (docs/reality.md)."""

    control: Literal["none", "rounds"]
    replan: Literal["off", "auto", "every"]
    outage: float


class Replanned(Answered):
    """How often what was left of a run was planned anew."""

    made: int
    taken: int


class Estimated(Answered):
    """A gradient variance over the scenario's, with its 95 % interval (null before enough rounds), and what is used."""

    ratio: float | None
    low: float | None
    high: float | None
    looks: int = Field(description="Rounds that it was estimated from.")
    used: float = Field(description="What plans count with, over the scenario's.")


class EstimatedNoise(Answered):
    """Both sides' gradient variances."""

    server: Estimated
    devices: Estimated


class Replan(Answered):
    """A line of replans.jsonl: after which rounds, why, and what became of it; null criteria do not fit the budgets."""

    number: int = Field(description="Counted from 1.")
    after_pretrain: int
    after_finetune: int
    cause: str
    taken: bool
    effect: str
    rounds_before: Rounds
    rounds_after: Rounds
    batch_before: int
    batch_after: int
    objective_before: float | None
    objective_after: float | None
    energy_left_j: float
    delay_left_s: float
    constants: EstimatedNoise | None = Field(
        default=None, description="What the run found of its gradients' variances, where these are estimated."
    )


class Replans(Answered):
    """New plans, in order; the numbers of all that come later are larger."""

    replans: list[Replan]


class RunInfo(Answered):
    """A run or a calibration; figures that are not known yet are null."""

    id: str
    kind: Literal["run", "calibration"]
    name: str
    status: Status
    message: str
    created: float = Field(description="Seconds since 1970.")
    scenario_id: str | None = Field(description="The scenario it was started with, where the studio started it.")
    seed: int | None
    budget: Budgets | None
    can_cancel: bool
    can_resume: bool
    rounds_planned: Rounds | None = None
    rounds_done: Rounds | None = None
    planned: Budgets | None = Field(default=None, description="What the plan spends over all rounds.")
    realised: Budgets | None = Field(default=None, description="What the rounds done have spent.")
    test_loss: float | None = None
    test_accuracy: float | None = None
    steering: Steered | None = None
    replanned: Replanned | None = None


class Runs(Answered):
    """The newest first."""

    runs: list[RunInfo]


class Series(Answered):
    """A ledger as columns, thinned out where it is long; times and energies are sums up to the round."""

    stage: list[str]
    round: list[int]
    loss: list[float | None]
    test_loss: list[float | None]
    test_accuracy: list[float | None]
    planned_s: list[float]
    planned_j: list[float]
    realised_s: list[float]
    realised_j: list[float]


class StageTotalInfo(Answered):
    """One stage of a run, or all of it (`total`)."""

    stage: str
    rounds: int
    planned_s: float
    realised_s: float
    planned_j: float
    realised_j: float
    test_loss: float | None
    test_accuracy: float | None


class RunResult(Answered):
    """What a run came to, complete or not; a calibration has `scenario_id` and `calibration` alone."""

    run: RunInfo
    objective: float | None = None
    lower_bound: float | None = None
    stages: list[StageTotalInfo] = Field(default=[])
    series: Series | None = None
    summary: dict[str, Any] | None = Field(default=None, description="summary.json of a run that has ended.")
    replans: list[Replan] = Field(default=[], description="What was planned anew, the last ones.")
    scenario_id: str | None = Field(default=None, description="Of a calibration: the scenario with what was measured.")
    calibration: dict[str, Any] | None = None


class Difference(Answered):
    """One figure of two runs."""

    name: str
    a: float | str | None
    b: float | str | None


class RunsCompared(Answered):
    """Two runs side by side."""

    a: RunResult
    b: RunResult
    differences: list[Difference]
