"""The server's end from its configuration: the plan it is to carry out, and the run itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pretune.plans import Plan, load_plan
from pretune.runtime.backend import Backend
from pretune.runtime.federated.config import Mode, ServerConfig
from pretune.runtime.federated.keys import load_public_keys
from pretune.runtime.federated.server import Opened, Streams
from pretune.runtime.job import check_runnable
from pretune.runtime.journal import ProgressCallback
from pretune.runtime.run import RunResult, run
from pretune.scenario import Scenario, load_scenario


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What is to be carried out: a plan that has been checked against its scenario."""

    config: ServerConfig
    plan: Plan
    scenario: Scenario


def read_errand(config: ServerConfig) -> Errand:
    """Plan and scenario of a configuration.

    Raises:
        PlanMismatch: the plan was made for another scenario.
        InputError: a file can't be used.
    """
    scenario, plan = load_scenario(config.scenario), load_plan(config.plan)
    check_runnable(plan, scenario)
    return Errand(config=config, plan=plan, scenario=scenario)


def streams_of(errand: Errand, opened: Callable[[Opened], Callable[[], None]] | None = None) -> Streams:
    """The streams that the configuration asks for; `opened` is told when they can be used.

    Raises:
        InputError: a key can't be read.
    """
    config = errand.config
    return Streams(
        keys=load_public_keys(config.keys / "devices", errand.scenario.devices.names),
        credentials=config.credentials(),
        address=f"{config.host}:{config.port}",
        invites=config.mode is Mode.DIRECT,
        patience=config.patience,
        keepalive_s=config.keepalive_s,
        opened=opened,
    )


def carry_out(errand: Errand, backend: Backend, progress: ProgressCallback | None = None) -> RunResult:
    """Run the errand, or go on with it: its folder is that of `pretune run`.

    Raises:
        RunFailed, InputError: see `run`.
    """
    config = errand.config
    return run(
        errand.plan,
        errand.scenario,
        out=config.out,
        seed=config.seed,
        base=config.scenario.parent,
        threads=config.threads,
        aggregation=config.aggregation,
        control=config.control.value,
        replan=config.replan.value,
        outage=config.outage,
        backend=backend,
        progress=progress,
    )
