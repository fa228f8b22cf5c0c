"""Server and devices in one process, each device on a TLS stream of its own over loopback.

The whole protocol at work, with keys made for the purpose: what `pretune run --backend federated` does, and a way to
see that the federation gives what the simulation gives. Devices on hosts of their own: `pretune server`, `device`.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pretune.errors import PretuneError
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.keys import enroll, load_device_key, load_public_keys
from pretune.runtime.federated.server import Opened, Streams
from pretune.runtime.federated.stream import Door, Lost, follow
from pretune.runtime.job import Job
from pretune.runtime.partition import hold

HOST = "localhost"


@dataclass(frozen=True, kw_only=True)
class Loopback:
    """A backend of `run`."""

    patience: Patience = field(default_factory=Patience)
    simulates: bool = True

    @contextmanager
    def crews(self, job: Job, folder: Path) -> Iterator[Job]:
        """See `Backend`."""
        names = job.scenario.devices.names
        with ExitStack() as stack:
            keys = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pretune-keys-")))
            numbers = [f"device-{k}" for k in range(len(names))]
            enroll(keys, [HOST], numbers)
            public = load_public_keys(keys / "server" / "devices", numbers)
            server = keys / "server"
            streams = Streams(
                keys={name: public[number] for name, number in zip(names, numbers, strict=True)},
                credentials=((server / "server.key").read_bytes(), (server / "server.crt").read_bytes()),
                patience=self.patience,
                opened=lambda opened: _devices(opened, keys),
            )
            yield stack.enter_context(streams.crews(job, folder))


def _devices(opened: Opened, keys: Path) -> Callable[[], None]:
    job, threads = opened.job, []
    held = hold(job.task, job.scenario)
    # a plan without fine-tuning may get some when a steered run plans anew
    devices = job.scenario.devices.names
    for k in range(len(devices)):
        folder = keys / "devices" / f"device-{k}"
        engine = Engine(
            name=devices[k],
            scenario_sha256=job.scenario.sha256,
            data=held.of(k),
            model=job.task.build(0).train(),
            loss=job.task.loss,
        )
        door = Door(
            address=f"{HOST}:{opened.port}",
            roots=(folder / "ca.crt").read_bytes(),
            key=load_device_key(folder / "device.key"),
        )
        threads.append(threading.Thread(target=_take_part, args=(engine, door), daemon=True))
        threads[-1].start()

    def join() -> None:
        for thread in threads:
            thread.join(timeout=10.0)

    return join


def _take_part(engine: Engine, door: Door) -> None:
    """Until the run is over, or the server is gone with everything else."""
    for _ in range(3):
        try:
            follow(engine, door)
        except Lost:
            continue
        except PretuneError:
            return  # the server has said why, in the run's events
        return
