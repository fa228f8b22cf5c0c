"""A device's end of its stream: come in, then answer one round after another until the server says stop."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from cryptography.hazmat.primitives.asymmetric import ec

from pretune.errors import RunFailed
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.frames import PROTOCOL, SLACK, BadFrame, Frame, unpack
from pretune.runtime.federated.hub import INVITE, SERVICE, STREAM, channel_options
from pretune.runtime.federated.keys import sign
from pretune.runtime.federated.messages import Order, weights_of

CONNECT_S = 10.0
RETRY_S = 0.2, 5.0
"""Seconds between attempts to come in again: the first and, doubling, the longest."""

Say = Callable[[str], None]


class Refused(RunFailed):
    """The server does not let this device in, or the device will not take part; trying again is no use."""


class Lost(RunFailed):
    """The stream broke, or there is no server; trying again may help."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where the server is and how it is known: ``host:port``, the CA's certificate (None: plaintext), own key."""

    address: str
    roots: bytes | None
    key: ec.EllipticCurvePrivateKey
    keepalive_s: float = 10.0


@dataclass(frozen=True, kw_only=True)
class Ticket:
    """A one-time token and the run it is for."""

    token: str
    run: str


def follow(engine: Engine, door: Door, ticket: Ticket | None = None) -> str:
    """Take part in a run until its end; returns the server's last word.

    Without a ticket the server itself is asked for one, which it gives only where Flower is not in between.

    Raises:
        Refused: the server does not let the device in, or has another scenario.
        Lost: there is no server, or the stream broke.
    """
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights_of(engine.model).values())
    options = channel_options(size + SLACK, door.keepalive_s, server=False)
    if door.roots is None:
        channel = grpc.insecure_channel(door.address, options)
    else:
        channel = grpc.secure_channel(door.address, grpc.ssl_channel_credentials(door.roots), options)
    outgoing: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    with channel:
        try:
            _connected(channel, door.address)
            if ticket is None:
                ticket = _invited(channel, engine.name)
            outgoing.put(_hello(engine, door, ticket))
            call = channel.stream_stream(f"/{SERVICE}/{STREAM}")(iter(outgoing.get, None))
            return _rounds(engine, ticket.run, call, outgoing)
        except grpc.RpcError as error:
            raise _told(error) from None
        finally:
            outgoing.put(None)


def follow_until_over(engine: Engine, door: Door, *, patience_s: float, say: Say) -> str:
    """The same, coming in again when the stream breaks, until the run has ended or `patience_s` without a stream.

    Raises:
        Refused: see `follow`.
        Lost: no stream for too long.
    """
    pause, lost_at = RETRY_S[0], time.monotonic()
    while True:
        began = time.monotonic()
        try:
            return follow(engine, door)
        except Lost as error:
            now = time.monotonic()
            if now - began > CONNECT_S + RETRY_S[1]:  # it was in for a while
                pause, lost_at = RETRY_S[0], now
            if now - lost_at > patience_s:
                raise
            say(f"{error}; trying again")
            time.sleep(pause)
            pause = min(2 * pause, RETRY_S[1])


def _connected(channel: grpc.Channel, address: str) -> None:
    try:
        grpc.channel_ready_future(channel).result(timeout=CONNECT_S)
    except grpc.FutureTimeoutError:
        raise Lost(f"no server at {address} whose certificate is that of the enrolled authority") from None


def _invited(channel: grpc.Channel, name: str) -> Ticket:
    request = Frame(kind="invite", values={"device": name}).pack()
    frame = unpack(channel.unary_unary(f"/{SERVICE}/{INVITE}")(request, timeout=CONNECT_S))
    return Ticket(token=frame.text("token"), run=frame.text("run"))


def _hello(engine: Engine, door: Door, ticket: Ticket) -> bytes:
    values = {
        "protocol": PROTOCOL,
        "device": engine.name,
        "run": ticket.run,
        "token": ticket.token,
        "scenario_sha256": engine.scenario_sha256,
    }
    return Frame(kind="hello", values={**values, "signature": sign(door.key, values)}).pack()


def _rounds(engine: Engine, run: str, call: grpc.CallIterator[bytes], outgoing: queue.SimpleQueue[bytes | None]) -> str:
    for data in call:
        now = time.monotonic()
        try:
            frame = unpack(data)
            if frame.kind == "sync":
                values = {"asked_at": frame.number("asked_at"), "read_at": now}
                outgoing.put(Frame(kind="sync", values=values).pack())
            elif frame.kind == "model":
                outgoing.put(engine.answer(frame, run, now).pack())
            elif frame.kind == "order":
                engine.take(Order.of(frame))
            elif frame.kind == "welcome" and frame.text("scenario_sha256") != engine.scenario_sha256:
                raise BadFrame("the server's plan is for another scenario than this device's")
            elif frame.kind == "stop":
                return frame.text("why")
        except BadFrame as error:
            why = f"the server's message {error}" if not str(error).startswith("the server") else str(error)
            outgoing.put(Frame(kind="refuse", values={"why": why[:300]}).pack())
            with contextlib.suppress(grpc.RpcError):
                next(call, None)  # let it go out before the stream is closed
            raise Refused(why) from None
    raise Lost("the server closed the stream")


def _told(error: grpc.RpcError) -> RunFailed:
    code, details = error.code(), str(error.details() or "").splitlines()
    first = details[0] if details else str(code)
    if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return Refused(f"the server does not let this device in: {first}")
    return Lost(f"the stream broke ({first})")
