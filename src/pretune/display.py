"""How a notebook shows an object: the report draws it, and is loaded only then.

The report is named here and not imported, so that imports still point one way: what is shown knows nothing of the
report, as a number knows nothing of how it is printed.
"""

from __future__ import annotations

from importlib import import_module


def html_of(thing: object, drawer: str) -> str:
    """What the function `drawer` of ``pretune.report.notebook`` makes of it."""
    drawn: str = getattr(import_module("pretune.report.notebook"), drawer)(thing)
    return drawn
