"""How a run is steered: what may be asked for, and what passes between the loop, the steering and who plans anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from pretune.convergence.participation import Known
from pretune.convergence.progress import Progress
from pretune.errors import InputError
from pretune.physics.types import Bools, Floats, Ints


class Control(StrEnum):
    """Whether clocks and powers are the plan's in every round, or the best ones for what the round meets."""

    NONE = "none"
    ROUNDS = "rounds"


class Replan(StrEnum):
    """When what is left is planned anew."""

    OFF = "off"
    AUTO = "auto"
    EVERY = "every"


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How a run is steered.

    `outage`: the share of rounds in which each device is left out because its channel is too bad. `patience`: a round
    may take this many times as long as expected. `in_time`: how likely a device whose computing time varies should be
    done when the round ends. `band` and `gain` keep `auto` from chattering: a new plan is asked for when the budgets
    pay for that share of rounds more or fewer than are left, and taken when it improves the criterion by that share.
    `constants`: whether the gradients' variances are estimated anew where there is planning anew.
    """

    control: Control = Control.NONE
    replan: Replan = Replan.OFF
    outage: float = 0.0
    patience: float = 3.0
    in_time: float = 0.95
    band: float = 0.03
    gain: float = 1e-3
    constants: bool = True

    def __post_init__(self) -> None:
        if self.replan is not Replan.OFF and self.control is Control.NONE:
            should = "rounds where --replan is not off: a new plan takes every round's clocks and powers to be chosen"
            raise InputError.field("--control", self.control.value, should)
        for name, low, high in (
            ("outage", 0.0, 0.5),
            ("in_time", 0.5, 0.9999),
            ("band", 0.0, 10.0),
            ("gain", 0.0, 1.0),
        ):
            if not low <= getattr(self, name) <= high:
                raise InputError.field(name, getattr(self, name), f"a number from {low:g} to {high:g}")
        if not 1.0 <= self.patience <= 1e6:
            raise InputError.field("patience", self.patience, "a number from 1 to 1000000")

    @property
    def plain(self) -> bool:
        """Whether the plan is carried out as it is."""
        return self.control is Control.NONE


def rules_of(control: str, replan: str, outage: float = 0.0) -> Rules:
    """The rules as the command line words them.

    Raises:
        InputError: a word or a number that is none of theirs.
    """
    if control not in list(Control):
        raise InputError.field("--control", control, "none or rounds")
    if replan not in list(Replan):
        raise InputError.field("--replan", replan, "off, auto or every")
    return Rules(control=Control(control), replan=Replan(replan), outage=outage)


@dataclass(frozen=True, kw_only=True)
class ServerMove:
    """A pre-training round about to begin."""

    batch: int
    clock_hz: float
    time_s: float
    energy_j: float


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The run ends here: all rounds were done, or `why` not."""

    finished: bool
    why: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    """What a new plan starts from; arrays of shape (K,) unless said otherwise.

    `noise` is ``A_k / p_k``, `asked` the part of ``p_k`` that the plan decides; `alive` who is counted on; `noise_w`
    the mean ``N0 B / g``; `slowness` how many times the cycles are planned with. Energy and delay are what is left.
    `energy_factor` and `delay_factor`: what a fine-tuning round of the simple model (every round alike) really takes,
    over what it takes there.
    """

    criterion: Known
    progress: Progress
    pretrain: int
    finetune: int
    server_batch: int
    batch: Ints
    noise: Floats
    alive: Bools
    noise_w: Floats
    clock_limit_hz: Floats
    slowness: Floats
    broadcast_s: float
    energy_j: float
    delay_s: float
    battery_j: Floats
    energy_factor: float
    delay_factor: float
    exact: bool
    """Whether a wide search is worth its time (at the start of a run)."""
    asked: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Proposal:
    """The best rounds and batches for what is left; `value` is the criterion then, `kept` that of going on as before.

    Infinity stands for what does not fit. `round_j` and `round_s` are a fine-tuning round's in the simple model.
    """

    pretrain: int
    finetune: int
    server_batch: int
    server_clock_hz: float
    batch: Ints
    ratio: Floats
    worth_w: float
    value: float
    kept: float
    round_j: float
    round_s: float
    solves: int


class Planner(Protocol):
    """Who plans anew."""

    def propose(self, now: Situation) -> Proposal | None:
        """The best plan for what is left; None where nothing fits."""
        ...


Ready = Callable[[], Bools]
"""Where devices are real: which of them, shape (K,), could be asked now; it may wait until some can."""


class Log(Protocol):
    """Who writes down that something was planned anew."""

    def __call__(self, line: Mapping[str, Any], /) -> None: ...  # noqa: D102
