"""The server's end of the streams: who may come in, and frames to and from those who are in.

One bidirectional gRPC stream a device over TLS. A device says hello with a one-time token for this run and a signature
under its enrolled key; only then it is a session, and everything that comes from it bears its name. The hub knows
nothing of models: it passes frames on, bounded in size and in number (a device that was sent nothing has nothing to
answer, so at most one answer of each device waits here).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from pretune.errors import InputError
from pretune.runtime.federated.clock import Clock
from pretune.runtime.federated.events import Events
from pretune.runtime.federated.frames import MOST_HEADER, PROTOCOL, SLACK, BadFrame, Frame, unpack
from pretune.runtime.federated.keys import verify
from pretune.runtime.federated.tokens import Tokens

SERVICE, STREAM, INVITE = "pretune.Federation", "Stream", "Invite"
HELLO_S = 10.0
"""How long a stream may stay without a hello."""
STRIKES = 3
"""So many refused answers, and a device is out for the rest of the run."""
HARD_LIMIT = 4
"""A frame beyond so many times the model's size breaks its stream; one that is merely too long is refused by name."""
SPARE_THREADS = 8
"""Streams that may be open beside the devices' own: those that have not said hello yet."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """What comes out of the hub: a device `joined`, `left`, or sent a frame (`data`)."""

    device: int
    at_s: float
    joined: bool = False
    left: bool = False
    data: bytes = b""


@dataclass(kw_only=True, eq=False)
class Session:
    """A device that is in. `owes`: a model was sent to it and its answer has not come."""

    device: int
    outgoing: queue.SimpleQueue[bytes | None] = field(default_factory=queue.SimpleQueue)
    clock: Clock = field(default_factory=Clock)
    order: bytes = b""
    owes: bool = False
    gone: bool = False


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What a hub checks devices against: names in the plan's order, public keys by name, run and scenario."""

    names: Sequence[str]
    keys: Mapping[str, ec.EllipticCurvePublicKey]
    tokens: Tokens
    scenario_sha256: str
    invites: bool
    """Whether a device may ask the hub itself for a token; under Flower it gets one through Flower."""


class Hub:
    """A running server. `most_bytes` is the size of the tensors of an answer."""

    def __init__(self, entry: Pass, events: Events, *, most_bytes: int, keepalive_s: float = 10.0) -> None:
        self.entry, self.events = entry, events
        self.inbox: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        self._sessions: dict[int, Session] = {}
        self._strikes = dict.fromkeys(range(len(entry.names)), 0)
        self._most = most_bytes + SLACK
        self._lock = threading.Lock()
        threads = len(entry.names) + SPARE_THREADS
        self._grpc = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="pretune-stream"),
            maximum_concurrent_rpcs=threads,
            options=channel_options(HARD_LIMIT * (most_bytes + SLACK), keepalive_s, server=True),
        )
        methods = {
            STREAM: grpc.stream_stream_rpc_method_handler(self._stream),
            INVITE: grpc.unary_unary_rpc_method_handler(self._invite),
        }
        self._grpc.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, methods),))

    def start(self, address: str, credentials: tuple[bytes, bytes] | None) -> int:
        """Listen on ``host:port`` (port 0: any free one); returns the port.

        `credentials` are the PEM bytes of private key and certificate; None is plaintext, which the configuration
        allows on loopback alone.

        Raises:
            InputError: the address can't be bound.
        """
        try:
            if credentials is None:
                port = self._grpc.add_insecure_port(address)
            else:
                port = self._grpc.add_secure_port(address, grpc.ssl_server_credentials([credentials]))
        except RuntimeError:
            port = 0
        if port == 0:
            raise InputError.field("server.listen", address, "an address of this machine with a free port")
        self._grpc.start()
        return int(port)

    def present(self) -> list[int]:
        """The devices that are in, in order."""
        with self._lock:
            return sorted(self._sessions)

    def idle(self) -> list[int]:
        """Those of them that owe no answer."""
        with self._lock:
            return sorted(k for k, session in self._sessions.items() if not session.owes)

    def send(self, device: int, order: bytes, model: bytes) -> bool:
        """A round's model, and the order before it if it is another than the last; False if the device is not in."""
        with self._lock:
            session = self._sessions.get(device)
            if session is None or session.owes:
                return False
            session.owes = True
        if session.order != order:
            session.order = order
            session.outgoing.put(order)
        session.outgoing.put(model)
        return True

    def clock_of(self, device: int) -> Clock | None:
        """The device's clock against ours, if it is in."""
        with self._lock:
            session = self._sessions.get(device)
        return None if session is None else session.clock

    def synchronise(self, device: int) -> None:
        """Ask a device for a reading of its clock."""
        with self._lock:
            session = self._sessions.get(device)
        if session is not None and not session.owes:
            session.outgoing.put(_sync())

    def strike(self, device: int, what: str, round_: int, why: str) -> None:
        """A device has sent something that can't be used; after a few times it is out."""
        self.events.tell(what, device=self.entry.names[device], round_=round_, why=why)
        with self._lock:
            self._strikes[device] += 1
            out = self._strikes[device] >= STRIKES
            session = self._sessions.get(device) if out else None
        if out:
            self.events.tell("expelled", device=self.entry.names[device], round_=round_, why=f"{STRIKES} refusals")
        if session is not None:
            self._end(session)

    def stop(self, *, said: str = "the run has ended", grace_s: float = 2.0) -> None:
        """Tell everybody that it is over, and close; with an empty text just close, as if the server had died."""
        with self._lock:
            sessions = list(self._sessions.values())
        for session in sessions:
            if said:
                session.outgoing.put(Frame(kind="stop", values={"why": said}).pack())
            session.outgoing.put(None)
        self._grpc.stop(grace_s).wait()

    def _invite(self, data: bytes, context: grpc.ServicerContext) -> bytes:
        """A token for whoever asks in a device's name: without that device's key it is of no use."""
        if not self.entry.invites:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server hands its tokens out through Flower")
        try:
            name = unpack(data[: MOST_HEADER + 8]).text("device")
        except BadFrame as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if name not in self.entry.keys:
            self.events.tell("refused", device=name[:64], why="is not enrolled")
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "not enrolled at this server")
        values = {"token": self.entry.tokens.issue(name), "run": self.entry.tokens.run}
        return Frame(kind="invite", values=values).pack()

    def _stream(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        alarm = threading.Timer(HELLO_S, context.cancel)
        alarm.daemon = True
        alarm.start()
        try:
            first = next(requests, None)
        except grpc.RpcError:
            first = None
        finally:
            alarm.cancel()
        if first is None:
            return
        device, name, why = self._known(first)
        if device is None:
            self.events.tell("refused", device=name, why=why)
            context.abort(grpc.StatusCode.UNAUTHENTICATED, why)
            return
        session = Session(device=device)
        with self._lock:
            old = self._sessions.pop(device, None)
            self._sessions[device] = session
        if old is not None:  # it came again before its old stream was missed
            old.gone = True
            old.outgoing.put(None)
        if not context.add_callback(lambda: self._end(session)):
            self._end(session)
            return
        self.events.tell("joined", device=name)
        values = {"run": self.entry.tokens.run, "scenario_sha256": self.entry.scenario_sha256}
        yield Frame(kind="welcome", values=values).pack()
        yield _sync()
        self.inbox.put(Arrival(device=device, at_s=time.monotonic(), joined=True))
        threading.Thread(target=self._read, args=(session, requests), daemon=True).start()
        while (data := session.outgoing.get()) is not None:
            yield data

    def _known(self, data: bytes) -> tuple[int | None, str, str]:
        """Which device a hello proves to be: its number (or None), its name for the log, and what is wrong."""
        try:
            frame = unpack(data[: MOST_HEADER + 8])
            name, signature = frame.text("device"), frame.text("signature")
            if frame.kind != "hello" or frame.whole("protocol") != PROTOCOL:
                return None, name[:64], f"speaks another protocol, this server speaks {PROTOCOL}"
            signed = {key: value for key, value in frame.values.items() if key != "signature"}
            if name not in self.entry.keys or name not in self.entry.names:
                return None, name[:64], "is not enrolled at this server"
            if not verify(self.entry.keys[name], signed, signature):
                return None, name, "its signature is not that of the device's enrolled key"
            why = self.entry.tokens.problem(name, frame.text("token"))
            if why is None and frame.text("scenario_sha256") != self.entry.scenario_sha256:
                why = f"it has another scenario, {frame.text('scenario_sha256')[:12]}"
        except BadFrame as error:
            return None, "", f"no hello: {error}"
        device = list(self.entry.names).index(name)
        if why is None and self._strikes[device] >= STRIKES:
            why = "it was expelled from this run"
        return (device, name, "") if why is None else (None, name, why)

    def _read(self, session: Session, requests: Iterator[bytes]) -> None:
        try:
            for data in requests:
                now = time.monotonic()
                if session.gone:
                    break
                if len(data) <= MOST_HEADER and self._reading(session, data, now):
                    continue
                with self._lock:
                    asked, session.owes = session.owes, False
                if len(data) > self._most:
                    data = b""  # noqa: PLW2901  it is named and refused like any other answer that is none
                if asked:
                    self.inbox.put(Arrival(device=session.device, at_s=now, data=data))
                else:
                    self.strike(session.device, "rejected", 0, "an answer that nobody asked for (a replay?)")
        except grpc.RpcError:
            pass  # the stream broke; that it is over is all that matters
        self._end(session)

    def _reading(self, session: Session, data: bytes, now: float) -> bool:
        """Whether a frame is a clock's reading (or a refusal), which is dealt with here."""
        try:
            frame = unpack(data)
            if frame.kind == "sync":
                wants_more = session.clock.enter(frame.number("asked_at"), frame.number("read_at"), now)
                if wants_more:
                    session.outgoing.put(_sync())
                return True
            if frame.kind == "refuse":
                why = frame.text("why")
                self.events.tell("declined", device=self.entry.names[session.device], why=why)
                self._end(session)
                return True
        except BadFrame:
            return False
        return False

    def _end(self, session: Session) -> None:
        with self._lock:
            mine = self._sessions.get(session.device) is session
            if mine:
                del self._sessions[session.device]
            session.gone = True
        session.outgoing.put(None)
        if mine:
            self.events.tell("left", device=self.entry.names[session.device])
            self.inbox.put(Arrival(device=session.device, at_s=time.monotonic(), left=True))


def _sync() -> bytes:
    return Frame(kind="sync", values={"asked_at": time.monotonic()}).pack()


def channel_options(most_bytes: int, keepalive_s: float, *, server: bool) -> list[tuple[str, Any]]:
    """gRPC's settings for either end: size limits, and pings that notice a peer that has gone without a word."""
    milliseconds = int(keepalive_s * 1000)
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", most_bytes),
        ("grpc.max_send_message_length", most_bytes),
        ("grpc.keepalive_time_ms", milliseconds),
        ("grpc.keepalive_timeout_ms", milliseconds),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
    if server:
        options += [
            ("grpc.http2.min_ping_interval_without_data_ms", milliseconds // 2),
            ("grpc.http2.max_ping_strikes", 0),
            ("grpc.so_reuseport", 0),
        ]
    return options
