"""What a tracker is told: parameters once, and figures for every round, planned beside realised."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pretune.fieldbook import FieldRound
from pretune.ledger import RoundRecord, Stage, record_from_json
from pretune.plans import Plan
from pretune.scenario import Scenario
from pretune.version import __version__

EVERY_ROUND = "round/realised_s"
"""A figure that every line of a ledger has: by it a tracker knows how far it got."""
MEASURED = "measured/round_s"
"""The same for the lines of a federation's measured.jsonl."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Figures at a step: the round, counted over both stages; 0 is the model before training."""

    step: int
    figures: Mapping[str, float]


class Steps:
    """Turns a ledger's records into rows, one after the other; the planned totals are summed up here."""

    def __init__(self, plan: Plan) -> None:
        self._before = plan.pretrain.rounds if plan.pretrain is not None else 0
        self._planned_s = self._planned_j = 0.0
        self.next = 0

    def step_of(self, record: RoundRecord) -> int:
        """The record's round, counted over both stages."""
        return record.round + (self._before if record.stage is Stage.FINETUNE else 0)

    def row(self, record: RoundRecord) -> Row:
        """The next record's row; figures that were not measured are left out."""
        self._planned_s += record.planned_s
        self._planned_j += record.planned_j
        step = self.step_of(record)
        self.next = step + 1
        figures = {
            "train/loss": record.loss,
            "train/gradient_norm_sq": record.gradient_norm_sq,
            "test/loss": record.test_loss,
            "test/accuracy": record.test_accuracy,
            "round/planned_s": record.planned_s,
            EVERY_ROUND: record.realised_s,
            "round/planned_j": record.planned_j,
            "round/realised_j": record.realised_j,
            "total/planned_s": self._planned_s,
            "total/realised_s": record.elapsed_s,
            "total/planned_j": self._planned_j,
            "total/realised_j": record.elapsed_j,
        }
        return Row(step=step, figures={key: value for key, value in figures.items() if value is not None})


def measured_rows(lines: Iterable[FieldRound], plan: Plan) -> Iterator[Row]:
    """A federation's clock readings: seconds and joules of a round beside the plan's, and how many devices answered."""
    before = plan.pretrain.rounds if plan.pretrain is not None else 0
    for line in lines:
        joules = sum((device.compute_j or 0.0) + (device.upload_j or 0.0) for device in line.devices)
        figures = {
            MEASURED: line.measured_s,
            "measured/planned_s": line.planned_s,
            "measured/joules": joules,
            "measured/answered": float(len(line.answered)),
        }
        yield Row(step=before + line.round, figures=figures)


def parameters_of(plan: Plan, scenario: Scenario, run: Mapping[str, object]) -> dict[str, str]:
    """The scenario in brief, the plan's decisions and the run's own options (`run`), as texts."""
    fleet = scenario.devices
    found: dict[str, object] = {
        "scenario.name": scenario.name,
        "scenario.sha256": scenario.sha256,
        "scenario.devices": len(fleet),
        "scenario.samples": int(fleet.samples.sum()),
        "scenario.access": scenario.radio.access.value,
        "scenario.criterion": scenario.convergence.criterion.value,
        "scenario.flops_per_sample": scenario.workload.flops_per_sample,
        "scenario.upload_bits": scenario.workload.upload_bits,
        "budget.energy_j": scenario.budget.energy_j,
        "budget.delay_s": scenario.budget.delay_s,
        "plan.status": plan.status.value,
        "plan.objective": plan.objective,
        "plan.lower_bound": plan.lower_bound,
        "plan.relative_gap": plan.relative_gap,
        "step.pretrain": scenario.convergence.pretrain_step,
        "step.finetune": scenario.convergence.finetune_step,
    }
    for name, stage in (("pretrain", plan.pretrain), ("finetune", plan.finetune)):
        found[f"plan.{name}.rounds"] = 0 if stage is None else stage.rounds
    if plan.pretrain is not None and len(plan.pretrain.parts) == 1:
        found["plan.pretrain.batch"] = plan.pretrain.parts[0].batch
    if plan.finetune is not None and len(plan.finetune.parts) == 1:
        batch = plan.finetune.parts[0].batch
        found["plan.finetune.batch"] = f"{int(batch.min())} to {int(batch.max())}, {int(batch.sum())} in all"
    found |= {f"run.{key}": value for key, value in run.items()}
    found["pretune.version"] = __version__
    return {key: str(value)[:500] for key, value in found.items()}


def whole_records(path: Path) -> list[RoundRecord]:
    """The lines of a ledger that are on the disk; one that is cut off comes again."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    return [record_from_json(line) for line in text[: text.rfind("\n") + 1].splitlines()]
