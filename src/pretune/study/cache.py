"""What several points need and is dear to make: made once, kept in a file, safe among processes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

Value = TypeVar("Value")

_folder: ContextVar[Path | None] = ContextVar("cache_folder", default=None)


def cache_folder() -> Path | None:
    """Where the running study keeps what points share; None outside of a study (then nothing is kept)."""
    return _folder.get()


@contextlib.contextmanager
def caching_in(folder: Path | None) -> Iterator[None]:
    """For the while, `cache_folder` is this."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def cached(folder: Path | None, key: Mapping[str, Any] | str, make: Callable[[], Value]) -> Value:
    """What `make()` gave for this key, of this or an earlier process; made if nobody has.

    The value is JSON (what comes back is what JSON makes of it, so tuples are lists, also the first time). A file is
    whole or not there. Who comes second waits for the first; a process that dies leaves its lock free. The key must
    name all that the value depends on but the code: the runner's folder, which all experiments of a study share, is one
    for each version of the package and the help files (`_*.py`), so `make` has to live there, not in an experiment.
    """
    if folder is None:
        return _through(make())
    text = key if isinstance(key, str) else json.dumps(key, sort_keys=True, separators=(",", ":"), allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:32]
    path = folder / f"{name}.json"
    with _alone(folder / f"{name}.lock"):
        kept = _kept(path, text)
        if kept is not None:
            return kept["value"]  # type: ignore[no-any-return]
        whole = json.dumps({"key": text, "value": make()}, allow_nan=False)
        part = path.with_name(f"{name}.{os.getpid()}.part")
        part.write_text(whole, encoding="utf-8")
        part.replace(path)
        return json.loads(whole)["value"]  # type: ignore[no-any-return]


def _through(value: Value) -> Value:
    return json.loads(json.dumps(value, allow_nan=False))  # type: ignore[no-any-return]


def _kept(path: Path, key: str) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) and tree.get("key") == key and "value" in tree else None


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock on a file; the system frees it when the process ends, however it does."""
    with path.open("a", encoding="utf-8") as file:
        try:
            import fcntl
        except ImportError:  # a system without: two may make the same, which costs time and nothing else
            yield
            return
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
