"""The folder of a run: what it holds, who may write to it, and where an interrupted run goes on.

run.json           which run this is: the plan's and data's fingerprints, the seed, how often it evaluates
plan.json          the plan as it was given        scenario.json      the scenario, with all defaults filled in
ledger.jsonl       one line a round                checkpoint-*.bin   the last two, while the run goes on
model.safetensors  the model, at the end           summary.json       totals and scores, at the end
timing.json        the only file with wall-clock   .lock              held by the process that writes
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from torch import Tensor

from pretune.errors import InputError, RunFailed
from pretune.ledger import Ledger, RoundRecord, load_ledger
from pretune.runtime.checkpoint import (
    Checkpoint,
    checkpoint_files,
    load_checkpoint,
    save_checkpoint,
    state_bytes,
    write_whole,
)

try:
    import fcntl
except ImportError:  # Windows: two runs into one folder at once are then not noticed
    fcntl = None  # type: ignore[assignment]

SHOWN_EVERY_S = 0.2
"""Seconds between two flushes of the ledger, for those who follow it."""
NOT_COMPARED = ("threads", "processes", "device")
"""In run.json for those who resume, but no part of which run it is."""


@dataclass(kw_only=True, eq=False)
class RunFolder:
    """An open run folder; a context manager that keeps other processes out until it is left."""

    path: Path
    identity: dict[str, Any]
    _lock: IO[bytes] | None = None
    _ledger: BufferedWriter | None = None
    _bytes: int = 0
    _shown_at: float = -math.inf
    _sha256: Any = field(default_factory=hashlib.sha256)

    @staticmethod
    def open(path: Path, identity: Mapping[str, Any], texts: Mapping[str, str], resume: bool) -> RunFolder:
        """Make the folder with the files `texts` (name to text), or open that of the same run.

        Raises:
            InputError: the folder holds something else, or `resume` is false and it is not empty, or another
                process is writing to it. Nothing in it is touched then.
        """
        if path.exists() and not path.is_dir():
            raise InputError.field("out", str(path), "a folder, not a file")
        known = path / "run.json"
        # what an earlier start may have left behind before it wrote run.json
        strangers = [] if not path.is_dir() else [p.name for p in path.iterdir() if p.name not in _EARLY]
        if strangers and not resume:
            raise InputError.field("out", str(path), "a new folder: this one is not empty, and nothing is overwritten")
        if strangers and not known.is_file():
            should = (
                "a new folder or one with a run of this plan: this one holds other files, and nothing is overwritten"
            )
            raise InputError.field("out", str(path), should)
        path.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(path=path, identity=dict(identity))
        folder._take_lock()
        try:
            if known.is_file():
                folder.identity = folder._same_run(dict(identity))
            else:
                write_whole(known, _json(identity))
            for name, text in texts.items():
                if not (path / name).is_file():
                    write_whole(path / name, text.encode())
        except BaseException:
            folder.close()
            raise
        return folder

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the ledger and of the folder."""
        for file in (self._ledger, self._lock):
            if file is not None:
                file.close()
        self._ledger = self._lock = None

    @property
    def summary(self) -> dict[str, Any] | None:
        """The summary of a run that has ended, else None."""
        try:
            text = (self.path / "summary.json").read_text(encoding="utf-8")
            tree = json.loads(text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise RunFailed(f"{self.path / 'summary.json'}: is damaged ({error})") from None
        if not isinstance(tree, dict):
            raise RunFailed(f"{self.path / 'summary.json'}: is damaged (no object)")
        return tree

    def restore(self) -> tuple[Checkpoint | None, Ledger]:
        """Where to go on: the newest checkpoint that is whole and whose ledger is, and that ledger.

        Cuts the ledger back to the checkpoint and removes newer checkpoints. Without any checkpoint the run begins
        anew: None and an empty ledger.

        Raises:
            RunFailed: there are checkpoints and none can be used.
        """
        target = self.path / "ledger.jsonl"
        files = checkpoint_files(self.path)
        problems: list[str] = []
        found: Checkpoint | None = None
        for file in files:
            try:
                candidate = load_checkpoint(file)
                self._check_ledger(target, candidate)
            except InputError as error:
                problems.append(str(error))
                continue
            found = candidate
            break
        if files and found is None:
            raise RunFailed(
                f"{self.path}: no checkpoint can be used, start again in another folder; " + "; ".join(problems)
            )
        for file in files[: len(problems)]:
            file.unlink(missing_ok=True)
        self._bytes = 0 if found is None else found.ledger_bytes
        ledger = open(target, "ab")  # noqa: SIM115 - stays open for the whole run, `close` closes it
        ledger.truncate(self._bytes)
        self._ledger = ledger
        self._sha256 = hashlib.sha256(target.read_bytes())
        return found, load_ledger(target)

    def append(self, record: RoundRecord) -> None:
        """Add a line to the ledger; it is on disk after the next `sync` or `checkpoint`.

        Others see it a little later, so that a run can be followed while it goes on.
        """
        if self._ledger is None:
            raise RuntimeError("restore() comes before append()")
        line = record.to_json().encode() + b"\n"
        self._ledger.write(line)
        self._sha256.update(line)
        self._bytes += len(line)
        now = time.monotonic()
        if now - self._shown_at >= SHOWN_EVERY_S:
            self._ledger.flush()
            self._shown_at = now

    def sync(self) -> None:
        """Bring the ledger to the disk."""
        if self._ledger is not None:
            self._ledger.flush()
            os.fsync(self._ledger.fileno())

    def checkpoint(self, done: int, state: dict[str, Tensor], extra: dict[str, Any] | None = None) -> None:
        """Bring the run after `done` rounds to the disk: first its ledger, then the checkpoint that speaks of it."""
        self.sync()
        digest = self._sha256.hexdigest()
        save_checkpoint(
            self.path,
            Checkpoint(done=done, ledger_bytes=self._bytes, ledger_sha256=digest, state=state, extra=extra),
        )

    def finish(self, state: dict[str, Tensor], summary: Mapping[str, Any], timing: Mapping[str, Any]) -> None:
        """Write the results, the summary last: it says that the run has ended."""
        self.sync()
        write_whole(self.path / "model.safetensors", state_bytes(state))
        write_whole(self.path / "timing.json", _json(timing))
        write_whole(self.path / "summary.json", _json(summary))
        self.tidy()

    def tidy(self) -> None:
        """Remove what a run that has ended needs no more: checkpoints, and parts of files that were never finished."""
        for file in (*checkpoint_files(self.path), *self.path.glob("*.part"), *self.path.glob("best*")):
            file.unlink(missing_ok=True)

    def _take_lock(self) -> None:
        self._lock = open(self.path / ".lock", "ab")  # noqa: SIM115 - held until `close`
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            should = "a folder that no other run is writing to at the moment"
            raise InputError.field("out", str(self.path), should) from None

    def _same_run(self, wanted: dict[str, Any]) -> dict[str, Any]:
        known = self.path / "run.json"
        try:
            there = json.loads(known.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunFailed(f"{known}: is damaged ({error}), start again in another folder") from None
        for key in (*wanted, *(there if isinstance(there, dict) else ())):
            value = wanted.get(key)
            if key not in NOT_COMPARED and (not isinstance(there, dict) or there.get(key) != value):
                has = there.get(key) if isinstance(there, dict) else there
                should = f"a new folder or one with this run: the run in it has {key} {has!r}, this one {value!r}"
                raise InputError.field("out", str(self.path), should)
        return dict(there)

    def _check_ledger(self, target: Path, checkpoint: Checkpoint) -> None:
        try:
            head = target.read_bytes()[: checkpoint.ledger_bytes]
        except OSError as error:
            raise InputError(f"{target}: can't be read ({error.strerror})") from None
        if hashlib.sha256(head).hexdigest() != checkpoint.ledger_sha256:
            raise InputError(f"{target}: does not agree with the checkpoint after {checkpoint.done} rounds")


BEST = "best.safetensors"
"""The best model so far of a run that may have to stop early, while it goes on."""
_EARLY = frozenset({".lock", "run.json.part"})


def _json(tree: Mapping[str, Any]) -> bytes:
    return (json.dumps(tree, indent=1, allow_nan=False) + "\n").encode()
