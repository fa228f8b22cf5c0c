"""The Flower app that `flwr run` ships: two names, no code of its own and no dependencies to install."""

from __future__ import annotations

from pathlib import Path

PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "pretune-federation"
version = "1.0.0"
description = "Rounds of a pretune plan"
license = "Apache-2.0"
dependencies = []

[tool.hatch.build.targets.wheel]
packages = ["."]

[tool.flwr.app]
publisher = "pretune"

[tool.flwr.app.components]
serverapp = "pretune_federation:server"
clientapp = "pretune_federation:client"

[tool.flwr.app.config]
"""
MODULE = '''\
"""pretune is installed on both sides; here is nothing but its name."""

from pretune.runtime.flower.apps import client, server

__all__ = ["client", "server"]
'''


def write_program(folder: Path) -> Path:
    """Write the app into a folder; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "pretune_federation.py").write_text(MODULE, encoding="utf-8")
    return folder
