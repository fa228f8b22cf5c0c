"""``python -m pretune.study`` is the command `pretune-experiments`."""

from __future__ import annotations

import sys

from pretune.study.cli import main

if __name__ == "__main__":
    sys.exit(main())
