"""What every convergence criterion gives the planner: four coefficients at any rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

Rounds = Any
"""A number of rounds, real or integer, or an array of them (`Any` because NumPy has no better name for it)."""


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """The four coefficients of the shape at given rounds; numbers, or arrays where the rounds are arrays."""

    weight: Any
    phi: Any
    psi0: Any
    psi: Any


class ConvergenceCriterion(Protocol):
    """What the planner needs of a criterion: its coefficients at any rounds, and its numbers for the kernels."""

    @property
    def name(self) -> str:
        """As in the scenario file."""
        ...

    def at(self, pretrain_rounds: Rounds, finetune_rounds: Rounds) -> Coefficients:
        """The coefficients at (real or integer) rounds; not both may be zero."""
        ...

    def numbers(self) -> tuple[float, ...]:
        """The constants, in the order the compiled kernels take them."""
        ...
