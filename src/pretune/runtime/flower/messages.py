"""Rounds in Flower's own messages, where no second port is allowed: the same frames, seconds a round."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from pretune.runtime.federated.clock import Clock
from pretune.runtime.federated.crew import Patience
from pretune.runtime.federated.events import NAME as EVENTS
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.hub import STRIKES, Arrival
from pretune.runtime.federated.server import remote_job
from pretune.runtime.flower.inviting import SECTION
from pretune.runtime.job import Job

PULL_S = 0.1
LOOK_S = 3.0


class MessageCarrier:
    """A `crew.Carrier`. `names` says which device a node is; a message that never comes back is given up at `ttl_s`."""

    def __init__(self, grid: Grid, names: Mapping[int, str], devices: list[str], events: Events, ttl_s: float) -> None:
        self.inbox: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._grid, self._events, self._ttl_s = grid, events, ttl_s
        self._devices = devices
        numbers = {name: k for k, name in enumerate(devices)}
        self._nodes = {numbers[name]: node for node, name in names.items() if name in numbers}
        self._online: set[int] = set()
        self._under_way: dict[str, tuple[int, float]] = {}
        self._strikes = dict.fromkeys(range(len(devices)), 0)
        self._outgoing: queue.SimpleQueue[tuple[int, bytes, bytes]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def present(self) -> list[int]:
        """Devices whose node is online and not expelled."""
        with self._lock:
            return sorted(k for k in self._online if self._strikes[k] < STRIKES)

    def idle(self) -> list[int]:
        """Those without a message under way."""
        with self._lock:
            busy = {device for device, _ in self._under_way.values()}
        return [k for k in self.present() if k not in busy]

    def send(self, device: int, order: bytes, model: bytes) -> bool:
        """Hand both to Flower."""
        if device not in self.idle():
            return False
        with self._lock:
            self._under_way[f"soon {device}"] = (device, time.monotonic())
        self._outgoing.put((device, order, model))
        return True

    def clock_of(self, device: int) -> Clock | None:
        """None: a message lies in the SuperLink for seconds, which tells nothing of clocks."""

    def synchronise(self, device: int) -> None:
        """Nothing."""

    def strike(self, device: int, what: str, round_: int, why: str) -> None:
        """See `Hub.strike`."""
        self._events.tell(what, device=self._devices[device], round_=round_, why=why)
        with self._lock:
            self._strikes[device] += 1
            out = self._strikes[device] == STRIKES
        if out:
            self._events.tell("expelled", device=self._devices[device], round_=round_, why=f"{STRIKES} refusals")

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join(timeout=10.0)

    def _work(self) -> None:
        looked = 0.0
        while not self._over.is_set():
            try:
                if time.monotonic() - looked > LOOK_S:
                    self._look()
                    looked = time.monotonic()
                self._push()
                self._pull()
            except Exception as error:  # noqa: BLE001  the SuperLink may be busy: the next attempt comes soon
                self._events.tell("trouble", why=f"Flower: {type(error).__name__}: {error}")
            self._over.wait(PULL_S)

    def _look(self) -> None:
        nodes = set(self._grid.get_node_ids())
        online = {device for device, node in self._nodes.items() if node in nodes}
        with self._lock:
            came, went, self._online = online - self._online, self._online - online, online
        for device in sorted(came | went):
            self._events.tell("joined" if device in came else "left", device=self._devices[device])
            joined = device in came
            self.inbox.put(Arrival(device=device, at_s=time.monotonic(), joined=joined, left=not joined))

    def _push(self) -> None:
        batch = []
        while not self._outgoing.empty():
            batch.append(self._outgoing.get())
        if not batch:
            return
        content = [RecordDict({SECTION: ConfigRecord({"order": o, "model": m})}) for _, o, m in batch]
        messages = [
            Message(record, dst_node_id=self._nodes[device], message_type="train", ttl=self._ttl_s)
            for record, (device, _, _) in zip(content, batch, strict=True)
        ]
        try:
            ids = list(self._grid.push_messages(messages))
        except Exception:
            for item in batch:  # they stay under way until they get through
                self._outgoing.put(item)
            raise
        now = time.monotonic()
        with self._lock:
            for message, (device, _, _) in zip(ids, batch, strict=True):
                self._under_way.pop(f"soon {device}", None)
                self._under_way[message] = (device, now)

    def _pull(self) -> None:
        with self._lock:
            ids = [message for message in self._under_way if not message.startswith("soon ")]
        for reply in self._grid.pull_messages(ids) if ids else []:
            with self._lock:
                device, _ = self._under_way.pop(reply.metadata.reply_to_message_id, (None, 0.0))
            if device is None:
                continue
            data = b""
            if reply.has_content() and SECTION in reply.content:
                found = reply.content[SECTION].get("frame", b"")
                data = found if isinstance(found, bytes) else b""
            self.inbox.put(Arrival(device=device, at_s=time.monotonic(), data=data))
        with self._lock:
            old = time.monotonic() - 2 * self._ttl_s
            self._under_way = {key: value for key, value in self._under_way.items() if value[1] > old}


@dataclass(frozen=True, kw_only=True, eq=False)
class Messages:
    """A backend of `run`."""

    grid: Grid
    names: Mapping[int, str]
    patience: Patience
    simulates: bool = False

    @contextmanager
    def crews(self, job: Job, folder: Path) -> Iterator[Job]:
        """See `Backend`."""
        with ExitStack() as stack:
            events = Events(folder / EVENTS)
            stack.callback(events.close)
            devices = list(job.scenario.devices.names)
            carrier = MessageCarrier(self.grid, self.names, devices, events, ttl_s=self.patience.stalled_s)
            stack.callback(carrier.close)
            yield stack.enter_context(remote_job(job, folder, carrier, events, patience=self.patience))
