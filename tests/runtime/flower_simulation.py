"""Run as a script by test_federated_parity.py: a plan in Flower's simulation beside the local backend.

flower_simulation.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from runtime_helpers import hand_plan, small_scenario

from pretune.runtime.flower.simulate import simulate
from pretune.runtime.run import run

TASK = {"file": str(Path(__file__).with_name("federated_processes.py")), "function": "make_task"}


def main(folder: Path) -> None:
    scenario = small_scenario(TASK)
    plan = hand_plan(scenario, rounds=(2, 3))
    local = run(plan, scenario, out=folder / "local", base=folder)
    remote = simulate(plan, scenario, out=folder / "remote", base=folder)
    for name, tensor in local.model.state_dict().items():
        torch.testing.assert_close(remote.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)
    print("same model")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
