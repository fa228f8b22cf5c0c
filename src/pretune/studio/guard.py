"""Who may ask, and how much: every request passes here before anything else looks at it.

Host         on loopback only names of this machine: a page elsewhere whose name is made to point here (DNS rebinding)
             is refused
Origin       a request of a browser that changes or computes something has to come from the studio's own page
token        where the studio has one: as a bearer, or as the cookie that the login sets
body         JSON, of a size and within a time
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import threading
import time
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pretune.studio.answers import Refused
from pretune.studio.settings import LOOPBACK, Settings

COOKIE = "pretune_studio"
PUBLIC = ("/login",)
"""Paths below which no token is needed; the page's own files hold no data either, see `_is_public`."""
STATIC = "/static/"
API = "/api/"
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"x-frame-options": b"SAMEORIGIN",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=()",
}
_SAFE = ("GET", "HEAD", "OPTIONS")


class Keys:
    """The studio's secrets: the token, the cookie made of it, and login codes that work once."""

    def __init__(self, token: str | None) -> None:
        self._token = None if token is None else token.encode()
        self._codes: dict[bytes, float] = {}
        self._guard = threading.Lock()

    @property
    def needed(self) -> bool:
        """Whether anybody has to show anything."""
        return self._token is not None

    @property
    def cookie(self) -> str:
        """What the cookie holds: made of the token, so it outlives the process with a token from a file."""
        return hmac.new(self._token or b"", b"pretune studio session", hashlib.sha256).hexdigest()

    def opens(self, given: str) -> bool:
        """Whether this is the token; takes as long whatever is wrong with it."""
        return self._token is not None and hmac.compare_digest(given.encode(), self._token)

    def knows(self, cookie: str) -> bool:
        """Whether this is the cookie's value."""
        return self._token is not None and hmac.compare_digest(cookie.encode(), self.cookie.encode())

    def new_code(self, seconds: float) -> str:
        """A code that logs one browser in, once, within so many seconds."""
        import secrets

        code = secrets.token_urlsafe(32)
        with self._guard:
            self._codes[hashlib.sha256(code.encode()).digest()] = time.monotonic() + seconds
        return code

    def spend(self, code: str) -> bool:
        """Whether the code is good; it is not any more."""
        with self._guard:
            end = self._codes.pop(hashlib.sha256(code.encode()).digest(), None)
        return end is not None and time.monotonic() <= end


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings, keys: Keys) -> None:
        self.app, self.settings, self.keys = app, settings, keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets here
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        answering = _Answering(scope, send)
        try:
            headers = {key: value.decode("latin-1") for key, value in reversed(scope["headers"])}
            self._check(scope, headers)
            answering.body = _Body(self.settings, headers, receive)
            await self.app(scope, answering.body, answering)
        except Refused as refused:
            if answering.begun:
                raise
            await answer(refused, answering)

    def _check(self, scope: Scope, headers: dict[bytes, str]) -> None:
        host = headers.get(b"host", "")
        if self.settings.loopback and _name_of(host) not in LOOPBACK:
            raise Refused(403, "host: names another machine, should name this one", "host")
        method, path = scope["method"], scope["path"]
        if method not in _SAFE:
            if _is_foreign(headers, host):
                raise Refused(403, "origin: is another site, should be the studio's own page", "origin")
            length = headers.get(b"content-length", "")
            empty = length == "0" or (not length and b"transfer-encoding" not in headers)
            kind = headers.get(b"content-type", "").partition(";")[0].strip().lower()
            if not empty and kind != "application/json":
                raise Refused(415, "content-type: should be application/json", "content-type")
            if length.isdecimal() and int(length) > self.settings.limits.body_bytes:
                raise _too_long(self.settings)
        if self.keys.needed and not _is_public(method, path) and not self._known(headers):
            message = "authorization: is missing or wrong; send 'Authorization: Bearer TOKEN', or log in"
            raise Refused(401, message, "authorization")

    def _known(self, headers: dict[bytes, str]) -> bool:
        kind, _, token = headers.get(b"authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self.keys.opens(token.strip())
        try:
            cookie = SimpleCookie(headers.get(b"cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and self.keys.knows(cookie.value)


def _is_public(method: str, path: str) -> bool:
    """The page and its files hold no data and no secrets: without a token they can only ask for one."""
    return path in PUBLIC or (method in _SAFE and (path == "/" or path.startswith(STATIC)))


def _name_of(host: str) -> str:
    """The host's name without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.rpartition(":")[0].lower() if host.count(":") == 1 else host.lower()


def _is_foreign(headers: dict[bytes, str], host: str) -> bool:
    """Whether a browser says that another site's page asks."""
    if headers.get(b"sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get(b"origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != host.lower()
    except ValueError:
        return True


def _too_long(settings: Settings) -> Refused:
    most = settings.limits.body_bytes
    return Refused(413, f"body: is longer than {most} bytes; send large fleets as CSV, or fewer devices", "body")


class _Body:
    """The request's body on its way, counted and timed."""

    def __init__(self, settings: Settings, headers: dict[bytes, str], receive: Receive) -> None:
        self.settings, self.receive = settings, receive
        self.left = settings.limits.body_bytes
        self.whole = False
        self.refused: Refused | None = None
        self.end = time.monotonic() + settings.limits.body_s

    async def __call__(self) -> Message:
        if self.whole:  # what comes now is the end of the connection, which may take its time
            return await self.receive()
        try:
            message = await asyncio.wait_for(self.receive(), max(self.end - time.monotonic(), 0.001))
        except TimeoutError:
            self.refused = Refused(408, f"body: was not whole after {self.settings.limits.body_s:g} s", "body")
            raise self.refused from None
        if message["type"] == "http.request":
            self.left -= len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self.left < 0:
                self.refused = _too_long(self.settings)
                raise self.refused
        return message


class _Answering:
    """The answer on its way, with the headers that every answer has."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.path, self.send, self.begun = scope["path"], send, False
        self.body: _Body | None = None
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            refused = None if self.body is None else self.body.refused
            if refused is not None and message["status"] != refused.status:
                # the framework took it for a body that it can't read
                await answer(refused, self._straight)
                self._replaced = True
                return
        await self._straight(message)

    async def _straight(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            message["headers"] = self._with_ours(list(message.get("headers", ())))
        await self.send(message)

    def _with_ours(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        there = {key.lower() for key, _ in headers}
        ours: dict[bytes, bytes] = {**_HEADERS, b"content-security-policy": PAGE_POLICY.encode()}
        ours[b"cache-control"] = b"no-cache" if self.path.startswith(STATIC) else b"no-store"
        return [*headers, *((key, value) for key, value in ours.items() if key not in there)]


async def answer(refused: Refused, send: Any) -> None:
    """Send a refusal."""
    body = refused.body
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status in (408, 413):
        headers.append((b"connection", b"close"))
    if refused.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refused.status == 429:
        headers.append((b"retry-after", b"1"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
