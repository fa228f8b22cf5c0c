"""A device's clock against the server's, so that the time a message was under way can be told one way.

The usual exchange (as in NTP, RFC 5905 section 8): the server asks at `a`, the device reads `r`, the answer is there
at `b`; then the device's clock is ahead by ``r - (a + b) / 2``, wrong by at most ``(b - a) / 2``. Of the last few
exchanges the quickest counts.
"""

from __future__ import annotations

import time
from collections import deque

KEEP = 8
"""Exchanges that are kept."""
FIRST = 5
"""Exchanges made when a device comes in."""
EVERY_S = 15.0
"""Age at which another exchange is due: clocks drift by some 50 microseconds a second at worst."""


class Clock:
    """What is known of one device's clock."""

    def __init__(self) -> None:
        self._readings: deque[tuple[float, float]] = deque(maxlen=KEEP)
        self._newest = 0.0
        self._count = 0

    def enter(self, asked_at: float, read_at: float, now: float) -> bool:
        """An exchange has been made; returns whether another should follow at once."""
        if asked_at > now:  # the server never asked then: a made-up reading
            return False
        self._readings.append((now - asked_at, read_at - (asked_at + now) / 2))
        self._newest = now
        self._count += 1
        return self._count < FIRST

    @property
    def ahead_s(self) -> float | None:
        """By how much the device's clock is ahead; None while nothing is known."""
        return min(self._readings)[1] if self._readings else None

    @property
    def due(self) -> bool:
        """Whether another exchange should be made when the link is idle."""
        return time.monotonic() - self._newest > EVERY_S
