"""Collects what is wrong with an input: one line per bad field, at most twenty, and how many more there are."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable

from pretune.errors import InputError

LIMIT = 20
"""Lines shown; the rest are counted."""


class Refused(ValueError):
    """Bad fields found inside a pydantic validator; carries them out through pydantic's own error."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        super().__init__("\n".join(problems.lines))


class Problems:
    """The lines gathered so far, and the count of those beyond the limit."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.count = 0

    def __bool__(self) -> bool:
        return self.count > 0

    def say(self, line: str) -> None:
        """One line as it is."""
        self.count += 1
        if len(self.lines) < LIMIT:
            self.lines.append(line)

    def holds(self, path: str, value: object, should: str) -> None:
        """A field with a value that won't do."""
        self.say(f"{path}: holds {shown(value)}, should hold {should}")

    def missing(self, path: str, should: str) -> None:
        """A required key that is not there."""
        self.say(f"{path}: is missing, should hold {should}")

    def unknown(self, path: str, key: object, known: Iterable[str]) -> None:
        """A key that means nothing here, with the nearest that does."""
        known = sorted(known)
        near = difflib.get_close_matches(key[:64], known, n=1) if isinstance(key, str) else []
        hint = f"did you mean {near[0]!r}?" if near else "the keys here are " + ", ".join(known)
        self.say(f"{join(path, key)}: is not a known key; {hint}")

    def more(self, other: Problems) -> None:
        """All of another collection."""
        for line in other.lines:
            self.say(line)
        self.count += other.count - len(other.lines)

    def error(self) -> InputError:
        """The collection as the error that the user sees."""
        rest = self.count - len(self.lines)
        return InputError(*self.lines, *([f"... and {rest} more"] if rest else []))

    def refuse(self) -> None:
        """Raise `Refused` if there is anything to say."""
        if self:
            raise Refused(self)


def join(path: str, key: object) -> str:
    """The path of a key or an index below `path`; an odd key is quoted, so that one line stays one line."""
    if isinstance(key, int) and not isinstance(key, bool):
        return f"{path}[{key}]"
    plain = isinstance(key, str) and 0 < len(key) <= 40 and key.isprintable() and " " not in key
    text = str(key) if plain else shown(key)
    return f"{path}.{text}" if path else text


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxlist, self.maxstring, self.maxother = 2, 3, 4, 57, 57

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write out an integer of more than 4300 digits.
        return repr(x) if x.bit_length() < 128 else f"an integer of {x.bit_length()} bits"


def shown(value: object) -> str:
    """A value cut to some sixty characters, whatever it is: huge, nested, cyclic."""
    text = "null" if value is None else _Short().repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
