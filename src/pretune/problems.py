"""Collects what is wrong with an input: one line per bad field, at most twenty, and how many more there are."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

import numpy as np

from pretune.errors import InputError

LIMIT = 20
"""Lines shown; the rest are counted."""


class Refused(ValueError):
    """Bad fields found inside a pydantic validator; carries them out through pydantic's own error."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        super().__init__("\n".join(problems.lines))


class Problems:
    """The lines gathered so far, and the count of those beyond the limit.

    Paths are relative to whatever is being read: ``[3].gain`` within the devices; `more` and `error` put what
    is above in front. The path of the thing itself is empty.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def say(self, line: str) -> None:
        """One line as it is."""
        self.count += 1
        if len(self.lines) < LIMIT:
            self.lines.append(one_line(line))

    def holds(self, path: str, value: object, should: str) -> None:
        """A field with a value that won't do."""
        self.say(f"{path}: holds {shown(value)}, should hold {should}")

    def missing(self, path: str, should: str) -> None:
        """A required key that is not there."""
        self.say(f"{path}: is missing, should hold {should}")

    def unknown(self, path: str, known: Iterable[str], key: object) -> None:
        """A key below `path` that means nothing there, with the nearest that does."""
        known = list(known)
        near = difflib.get_close_matches(key[:64], known, n=1) if isinstance(key, str) else []
        hint = f"did you mean {near[0]!r}?" if near else "the keys here are " + ", ".join(known)
        self.say(f"{join(path, key)}: is not a known key; {hint}")

    def more(self, other: Problems, path: str = "") -> None:
        """All of another collection, found at `path`."""
        for line in other.lines:
            self.say(_below(path, line))
        self.count += other.count - len(other.lines)

    def error(self, path: str = "") -> InputError:
        """The collection as the error that the user sees."""
        lines, rest = [_below(path, line) for line in self.lines], self.count - len(self.lines)
        return InputError(*lines, *([f"... and {rest} more"] if rest else []))

    def refuse(self) -> None:
        """Raise `Refused` if there is anything to say."""
        if self:
            raise Refused(self)


def refused(value: object, should: str) -> Refused:
    """The refusal of the one value being read."""
    problems = Problems()
    problems.holds("", value, should)
    return Refused(problems)


def _below(path: str, line: str) -> str:
    if not path:
        return line.removeprefix(": ")
    return path + line if line.startswith(("[", ":")) else f"{path}.{line}"


def join(path: str, key: object) -> str:
    """The path of a key or an index below `path`; an odd key is quoted, so that one line stays one line."""
    if isinstance(key, int) and not isinstance(key, bool):
        return f"{path}[{key if 0 <= key < 2**63 else shown(key)}]"
    plain = isinstance(key, str) and 0 < len(key) <= 40 and key.isprintable() and " " not in key
    text = str(key) if plain else shown(key)
    return f"{path}.{text}" if path else text


def one_line(text: str) -> str:
    """The text on one line, whatever control characters, line breaks or lone surrogates it has."""
    text = " ".join(text.split())
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxtuple, self.maxstring, self.maxother = 2, 3, 4, 4, 57, 57

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out an integer of more than 4300 digits.
        return repr(x) if x.bit_length() < 128 else f"an integer of {x.bit_length()} bits"

    def repr_NoneType(self, x: None, level: int) -> str:
        return "null"

    def repr_bool(self, x: bool, level: int) -> str:
        return "true" if x else "false"


def shown(value: object) -> str:
    """A value cut to some sixty characters, whatever it is: huge, nested, cyclic."""
    text = one_line(_Short().repr(value.item() if isinstance(value, np.generic) else value))
    return text if len(text) <= 60 else text[:57] + "..."


def concise(number: float) -> str:
    """A number as people write it: 2e7 and not 2e+07."""
    head, _, exponent = f"{number:g}".partition("e")
    return f"{head}e{int(exponent)}" if exponent else head
