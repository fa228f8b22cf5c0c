"""TensorBoard's event files, written by PyTorch's own writer and read back by TensorBoard's reader."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pretune.errors import MissingExtra
from pretune.tracking.rows import Row


class TensorBoard:
    """A folder of event files: ``tensorboard`` in the run's folder or, with a URI, one of the run's name below that.

    It has no place for files, so their paths are kept as a text.
    """

    def __init__(self, uri: str | None, folder: Path) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
                from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as error:
            raise MissingExtra("tensorboard", error.name or "tensorboard") from None
        self._root, self._folder = uri, folder
        self._make: Callable[..., Any] = SummaryWriter
        self._reader: Callable[..., Any] = EventAccumulator
        self._writer: Any = None
        self._path = folder

    def open(self, run: str | None, title: str, parameters: Mapping[str, str]) -> str:
        """Begin a folder, or go on in it."""
        self._path = Path(run) if run is not None else self._free()
        self._writer = self._make(log_dir=str(self._path), flush_secs=10**6)
        if run is None:
            table = [f"| {key} | {_cell(value)} |" for key, value in {"title": title, **parameters}.items()]
            self._writer.add_text("parameters", "\n".join(["| parameter | value |", "|---|---|", *table]), 0)
            self._writer.flush()
        return str(self._path)

    def last_step(self, key: str) -> int:
        """From the event files."""
        events = self._reader(str(self._path), size_guidance={"scalars": 0})
        events.Reload()
        if key not in events.Tags()["scalars"]:
            return -1
        return max(int(event.step) for event in events.Scalars(key))

    def write(self, rows: Sequence[Row]) -> None:
        """Scalars, at once on the disk."""
        for row in rows:
            for key, value in row.figures.items():
                self._writer.add_scalar(key, value, row.step, new_style=False)
        self._writer.flush()

    def keep(self, files: Sequence[Path]) -> None:
        """Where they are."""
        lines = "\n".join(f"- {_cell(str(file.resolve()))}" for file in files)
        self._writer.add_text("files", lines, 0)

    def close(self, status: str) -> None:
        """End it."""
        self._writer.add_text("status", status, 0)
        self._writer.close()

    def _free(self) -> Path:
        if self._root is None:
            return self._folder / "tensorboard"
        number, name = 1, self._folder.resolve().name
        while (path := Path(self._root) / (name if number == 1 else f"{name}-{number}")).exists():
            number += 1
        return path


def _cell(text: str) -> str:
    """A text that begins no other Markdown in a table."""
    return text.replace("|", "\\|").replace("<", "&lt;")
