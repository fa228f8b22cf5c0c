"""Run as a script by test_federated_processes.py: one end of a federation in a process of its own.

federated_processes.py server CONFIG       `pretune server` without its display
federated_processes.py device CONFIG       `pretune device`, mode direct
"""

from __future__ import annotations

import sys
from pathlib import Path

from runtime_helpers import tiny_task

from pretune.runtime.federated.config import load_device_config, load_server_config
from pretune.runtime.federated.device import run_device
from pretune.runtime.federated.serve import carry_out, read_errand, streams_of


def make_task():
    """Named in the scenario's file."""
    return tiny_task()


def main(end: str, config: Path) -> None:
    if end == "device":
        run_device(load_device_config(config), print)
    else:
        errand = read_errand(load_server_config(config))
        carry_out(errand, streams_of(errand))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
