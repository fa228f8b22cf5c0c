"""Files of a run's folder that hold one JSON object a line, cut back to what a checkpoint knows when a run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretune.errors import InputError

REPLANS = "replans.jsonl"
"""What was planned anew in a run: when, why, and what became of it."""
ROUNDS = "steering.jsonl"
"""The fine-tuning rounds of a steered run: who was asked and answered, and what it cost."""


class LineBook:
    """An open file; `count` is how many lines it holds."""

    def __init__(self, path: Path, count: int, *, live: bool = False) -> None:
        """Open the file and keep its first `count` lines; `live`: others see each line at once.

        Raises:
            InputError: it has fewer.
        """
        self.path, self.count, self._live = path, count, live
        kept = b""
        if count:
            lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
            if len(lines) < count or not lines[count - 1].endswith(b"\n"):
                raise InputError(f"{path}: holds {len(lines)} lines, the checkpoint speaks of {count}")
            kept = b"".join(lines[:count])
        self._file = open(path, "ab")  # noqa: SIM115 - `close` closes it
        self._file.truncate(len(kept))

    def enter(self, line: Mapping[str, Any]) -> None:
        """Add a line."""
        self._file.write(json.dumps(line, allow_nan=False, separators=(",", ":")).encode() + b"\n")
        self.count += 1
        if self._live:
            self._file.flush()

    def sync(self) -> None:
        """Bring it to the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()


def load_lines(path: Path) -> tuple[dict[str, Any], ...]:
    """The whole lines of such a file; empty where there is none. A last line that is cut off is left out.

    Raises:
        InputError: the file can't be read, or a line in it is damaged.
    """
    if not path.is_file():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error})") from None
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            tree = json.loads(line)
        except (ValueError, RecursionError):
            tree = None
        if not isinstance(tree, dict):
            raise InputError(f"{path}: line {number} is damaged")
        found.append(tree)
    return tuple(found)
