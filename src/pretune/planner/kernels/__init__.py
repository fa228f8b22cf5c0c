"""The compiled arithmetic of the planner (Numba). Set NUMBA_DISABLE_JIT=1 to step through it as plain Python.

scalar   one device (or the server) at a price of time
fleet    one fine-tuning round of all devices at a span
split    how the time is split at given prices of energy
band     one device that pays for its share of a band
common   the least span of a fleet that shares its band
shared   such a fleet at a span, and how the time is split then
fixed    the optimum at fixed rounds
priced   what a set of prices makes everything cost
rounds   what that proves about any rounds
laws     the coefficients of fitted laws, and how steeply they fall
"""

from __future__ import annotations

import contextlib
from pathlib import Path


def forget_stale_code(folder: Path) -> int:
    """Delete compiled code older than the newest kernel source; returns how many files went.

    Numba keeps the compiled code of a function by the time stamp of its own file, and does not see that a kernel
    it calls in another file has changed: an upgraded checkout would go on computing with the old one.
    """
    newest = max(path.stat().st_mtime for path in (*folder.glob("*.py"), folder.parent / "problem.py"))
    gone = 0
    for path in (folder / "__pycache__").glob("*.nb[ic]"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime <= newest:
                path.unlink()
                gone += 1
    return gone


forget_stale_code(Path(__file__).parent)
