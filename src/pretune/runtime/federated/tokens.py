"""One-time tokens: what lets a device into one run, once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time


class Tokens:
    """One-time tokens, each for one device and one run, and for a while.

    A token is a nonce and an expiry under the hub's own secret, so that handing one out stores nothing; only those
    that were used are remembered, and only until they would have expired.
    """

    def __init__(self, run: str, lifetime_s: float = 600.0) -> None:
        self.run, self.lifetime_s = run, lifetime_s
        self._secret = secrets.token_bytes(32)
        self._used: dict[str, float] = {}
        self._lock = threading.Lock()

    def issue(self, device: str) -> str:
        """A new token for a device."""
        expires = f"{time.time() + self.lifetime_s:.3f}"
        nonce = secrets.token_urlsafe(18)
        return f"{expires}:{nonce}:{self._mac(device, expires, nonce)}"

    def problem(self, device: str, token: str) -> str | None:
        """What is wrong with a token, None if nothing is; then it is used up."""
        expires, _, rest = token.partition(":")
        nonce, _, mac = rest.partition(":")
        if not hmac.compare_digest(mac.encode(), self._mac(device, expires, nonce).encode()):
            return "its token is not one of this run for this device"
        now = time.time()
        if float(expires) < now:
            return "its token has expired"
        with self._lock:
            if nonce in self._used:
                return "its token was used before (a replay?)"
            self._used = {old: until for old, until in self._used.items() if until >= now}
            self._used[nonce] = float(expires)
        return None

    def _mac(self, device: str, expires: str, nonce: str) -> str:
        text = "\n".join((self.run, device, expires, nonce))
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()
