"""The two configuration files: what `pretune server` and `pretune device` are told, checked like a scenario.

Relative paths are relative to the file. docs/federation.md describes every key.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pretune.control.rules import Control, Replan
from pretune.errors import InputError
from pretune.loader import read_tree
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.meter import CHOICES
from pretune.runtime.options import Options

STREAM_PORT, FLOWER_PORT = 9443, 9092


class Mode(StrEnum):
    """How server and devices find each other, and what carries the rounds."""

    FLOWER = "flower"
    """Flower enrols, starts and watches; the rounds go over streams of their own."""
    MESSAGES = "messages"
    """The same with the rounds in Flower's own messages: one port, and seconds a round."""
    DIRECT = "direct"
    """Streams alone: devices come to the server by themselves with their enrolled keys."""


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """`pretune server`. `host` is what is listened on, `public_host` the name that devices dial.

    `control`, `replan` and `outage` are those of `run`.
    """

    path: Path
    plan: Path
    scenario: Path
    out: Path
    keys: Path
    mode: Mode
    host: str
    public_host: str
    port: int
    flower_port: int
    plaintext: bool
    seed: int
    aggregation: str
    threads: int
    keepalive_s: float
    patience: Patience
    control: Control = Control.NONE
    replan: Replan = Replan.OFF
    outage: float = 0.0

    @property
    def state(self) -> Path:
        """Flower's own files of this run."""
        return self.out.with_name(self.out.name + ".flower")

    def credentials(self) -> tuple[bytes, bytes] | None:
        """Private key and certificate (PEM); None for plaintext.

        Raises:
            InputError: they can't be read.
        """
        if self.plaintext:
            return None
        return read_bytes(self.keys / "server.key"), read_bytes(self.keys / "server.crt")


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """`pretune device`. `actuator` and `data` are sections read by whoever needs them."""

    path: Path
    name: str
    scenario: Path
    keys: Path
    mode: Mode
    host: str
    port: int
    flower_port: int
    plaintext: bool
    energy: str
    patience_s: float
    keepalive_s: float
    threads: int
    actuator: Mapping[str, Any]
    data: Mapping[str, Any] | None

    def roots(self) -> bytes | None:
        """The authority's certificate (PEM); None for plaintext.

        Raises:
            InputError: it can't be read.
        """
        return None if self.plaintext else read_bytes(self.keys / "ca.crt")


def load_server_config(path: Path) -> ServerConfig:
    """Read the server's file.

    Raises:
        InputError: one line that names the first field that can't be used.
    """
    options, base = Options(read_tree(path), "server"), path.resolve().parent
    _version(options, "pretune_server")
    host = options.text("host", "127.0.0.1")
    waits = options.section("patience")
    mode = Mode(options.one_of("mode", list(Mode), Mode.FLOWER))
    control = Control(options.one_of("control", list(Control), Control.NONE))
    replan = Replan(options.one_of("replan", list(Replan), Replan.OFF))
    if replan is not Replan.OFF and control is Control.NONE:
        raise InputError.field("server.control", control.value, f"rounds where replan is {replan.value}")
    config = ServerConfig(
        path=path.resolve(),
        plan=base / options.text("plan"),
        scenario=base / options.text("scenario"),
        out=base / options.text("out"),
        keys=base / options.text("keys"),
        mode=mode,
        host=host,
        public_host=options.text("public_host", "localhost" if _is_loopback(host) else host),
        port=options.whole("port", STREAM_PORT, high=65535),
        flower_port=options.whole("flower_port", FLOWER_PORT, low=1, high=65535),
        plaintext=options.flag("plaintext", False),
        seed=options.whole("seed", 0),
        aggregation=options.text("aggregation", "mean"),
        threads=options.whole("threads", 1, low=1, high=1024),
        keepalive_s=options.number("keepalive_s", 10.0, low=1.0, high=3600.0),
        patience=Patience(
            factor=waits.number("factor", 3.0, low=1.0, high=1e6),
            floor_s=waits.number("floor_s", 120.0 if mode is Mode.MESSAGES else 5.0, low=0.0, high=1e9),
            start_s=waits.number("start_s", 120.0, low=0.0, high=1e9),
            again_s=waits.number("again_s", 10.0, low=0.0, high=1e9),
            stalled_s=waits.number("stalled_s", 600.0, low=0.0, high=1e9),
            fewest=waits.whole("fewest", 1, low=1, high=10**6),
        ),
        control=control,
        replan=replan,
        outage=options.number("outage", 0.0, low=0.0, high=0.5),
    )
    waits.done()
    options.done()
    _check_plaintext("server", config.plaintext, config.mode, config.host)
    return config


def load_device_config(path: Path) -> DeviceConfig:
    """Read a device's file.

    Raises:
        InputError: one line that names the first field that can't be used.
    """
    options, base = Options(read_tree(path), "device"), path.resolve().parent
    _version(options, "pretune_device")
    config = DeviceConfig(
        path=path.resolve(),
        name=options.text("name"),
        scenario=base / options.text("scenario"),
        keys=base / options.text("keys"),
        mode=Mode(options.one_of("mode", list(Mode), Mode.FLOWER)),
        host=options.text("host", "localhost"),
        port=options.whole("port", STREAM_PORT, low=1, high=65535),
        flower_port=options.whole("flower_port", FLOWER_PORT, low=1, high=65535),
        plaintext=options.flag("plaintext", False),
        energy=options.one_of("energy", CHOICES, "auto"),
        patience_s=options.number("patience_s", 600.0, low=0.0, high=1e9),
        keepalive_s=options.number("keepalive_s", 10.0, low=1.0, high=3600.0),
        threads=options.whole("threads", 1, low=1, high=1024),
        actuator=options.section("actuator").tree,
        data=options.section("data").tree or None,
    )
    options.done()
    _check_plaintext("device", config.plaintext, config.mode, config.host)
    return config


def read_bytes(path: Path) -> bytes:
    """A file of keys.

    Raises:
        InputError: it can't be read; says how such files are made.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); `pretune enroll` makes keys") from None


def _version(options: Options, key: str) -> None:
    if options.whole(key, 1) != 1:
        raise InputError.field(f"{options.path}.{key}", options.tree.get(key), "1")


def _check_plaintext(path: str, plaintext: bool, mode: Mode, host: str) -> None:
    if not plaintext:
        return
    if not _is_loopback(host):
        raise InputError.field(f"{path}.plaintext", plaintext, f"false: {host} is not this machine's loopback")
    if mode is not Mode.DIRECT:
        raise InputError.field(f"{path}.plaintext", plaintext, f"false: with mode {mode.value} there is always TLS")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
