"""`pretune server` and `pretune device` with Flower in between: start, submit, watch, start again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pretune.errors import InputError, RunFailed
from pretune.runtime.federated.config import DeviceConfig, ServerConfig
from pretune.runtime.federated.serve import Errand
from pretune.runtime.flower import launch

Say = Callable[[str], None]
ATTEMPTS = 4
LOOK_S = 0.2
AGAIN_S = 2.0, 30.0
"""Pauses before a SuperNode that ended is started again: the first and, doubling, the longest."""
LOST_S = 60.0
"""An app that has not begun so long after it was submitted is submitted again."""


def serve(errand: Errand, say: Say, look: Callable[[], None]) -> None:
    """Carry out the errand through Flower; `look` is called a few times a second.

    The app's server end is started again when it dies, and goes on from the last completed round.

    Raises:
        InputError, RunFailed: as the run itself would.
    """
    config = errand.config
    with _terminable(), launch.superlink(config) as link:
        nodes = launch.register(config, errand.scenario.devices.names)
        say(f"Flower's SuperLink listens on {config.host}:{config.flower_port}, {len(nodes)} devices are enrolled")
        for attempt in range(1, ATTEMPTS + 1):
            number = launch.submit(config)
            say(f"run {number} submitted" + (f", attempt {attempt}" if attempt > 1 else ""))
            outcome = _watch(config, link.poll, look)
            if outcome is not None:
                if outcome.get("ok"):
                    return
                kind = InputError if outcome.get("code") == 2 else RunFailed
                raise kind(str(outcome.get("message") or "the run failed"))
            say("the server's process died; the run goes on from its last completed round")
    raise RunFailed(f"the server's process died {ATTEMPTS} times; see {config.state / launch.LOG}")


def _watch(
    config: ServerConfig, link_ended: Callable[[], int | None], look: Callable[[], None]
) -> dict[str, object] | None:
    """Until the app's server end has ended: how, or None if it died."""
    began = time.monotonic()
    while True:
        look()
        found = launch.outcome(config)
        if found is not None:
            return dict(found)
        if link_ended() is not None:
            raise RunFailed(f"Flower's SuperLink ended; see {config.state / launch.LOG}")
        pid = launch.serverapp_pid(config)
        if pid is None and time.monotonic() - began > LOST_S:
            return None
        if pid is not None and not launch.alive(pid):
            found = launch.outcome(config)
            return None if found is None else dict(found)
        time.sleep(LOOK_S)


def attend(config: DeviceConfig, say: Say) -> None:
    """Be a device until stopped: a SuperNode that takes part in whatever run its server starts.

    A SuperNode ends when the SuperLink does not know its key, which may be only not yet: it is started again.

    Raises:
        RunFailed: the SuperNode ended by itself for `patience_s`: the server does not know this device, or is gone.
    """
    since, pause = time.monotonic(), AGAIN_S[0]
    log = config.keys / "flower" / "supernode.log"
    with _terminable():
        while True:
            began = time.monotonic()
            with launch.supernode(config) as node:
                say(f"{config.name} attends at {config.host}:{config.flower_port}")
                code = node.wait()
            now = time.monotonic()
            if now - began > LOST_S:  # it had been accepted
                since, pause = now, AGAIN_S[0]
            why = f"Flower's SuperNode ended with code {code}: is {config.name} enrolled at the server? See {log}"
            if now - since > config.patience_s:
                raise RunFailed(why)
            say(f"{why}; trying again in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, AGAIN_S[1])


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends us as Ctrl-C does, so that Flower's processes are ended with us."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
