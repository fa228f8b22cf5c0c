"""``python -m pretune``: the command."""

import sys

from pretune.cli import main

sys.exit(main())
