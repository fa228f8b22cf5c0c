"""A studio in a process of its own and a browser that looks at it: for the tests and benchmarks/studio_drag.py."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
SHOWN = "#results[data-shown]"


def chromium() -> str | None:
    """The browser on this machine, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def why_not() -> str:
    """Why no browser can be driven here; empty if one can."""
    try:
        import fastapi  # noqa: F401
        import playwright.sync_api  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        return f"{error.name} is not installed (extras studio and browser)"
    return "" if chromium() else "there is no Chromium on this machine (apt-get install chromium)"


@contextlib.contextmanager
def studio(folder: Path, *options: str) -> Iterator[str]:
    """The address of a studio that runs until the block ends; its port is the system's choice."""
    command = [sys.executable, "-m", "pretune", "studio", "--port", "0", "--no-open", "--folder", str(folder), *options]
    with (folder.parent / f"{folder.name}.log").open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True, cwd=folder.parent
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("pretune studio: "), line
            address = line.removeprefix("pretune studio: ").strip()
            _wait_for(urlsplit(address).port or 80)
            yield address
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            if process.stdout is not None:
                process.stdout.close()


def _wait_for(port: int, most_s: float = 60.0) -> None:
    """Until somebody listens on the port."""
    end = time.monotonic() + most_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


@contextlib.contextmanager
def browser() -> Iterator[Any]:
    """Chromium, until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield found
        finally:
            found.close()
