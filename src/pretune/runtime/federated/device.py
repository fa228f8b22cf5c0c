"""A device of its own from its configuration: its part of the task, its actuator, its counter."""

from __future__ import annotations

import torch

from pretune.errors import InputError
from pretune.runtime.federated.actuators import read_actuator
from pretune.runtime.federated.config import DeviceConfig
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.keys import load_device_key
from pretune.runtime.federated.meter import find_meter
from pretune.runtime.federated.stream import Door, Say, follow_until_over
from pretune.runtime.load import call_named, load_task
from pretune.runtime.options import Options
from pretune.runtime.task import Samples
from pretune.scenario import load_scenario


def make_engine(config: DeviceConfig) -> Engine:
    """Everything a device needs to answer rounds.

    Raises:
        InputError: something in the configuration or the scenario can't be used.
    """
    torch.set_num_threads(config.threads)
    scenario = load_scenario(config.scenario)
    task = load_task(scenario.task, config.scenario.parent)
    data = None
    if config.data is not None:
        data = call_named(Options(config.data, "device.data"), config.path.parent)
        if not isinstance(data, Samples):
            raise InputError(f"device.data: makes {type(data).__name__}, should make the device's Samples")
    return Engine.of(
        scenario,
        task,
        config.name,
        actuator=read_actuator(Options(config.actuator, "device.actuator")),
        meter=find_meter(config.energy),
        data=data,
    )


def door_of(config: DeviceConfig, *, host: str | None = None, port: int | None = None) -> Door:
    """Where the server's streams are, and how both ends know each other.

    Raises:
        InputError: a key can't be read.
    """
    return Door(
        address=f"{host or config.host}:{port or config.port}",
        roots=config.roots(),
        key=load_device_key(config.keys / "device.key"),
        keepalive_s=config.keepalive_s,
    )


def run_device(config: DeviceConfig, say: Say) -> str:
    """Take part in a run without Flower; returns the server's last word.

    Raises:
        Refused, Lost: see `stream.follow_until_over`.
    """
    door = door_of(config)
    engine = make_engine(config)
    try:
        return follow_until_over(engine, door, patience_s=config.patience_s, say=say)
    finally:
        engine.close()
