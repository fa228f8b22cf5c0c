"""Scenarios that were read, each in a file named by the digest of its content.

A file holds the resolved tree, whose devices are spelled out, so reading it back reads no other file. Solvers and the
application share the folder; what is written is whole or not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pretune.studio.answers import Refused

ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, kw_only=True)
class Store:
    """The folder of the scenarios; `most` of them are kept, the oldest go first."""

    folder: Path
    most: int

    def save(self, tree: Mapping[str, Any], defaults: tuple[str, ...]) -> str:
        """Keep a resolved scenario; the same content has the same id."""
        text = json.dumps({"scenario": tree, "defaults": defaults}, allow_nan=False).encode()
        key = hashlib.sha256(text).hexdigest()[:32]
        target = self._path(key)
        if target.is_file():
            with contextlib.suppress(OSError):
                os.utime(target)
            return key
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=self.folder, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(text)
        Path(part).replace(target)
        self._forget()
        return key

    def load(self, key: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The tree of a scenario, and the defaults it took.

        Raises:
            Refused: 404, there is no such scenario.
        """
        try:
            if ID.fullmatch(key) is None:
                raise FileNotFoundError(key)
            found = json.loads(self._path(key).read_bytes())
        except FileNotFoundError:
            message = "scenario_id: names no scenario that is kept here; send the scenario again"
            raise Refused(404, message, "scenario_id") from None
        return found["scenario"], tuple(found["defaults"])

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"

    def _forget(self) -> None:
        """Remove the oldest beyond `most`."""
        files = [(entry.stat().st_mtime, entry.path) for entry in os.scandir(self.folder) if entry.name[-5:] == ".json"]
        for _, path in sorted(files)[: -self.most]:
            with contextlib.suppress(OSError):
                os.unlink(path)
