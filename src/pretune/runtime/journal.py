"""What has happened so far in a run: its ledger, its checkpoints, and the last model known to be good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from pretune.ledger import Ledger, RoundRecord, Stage
from pretune.runtime.checkpoint import state_of
from pretune.runtime.folder import RunFolder
from pretune.runtime.gradient import all_finite
from pretune.runtime.job import StageJob

ProgressCallback = Callable[[RoundRecord], None]


class Journal:
    """Enters rounds into the ledger once the models they made have proved good.

    A round is first held back (`hold`). `confirm` is called when the model as it is has given a finite loss: the round
    that made it is entered, the model is remembered as good, and a checkpoint is written if one is due. So ledger,
    checkpoints and the kept model never hold a round that broke the model, and a run that goes on from
    a checkpoint needs nothing but the checkpoint. With `eager` it is enough that the model's numbers are finite: where
    a round takes minutes of other people's time, one that is done is on the disk before the next begins.
    """

    def __init__(
        self,
        folder: RunFolder,
        model: nn.Module,
        *,
        every: int,
        seconds: float,
        progress: ProgressCallback | None,
        eager: bool = False,
    ) -> None:
        checkpoint, ledger = folder.restore()
        if checkpoint is not None:
            model.load_state_dict(checkpoint.state)
        self.folder = folder
        self.records: list[RoundRecord] = list(ledger.records)
        self.good = state_of(model)
        """A copy of the last model known to be good."""
        self._live = model.state_dict()  # shares memory with the model
        self._held: RoundRecord | None = None
        self.extra: dict[str, Any] | None = None if checkpoint is None else checkpoint.extra
        """What else is known after the newest round that was entered, as a checkpoint keeps it."""
        self._held_extra: dict[str, Any] | None = None
        self.before_checkpoint: Callable[[], None] | None = None
        """Called before a checkpoint is written: what it speaks of has to be on the disk."""
        self._done = 0 if checkpoint is None else checkpoint.done
        self._every, self._seconds, self._progress, self._eager = every, seconds, progress, eager
        self._saved_done, self._saved_at = self._done, time.monotonic()

    @property
    def ledger(self) -> Ledger:
        """All rounds entered."""
        return Ledger(records=tuple(self.records))

    @property
    def last(self) -> RoundRecord | None:
        """The newest round, held back or entered."""
        return self._held or (self.records[-1] if self.records else None)

    def left(self, stage: StageJob, before: int) -> Iterable[int]:
        """The rounds of `stage` still to do, when `before` rounds of earlier stages and segments come first.

        They are counted within the whole stage, whatever its segments.
        """
        return range(stage.before + max(0, self._done - before) + 1, stage.before + stage.rounds + 1)

    def hold(self, record: RoundRecord, extra: dict[str, Any] | None = None) -> None:
        """A round has been done; whether its model is any good will show. `extra` goes into a checkpoint after it."""
        self._held, self._held_extra = record, extra
        if self._eager and all_finite(self._live.values()):
            self.confirm()

    def confirm(self) -> None:
        """The model as it is has given a finite loss."""
        for name, tensor in self._live.items():
            self.good[name].copy_(tensor)
        record, self._held = self._held, None
        if record is None:
            return
        self.extra = self._held_extra
        self.folder.append(record)
        self.records.append(record)
        self._done += record.stage is not Stage.START
        late = time.monotonic() - self._saved_at >= self._seconds or (self._eager and record.stage is Stage.FINETUNE)
        if late or self._done - self._saved_done >= self._every:
            if self.before_checkpoint is not None:
                self.before_checkpoint()
            self.folder.checkpoint(self._done, self.good, self.extra)
            self._saved_done, self._saved_at = self._done, time.monotonic()
        if self._progress is not None:
            self._progress(record)

    def drop(self) -> None:
        """The round held back broke the model: it is not entered."""
        self._held = None
