"""Every error that pretune raises on purpose, with the exit code that the command line gives it.

PretuneError                 1   anything that went wrong and is not below
├── InputError               2   a field, file or option that can't be used: where, what it holds, what it should
│   └── PlanMismatch         2   a plan that was made for another scenario
├── CheckFailed              1   `pretune check` found a constraint or a figure that does not hold
├── Infeasible               3   proven: no plan fits the budgets; carries the plan that explains why
├── MissingExtra             1   an optional dependency is needed; names the extra
└── RunFailed                1   a run had to stop (it diverged, its folder is damaged); the last good model is kept
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pretune.plans import Plan


class PretuneError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(PretuneError):
    """Something the user gave can't be used.

    `problems` holds one line per bad field, each of the form ``path: holds X, should hold Y``.
    """

    exit_code = 2

    def __init__(self, *problems: str) -> None:
        if not problems:
            raise ValueError("an InputError needs at least one problem")
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))

    @classmethod
    def field(cls, path: str, holds: object, should: str) -> InputError:
        """One bad field: where it is, what it holds, what it should hold."""
        return cls(field_problem(path, holds, should))


class PlanMismatch(InputError):
    """The plan was made for another scenario."""


class CheckFailed(PretuneError):
    """A plan does not pass `pretune check`; `problems` holds one line per claim that fails."""

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(problems))


class Infeasible(PretuneError):
    """No plan fits the budgets, and that is proven; `plan.infeasibility` says what clashes."""

    exit_code = 3

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__(plan.message)


class MissingExtra(PretuneError):
    """An optional part of pretune was asked for and is not installed."""

    def __init__(self, extra: str, missing: str) -> None:
        self.extra = extra
        super().__init__(f"{missing} is not installed; install it with: pip install 'pretune[{extra}]'")


class RunFailed(PretuneError):
    """A run had to stop; what it had learnt until then is kept."""


def field_problem(path: str, holds: object, should: str) -> str:
    """The one line for one bad field; long values are cut."""
    shown = repr(holds)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    return f"{path}: holds {shown}, should hold {should}"
