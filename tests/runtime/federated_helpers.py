"""A federation on loopback whose devices may be honest, slow or hostile."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from runtime_helpers import hand_plan, small_scenario, tiny_task

from pretune.errors import PretuneError
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.frames import Frame, unpack
from pretune.runtime.federated.hub import SERVICE, STREAM
from pretune.runtime.federated.keys import enroll, load_device_key, load_public_keys
from pretune.runtime.federated.messages import Order
from pretune.runtime.federated.server import Opened, Streams
from pretune.runtime.federated.stream import Door, Ticket, _hello, follow, follow_until_over
from pretune.runtime.run import RunResult, run

HERE = Path(__file__).parent
SCRIPT = HERE / "federated_processes.py"
TASK = {"file": str(SCRIPT), "function": "make_task"}
NAMES = ("d0", "d1", "d2", "d3")
QUICK = Patience(factor=1.0, floor_s=0.5, start_s=20.0, stalled_s=20.0)


def start_process(end: str, config: Path) -> subprocess.Popen[bytes]:
    """A server or a device (`end`) in a process of its own, which the caller ends."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    return subprocess.Popen([sys.executable, str(SCRIPT), end, str(config)], env=env, stdout=subprocess.DEVNULL)


def until(what: Callable[[], bool], why: str) -> None:
    """Wait for something that is sure to come."""
    limit = time.monotonic() + 60
    while not what():
        assert time.monotonic() < limit, why
        time.sleep(0.005)


def rounds_done(out: Path) -> int:
    """Fine-tuning rounds whose lines are whole in the ledger's file."""
    try:
        return (out / "ledger.jsonl").read_bytes().count(b'"stage": "finetune"')
    except OSError:
        return 0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass(kw_only=True)
class Fleet:
    """Keys, engines and doors of four devices, and the server's folder."""

    keys: Path
    opened: Opened | None = None
    errors: dict[str, Exception] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    @staticmethod
    def of(folder: Path) -> Fleet:
        enroll(folder, ["localhost"], NAMES)
        return Fleet(keys=folder)

    def engine(self, name: str, kind: type[Engine] = Engine) -> Engine:
        made = Engine.of(small_scenario(), tiny_task(), name)
        made.__class__ = kind
        return made

    def door(self, name: str, *, key_of: str | None = None, port: int | None = None) -> Door:
        folder = self.keys / "devices"
        return Door(
            address=f"localhost:{self.opened.port if port is None else port}",
            roots=(folder / name / "ca.crt").read_bytes(),
            key=load_device_key(folder / (key_of or name) / "device.key"),
        )

    def honest(self, name: str, kind: type[Engine] = Engine) -> Callable[[], None]:
        return lambda: self._follow(self.engine(name, kind), self.door(name))

    def _follow(self, engine: Engine, door: Door, ticket: Ticket | None = None) -> None:
        try:
            follow(engine, door, ticket)
        except PretuneError as error:
            self.errors[engine.name] = error

    def faithful(self, engine: Engine, port: int) -> Callable[[], None]:
        """A device that waits for a server that is gone to come back."""
        door = self.door(engine.name, port=port)
        return lambda: follow_until_over(engine, door, patience_s=60, say=lambda line: None)

    def start(self, *devices: Callable[[], None]) -> None:
        for device in devices:
            self.threads.append(threading.Thread(target=device, daemon=True))
            self.threads[-1].start()

    def streams(self, *devices: Callable[[], None], patience: Patience = QUICK, **options) -> Streams:
        server = self.keys / "server"

        def opened(what: Opened) -> Callable[[], None]:
            self.opened = what
            self.start(*devices)
            return lambda: [thread.join(timeout=20) for thread in self.threads]

        return Streams(
            keys=load_public_keys(server / "devices", NAMES),
            credentials=((server / "server.key").read_bytes(), (server / "server.crt").read_bytes()),
            patience=patience,
            opened=opened,
            **options,
        )

    def run(self, out: Path, *devices: Callable[[], None], rounds: int = 6, progress=None, **options) -> RunResult:
        plan = hand_plan(small_scenario(), rounds=(0, rounds))
        backend = self.streams(*devices, **options)
        return run(plan, small_scenario(), out=out, task=tiny_task(), backend=backend, progress=progress)

    def rogue(self, name: str, lie: Callable[[Engine, Frame, str], list[bytes]]) -> Callable[[], None]:
        """A device with the right key whose answers to a model are what `lie` makes of it."""

        def act() -> None:
            engine, door = self.engine(name), self.door(name)
            ticket = Ticket(token=self.opened.tokens.issue(name), run=self.opened.tokens.run)
            outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
            outgoing.put(_hello(engine, door, ticket))
            options = [("grpc.max_send_message_length", -1)]
            with grpc.secure_channel(door.address, grpc.ssl_channel_credentials(door.roots), options) as channel:
                try:
                    for data in channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter(outgoing.get, None)):
                        frame = unpack(data)
                        if frame.kind == "order":
                            engine.take(Order.of(frame))
                        elif frame.kind == "model":
                            for answer in lie(engine, frame, ticket.run):
                                outgoing.put(answer)
                        elif frame.kind == "stop":
                            break
                except grpc.RpcError as error:
                    self.errors[name] = error
                finally:
                    outgoing.put(None)

        return act

    @property
    def events(self) -> Events:
        return self.opened.hub.events

    def present(self, count: int) -> None:
        """Wait until so many devices are in."""
        until = time.monotonic() + 20
        while len(self.opened.hub.present()) < count:
            assert time.monotonic() < until, "the devices do not come in"
            time.sleep(0.005)
