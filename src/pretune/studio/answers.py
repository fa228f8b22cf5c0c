"""Errors as the API tells them: the command line's one line, the field it names, and a status."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pretune.errors import CheckFailed, InputError, MissingExtra, PretuneError

UNUSABLE = 422
_FIELD_ENDS = ": "


class Refused(Exception):
    """A request that is answered with an error; picklable, so that a solver can raise it."""

    def __init__(self, status: int, message: str, field: str = "", problems: Sequence[str] = ()) -> None:
        self.status, self.message, self.field, self.problems = status, message, field, tuple(problems)
        super().__init__(message)

    def __reduce__(self) -> tuple[Any, ...]:
        return Refused, (self.status, self.message, self.field, self.problems)

    @property
    def body(self) -> bytes:
        """The JSON of a `Refusal`."""
        error = {"field": self.field, "message": self.message, "problems": list(self.problems)}
        return json.dumps({"error": error}).encode()


def too_long(seconds: float) -> Refused:
    """For what takes more time than one request is given."""
    message = f"time_limit: takes longer than the {seconds:g} s that the studio gives a request; ask for less of it"
    return Refused(UNUSABLE, message, "time_limit")


def refusal_of(error: PretuneError) -> Refused:
    """The refusal that a known error becomes."""
    if isinstance(error, InputError | CheckFailed):
        lines = [line for problem in error.problems for line in problem.splitlines()]
        first = lines[0] if lines else str(error)
        return Refused(UNUSABLE, first, field_of(first), lines if len(lines) > 1 else ())
    if isinstance(error, MissingExtra):
        return Refused(UNUSABLE, str(error), "extra")
    return Refused(UNUSABLE, " ".join(str(error).split()))


def field_of(line: str) -> str:
    """The field that a line ``path: holds X, should hold Y`` names; empty where it names none."""
    head, colon, _ = line.partition(_FIELD_ENDS)
    return head if colon and len(head) <= 200 and " " not in head.strip() else ""
