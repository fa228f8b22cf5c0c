"""The same app in Flower's simulation runtime: devices as Ray actors, rounds in Flower's messages.

For parity with Flower, not for speed: the local backend simulates the same rounds about a thousand times faster.
Needs Ray, which `pip install 'flwr[simulation]'` brings.
"""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from pretune.errors import MissingExtra, RunFailed
from pretune.plans import Plan
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.engine import Engine
from pretune.runtime.flower.apps import answer
from pretune.runtime.flower.inviting import SECTION
from pretune.runtime.flower.launch import QUIET
from pretune.runtime.flower.messages import Messages
from pretune.runtime.load import load_task
from pretune.runtime.run import RunResult, run
from pretune.scenario import Scenario

WHO = "who"
PARTITION = "partition-id"
KNOW_S = 120.0
_engines: dict[tuple[str, str], Engine] = {}
"""Of the actor's process: a device's engine is made once."""


def simulate(
    plan: Plan, scenario: Scenario, *, out: str | os.PathLike[str], base: Path | None = None, **options: Any
) -> RunResult:
    """Run a plan in Flower's simulation; `options` are those of `run`. The task is the scenario's.

    Raises:
        MissingExtra: Ray is not installed.
        RunFailed, InputError: see `run`.
    """
    if importlib.util.find_spec("ray") is None:
        raise MissingExtra("flower' 'flwr[simulation]", "ray")
    os.environ.update(QUIET)
    from flwr.simulation import run_simulation

    found: list[RunResult] = []
    errors: list[Exception] = []
    count = len(scenario.devices)
    server = ServerApp()

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        try:
            names = _names(grid, scenario)
            backend = Messages(grid=grid, names=names, patience=Patience(floor_s=KNOW_S), simulates=True)
            found.append(run(plan, scenario, out=out, base=base, backend=backend, **options))
        except Exception as error:  # noqa: BLE001  Flower would only log it
            errors.append(error)

    # with one core an actor, Ray starts no more of them than there are cores
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    client = client_of(scenario, Path.cwd() if base is None else base)
    run_simulation(server_app=server, client_app=client, num_supernodes=count, backend_config=resources)  # type: ignore[arg-type]
    if errors:
        raise errors[0]
    if not found:
        raise RunFailed("Flower's simulation ended without a result")
    return found[0]


def client_of(scenario: Scenario, base: Path) -> ClientApp:
    """A device's end, which is the partition that Flower says it is."""
    client = ClientApp()

    @client.train()
    def take_part(message: Message, context: Context) -> Message:
        values: dict[str, Any] = dict(message.content[SECTION])
        partition = int(context.node_config[PARTITION])
        if WHO in values:
            said: dict[str, Any] = {PARTITION: partition}
        else:
            name = scenario.devices.names[partition]
            key = scenario.sha256, name
            if key not in _engines:
                _engines[key] = Engine.of(scenario, load_task(scenario.task, base), name)
            said = {"frame": answer(_engines[key], values["order"], values["model"])}
        return Message(RecordDict({SECTION: ConfigRecord(said)}), reply_to=message)

    return client


def _names(grid: Grid, scenario: Scenario) -> dict[int, str]:
    """Which device each node is: every node is asked."""
    count, until = len(scenario.devices), time.monotonic() + KNOW_S
    while len(nodes := list(grid.get_node_ids())) < count:
        if time.monotonic() > until:
            raise RunFailed(f"Flower's simulation has {len(nodes)} of {count} nodes")
        time.sleep(0.1)
    asked = [
        Message(RecordDict({SECTION: ConfigRecord({WHO: True})}), dst_node_id=node, message_type="train")
        for node in nodes
    ]
    replies = grid.send_and_receive(asked, timeout=KNOW_S)
    names = {
        reply.metadata.src_node_id: scenario.devices.names[int(str(reply.content[SECTION][PARTITION]))]
        for reply in replies
        if reply.has_content()
    }
    if len(names) < count:
        raise RunFailed(f"{len(names)} of {count} nodes of Flower's simulation answer")
    return names
