"""Which machine and which versions a profile was measured with."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pretune.profiling.clock import CPUINFO
from pretune.profiling.speed import all_threads
from pretune.version import __version__

_MODEL = re.compile(r"^(?:model name|Model|Hardware)\s*:\s*(.+?)\s*$", re.MULTILINE)


def machine_of(device: str, cpuinfo: Path = CPUINFO) -> dict[str, Any]:
    """The processor in its own words, its cores, and how busy they were before anything was measured."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        text = ""
    named = _MODEL.search(text)
    found: dict[str, Any] = {
        "processor": named[1] if named else platform.processor() or platform.machine() or "unknown",
        "architecture": platform.machine() or "unknown",
        "threads": all_threads(),
        "system": f"{platform.system()} {platform.release()}",
        "virtual": bool(re.search(r"^flags\s*:.*\bhypervisor\b", text, re.MULTILINE)),
    }
    if hasattr(os, "getloadavg"):
        found["load_before"] = round(os.getloadavg()[0], 2)
    if device == "cuda":
        found["gpu"] = torch.cuda.get_device_name(0)
    return found


def versions_of() -> dict[str, str]:
    """What computed and what counted."""
    found = {
        "pretune": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
    }
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["zeus"] = importlib.metadata.version("zeus")
    return found
