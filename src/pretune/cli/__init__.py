"""The command line. `main` is the entry point; each command imports what it needs when it runs."""

from __future__ import annotations

from pretune.cli.app import main

__all__ = ["main"]
