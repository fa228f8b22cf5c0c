"""One studio for all tests that need solvers: starting one takes a second or two."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("httpx")

from studio_server import Studio, serving


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    task_file = folder / "own_task.py"
    task_file.write_text("raise RuntimeError('never run here')\n", encoding="utf-8")
    with serving(folder / "runs", task_files=(task_file,)) as running:
        yield running
