"""Which code measured something, and where: what results carry so that nobody mistakes one version for another."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path

import pretune
from pretune.version import __version__

_UNSEEN = (
    "cli/",
    "report/",
    "study/cli.py",
    "study/__main__.py",
    "study/page.py",
    "study/draw.py",
    "study/verdict.py",
    "study/show.py",
)
"""Files of the package that no measurement can depend on: they only show results."""


def code_version(folder: Path, name: str) -> str:
    """The package's version and ten digits of a SHA-256 over its sources, the experiment's file and its help files.

    It changes with every edit that could change a figure, committed or not, and with no other of the package.
    """
    return _version(folder, [folder / f"{name}.py"])


def shared_version(folder: Path) -> str:
    """The same without any experiment's file: the version of what experiments share through `cached`."""
    return _version(folder, [])


def _version(folder: Path, more: list[Path]) -> str:
    digest = hashlib.sha256(_sources())
    for path in [*sorted(folder.glob("_*.py")), *more]:
        _take(digest, path.name, path)
    return f"{__version__}+{digest.hexdigest()[:10]}"


@cache
def _sources() -> bytes:
    root = Path(pretune.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        called = path.relative_to(root).as_posix()
        if not called.startswith(_UNSEEN):
            _take(digest, called, path)
    return digest.digest()


def _take(digest: hashlib._Hash, called: str, path: Path) -> None:
    digest.update(f"{called}\n".encode() + hashlib.sha256(path.read_bytes()).digest())


def commit_of(folder: Path) -> str | None:
    """Ten digits of the commit that the folder's files are of, with a + where some are not committed; None without."""
    try:
        commit = _git(folder, "rev-parse", "--short=10", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()


def machine() -> dict[str, str | int]:
    """This machine, as far as it matters for times."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "system": f"{platform.system()} {platform.machine()}",
        "python": ".".join(map(str, sys.version_info[:3])),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
