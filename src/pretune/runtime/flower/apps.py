"""The two ends of the Flower app. Which run it is comes from files beside them, never from the other end.

The server's end finds its configuration in the environment that `pretune server` started the SuperLink with; a
device's end in its SuperNode's own node configuration.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from pretune.errors import PretuneError
from pretune.runtime.federated.config import Mode, load_device_config, load_server_config
from pretune.runtime.federated.device import door_of, make_engine
from pretune.runtime.federated.engine import Engine
from pretune.runtime.federated.frames import BadFrame, unpack
from pretune.runtime.federated.messages import Order
from pretune.runtime.federated.serve import carry_out, read_errand, streams_of
from pretune.runtime.federated.stream import Ticket, follow
from pretune.runtime.flower.inviting import SECTION, Inviter
from pretune.runtime.flower.launch import CONFIG, DEVICE_CONFIG, NODES, OUTCOME, PROCESS, die_with_owner
from pretune.runtime.flower.messages import Messages

server, client = ServerApp(), ClientApp()


@server.main()
def serve(grid: Grid, context: Context) -> None:  # noqa: D103
    die_with_owner()
    config = load_server_config(Path(os.environ[CONFIG]))
    state, outcome = config.state, {"ok": False, "message": "the server's end of the app was ended"}
    _write(state / PROCESS, {"pid": os.getpid(), "flower_run": context.run_id, "began_s": time.time()})
    try:
        errand = read_errand(config)
        nodes = json.loads((state / NODES).read_text(encoding="utf-8"))
        names = {int(entry["node"]): str(name) for name, entry in nodes.items()}
        if config.mode is Mode.MESSAGES:
            carry_out(errand, Messages(grid=grid, names=names, patience=config.patience))
        else:
            inviter = Inviter(grid, names, config.public_host)
            carry_out(errand, streams_of(errand, inviter))
        outcome = {"ok": True, "message": ""}
    except PretuneError as error:
        outcome = {"ok": False, "message": str(error), "kind": type(error).__name__, "code": error.exit_code}
        raise
    except Exception as error:
        outcome = {"ok": False, "message": f"internal error: {type(error).__name__}: {error}"}
        raise
    finally:
        _write(state / OUTCOME, outcome)


@client.train()
def take_part(message: Message, context: Context) -> Message:  # noqa: D103
    die_with_owner()
    values: dict[str, Any] = dict(message.content[SECTION])
    config = load_device_config(Path(str(context.node_config[DEVICE_CONFIG])))
    engine = make_engine(config)
    try:
        if "token" in values:
            door = door_of(config, host=str(values["host"]), port=int(values["port"]))
            said: dict[str, Any] = {"said": follow(engine, door, Ticket(token=values["token"], run=values["run"]))}
        else:
            said = {"frame": answer(engine, values["order"], values["model"])}
    except PretuneError as error:
        said = {"said": str(error)[:500]}
    finally:
        engine.close()
    return Message(RecordDict({SECTION: ConfigRecord(said)}), reply_to=message)


def answer(engine: Engine, order: bytes, model: bytes) -> bytes:
    """One round without a stream.

    Raises:
        PretuneError: what came is no order, or no model of this device's.
    """
    received_at = time.monotonic()
    try:
        engine.take(Order.of(unpack(order)))
        return engine.answer(unpack(model), "", received_at).pack()
    except BadFrame as error:
        raise PretuneError(f"the server's message {error}") from None


def _write(path: Path, tree: dict[str, Any]) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(tree), encoding="utf-8")
    os.replace(part, path)
