"""One message to each node without a stream: a one-time token, and where to bring it. Also to those that come later."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from pretune.runtime.federated.server import Opened

SECTION = "pretune"
LOOK_S = 1.0
"""How often nodes are looked for."""
AGAIN_S = 30.0
"""A node that has not come this long after its invitation gets another."""
LIFETIME_S = 7 * 86400.0


class Inviter:
    """Looks for nodes without a stream, in a thread of its own. `names` says which device a node's key belongs to."""

    def __init__(self, grid: Grid, names: Mapping[int, str], host: str) -> None:
        self._grid, self._names, self._host = grid, dict(names), host
        self._over = threading.Event()

    def __call__(self, opened: Opened) -> Callable[[], None]:
        """The hub listens: begin. Returns what ends it."""
        thread = threading.Thread(target=self._look, args=(opened,), daemon=True)
        thread.start()

        def end() -> None:
            self._over.set()
            thread.join(timeout=10.0)

        return end

    def _look(self, opened: Opened) -> None:
        numbers = {name: k for k, name in enumerate(opened.job.scenario.devices.names)}
        invited: dict[int, tuple[float, str]] = {}
        while not self._over.is_set():
            try:
                self._invite(opened, numbers, invited)
            except Exception as error:  # noqa: BLE001  the SuperLink may be busy: the next look comes soon
                opened.hub.events.tell("trouble", why=f"Flower: {type(error).__name__}: {error}")
            self._over.wait(LOOK_S)

    def _invite(self, opened: Opened, numbers: Mapping[str, int], invited: dict[int, tuple[float, str]]) -> None:
        present, now = set(opened.hub.present()), time.monotonic()
        answered = (
            {
                message.metadata.reply_to_message_id
                for message in self._grid.pull_messages([message for _, message in invited.values()])
            }
            if invited
            else set()
        )
        for node in self._grid.get_node_ids():
            name = self._names.get(node)
            if name is None or name not in numbers or numbers[name] in present:
                continue
            since, message = invited.get(node, (-AGAIN_S, ""))
            if now - since < AGAIN_S and message not in answered:
                continue
            values = {
                "token": opened.tokens.issue(name),
                "run": opened.tokens.run,
                "host": self._host,
                "port": opened.port,
            }
            ids = list(self._grid.push_messages([_message(node, values)]))
            invited[node] = (now, ids[0] if ids else "")
            opened.hub.events.tell("invited", device=name)


def _message(node: int, values: Mapping[str, Any]) -> Message:
    return Message(
        RecordDict({SECTION: ConfigRecord(dict(values))}), dst_node_id=node, message_type="train", ttl=LIFETIME_S
    )
