"""The best model so far of a run that may have to stop early, kept so that it fits the books after any crash.

A model that may be the best is written under the name of its round before the round is entered, and takes the place of
the best one after: a run that goes on sees by what was entered whether that was still to be done.
"""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from pretune.ledger import RoundRecord
from pretune.runtime.checkpoint import state_bytes, state_of, write_whole
from pretune.runtime.folder import BEST, RunFolder
from pretune.runtime.journal import Journal


class Keeper:
    """Enters rounds into the journal, and keeps the best model of those that were evaluated."""

    def __init__(self, model: nn.Module, folder: RunFolder, journal: Journal) -> None:
        self.model, self.folder, self.journal = model, folder, journal
        self._pending: tuple[RoundRecord, dict[str, Any]] | None = None
        last = journal.last
        for file in folder.path.glob(_name("*", "*")):
            if last is not None and file.name == _name(last.stage.value, str(last.round)):
                os.replace(file, folder.path / BEST)
            else:
                file.unlink()

    @property
    def pending(self) -> RoundRecord | None:
        """The round that is still to be entered."""
        return None if self._pending is None else self._pending[0]

    def take(self, record: RoundRecord, extra: dict[str, Any]) -> None:
        """A round was done; it is entered by `enter`, with what a checkpoint keeps after it."""
        self._pending = record, extra

    def score(self, record: RoundRecord) -> None:
        """The round that is still to be entered, with a score."""
        if self._pending is not None:
            self._pending = record, self._pending[1]

    def enter(self) -> None:
        """Enter it, if there is one."""
        if self._pending is None:
            return
        (record, extra), self._pending = self._pending, None
        before = [one.test_loss for one in self.journal.ledger.evaluations if one.test_loss is not None]
        best = record.test_loss is not None and all(record.test_loss < loss for loss in before)
        file = self.folder.path / _name(record.stage.value, str(record.round))
        if best:
            write_whole(file, state_bytes(state_of(self.model)))
        self.journal.hold(record, extra)
        if best:
            os.replace(file, self.folder.path / BEST)


def _name(stage: str, round_: str) -> str:
    return f"best.{stage}-{round_}.safetensors"
