"""Files that are whole or not there, and checkpoints that know when they are damaged."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from pretune.errors import InputError

PREFIX, SUFFIX = "checkpoint-", ".bin"
KEEP = 2
"""Checkpoints kept: the newest, and one to fall back on."""


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that after a crash at any moment there is the old one, the new one, never a part of it."""
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be synced (Windows does not)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all parameters and buffers; tensors that share memory (tied weights) are copied each."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in model.state_dict().items()}


def state_bytes(state: dict[str, Tensor]) -> bytes:
    """The safetensors file of a state; the same state always gives the same bytes."""
    return save_tensors(state)


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A run after `done` rounds (both stages counted together): its model, and the ledger up to there.

    The ledger is described by its length in bytes and their SHA-256. `extra` is what else a run has to know to go on
    (plain values; None for a run that carries its plan out as it is, and then not in the file).
    """

    done: int
    ledger_bytes: int
    ledger_sha256: str
    state: dict[str, Tensor]
    extra: dict[str, Any] | None = None


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, then drop all but the newest KEEP.

    The file is the SHA-256 of what follows, one line of JSON with the figures, and a safetensors file.
    """
    figures: dict[str, Any] = {
        "done": checkpoint.done,
        "ledger_bytes": checkpoint.ledger_bytes,
        "ledger_sha256": checkpoint.ledger_sha256,
    }
    if checkpoint.extra is not None:
        figures["extra"] = checkpoint.extra
    rest = json.dumps(figures, allow_nan=False).encode() + b"\n" + state_bytes(checkpoint.state)
    name = f"{PREFIX}{checkpoint.done:012d}{SUFFIX}"
    write_whole(folder / name, hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    for old in checkpoint_files(folder)[KEEP:]:
        old.unlink(missing_ok=True)


def checkpoint_files(folder: Path) -> list[Path]:
    """All checkpoints of a run's folder, the newest first."""
    return sorted(folder.glob(f"{PREFIX}*{SUFFIX}"), reverse=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        InputError: it is cut off, or a bit of it has changed.
    """
    try:
        digest, _, rest = path.read_bytes().partition(b"\n")
        if hashlib.sha256(rest).hexdigest().encode() != digest:
            raise ValueError("its checksum does not hold")
        line, _, body = rest.partition(b"\n")
        return Checkpoint(**json.loads(line), state=load_tensors(body))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise InputError(f"{path}: is not a whole checkpoint ({error})") from None
