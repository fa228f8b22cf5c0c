"""The constants of the convergence bounds: what the planner minimises is built from them (math.md section 2)."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, PlainValidator, model_validator

from pretune.errors import InputError
from pretune.fields import Quantity, read_one_or_each
from pretune.law import Law
from pretune.parts import Part
from pretune.problems import Problems, refused


class Criterion(StrEnum):
    """What a plan minimises."""

    TRAJECTORY = "trajectory"
    FINAL = "final"
    CALIBRATED = "calibrated"


VARIANCE = Quantity(noun="variance", unit="", si=120, zero=True)


def _read_variance(value: object) -> float | tuple[float, ...]:
    return read_one_or_each(VARIANCE, value)


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise refused(value, "true or false")
    return value


LOCAL_STEPS = Quantity(noun="of local steps", unit="", si=4, whole=True, most=100)
MOST_CHOICES = 16
_LOCAL_SHOULD = "a whole number from 1 to 100, or a list of up to 16 different ones to choose from, such as [1, 2, 4]"


def _read_local_steps(value: object) -> int | tuple[int, ...]:
    """One number, or the numbers to choose from, in ascending order; a list of one is that one."""
    given = list(value) if isinstance(value, list | tuple) else [value]
    try:
        numbers = sorted({int(LOCAL_STEPS.read(one)) for one in given})
    except ValueError:
        raise refused(value, _LOCAL_SHOULD) from None
    if not 1 <= len(numbers) == len(given) <= MOST_CHOICES:
        raise refused(value, _LOCAL_SHOULD)
    return numbers[0] if len(numbers) == 1 else tuple(numbers)


class Convergence(Part):
    """The constants of the convergence bound, and the steps."""

    criterion: Criterion = Field(
        default=Criterion.TRAJECTORY,
        description="What a plan minimises. `trajectory`: the average squared gradient norm on the way; `final`: the "
        "optimality gap of the delivered model; `calibrated`: a fit to pilot runs.",
    )
    smoothness: Annotated[float, Quantity(noun="number", unit="", si=10)] = Field(
        description="Smoothness L of the task objective: the gradient's Lipschitz constant."
    )
    initial_gap: Annotated[float, Quantity(noun="number", unit="", si=2.3, zero=True)] = Field(
        description="Optimality gap Δ of the initial model."
    )
    shift: Annotated[float, Quantity(noun="number", unit="", si=0.7, zero=True)] = Field(
        description="Bound ζ on the distance of the gradients on general and on task data."
    )
    pretrain_step: Annotated[float, Quantity(noun="step size", unit="", si=0.01)] = Field(
        description="Step size η₀ of pre-training, at most 1/L."
    )
    finetune_step: Annotated[float, Quantity(noun="step size", unit="", si=0.01)] = Field(
        description="Step size η of fine-tuning, at most 1/L."
    )
    pretrain_variance: Annotated[float, Quantity(noun="variance", unit="", si=100, zero=True)] = Field(
        description="Variance σ₀² of one sample's gradient at the server."
    )
    finetune_variance: Annotated[float | tuple[float, ...], VARIANCE, PlainValidator(_read_variance)] = Field(
        description="Variance σₖ² of one sample's gradient at the devices: one number, or a list with one for each."
    )
    pl_constant: Annotated[float, Quantity(noun="number", unit="", si=0.5)] | None = Field(
        default=None, description="Polyak-Łojasiewicz constant μ, at most L; `final` needs it."
    )
    local_steps: Annotated[int | tuple[int, ...], LOCAL_STEPS, PlainValidator(_read_local_steps)] = Field(
        default=1,
        description="Local steps E that a device takes in each fine-tuning round, each with a fresh batch of its own: "
        "1 is federated SGD, more is federated averaging; from a list the plan chooses.",
        examples=[_LOCAL_SHOULD],
    )
    heterogeneity: Annotated[float, Quantity(noun="number", unit="", si=0.5, zero=True)] | None = Field(
        default=None,
        description="Bound on the distance of the devices' gradients from their mean, root mean square by weight; "
        "more than one local step needs it.",
    )
    law: Annotated[Law | None, PlainValidator(Law.read)] = Field(
        default=None,
        description="The law that `calibrated` minimises: a `family` and its parameters, as `pretune pilot` writes it.",
    )

    robust: Annotated[bool, PlainValidator(_read_flag)] = Field(
        default=False,
        description="Whether to plan for the worst constants within their measured intervals (`measured`).",
        examples=["true or false"],
    )

    @model_validator(mode="after")
    def _agree(self) -> Self:
        """Steps within ``eta <= 1/L``, and ``0 < mu <= L``: the bounds hold only then."""
        problems, largest = Problems(), 1.0 / self.smoothness
        for key in ("pretrain_step", "finetune_step"):
            if getattr(self, key) > largest:
                problems.holds(key, getattr(self, key), f"a step of at most 1/smoothness = {largest!r}")
        if self.criterion is Criterion.CALIBRATED and self.law is None:
            problems.missing("law", "what criterion calibrated needs: a law, as `pretune pilot` writes it")
        if self.pl_constant is None and self.criterion is Criterion.FINAL:
            problems.missing("pl_constant", f"what criterion final needs, 0 < mu <= smoothness = {self.smoothness!r}")
        if self.pl_constant is not None and self.pl_constant > self.smoothness:
            problems.holds("pl_constant", self.pl_constant, f"at most the smoothness, {self.smoothness!r}")
        if self.choices != (1,) and self.criterion is Criterion.CALIBRATED:
            should = "1: a law (criterion calibrated) was fitted to runs with one local step"
            problems.holds("local_steps", self.local_steps, should)
        elif self.choices != (1,) and self.heterogeneity is None:
            should = "what more than one local step needs: how far the devices' gradients are apart"
            problems.missing("heterogeneity", f"{should}; `pretune calibrate` measures it")
        problems.refuse()
        return self

    @property
    def choices(self) -> tuple[int, ...]:
        """The numbers of local steps that a plan may have, in ascending order."""
        return self.local_steps if isinstance(self.local_steps, tuple) else (self.local_steps,)

    @property
    def steps_decided(self) -> int:
        """The number of local steps, where there is no choice left.

        Raises:
            InputError: there is; costs and criteria are for one number of them.
        """
        if len(self.choices) > 1:
            raise InputError.field("convergence.local_steps", list(self.choices), "one number here, no list")
        return self.choices[0]

    def settled(self, local_steps: int) -> Convergence:
        """The same constants with one of the numbers of local steps."""
        same = {key: getattr(self, key) for key in self.model_fields_set}
        return Convergence(**{**same, "local_steps": local_steps})
