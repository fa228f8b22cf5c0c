"""NVFlare's cells, which carry its aux messages: 400 kB to so many client processes and back. For its own Python.

nvflare_cells.py DEVICES BYTES ROUNDS      prints a JSON list of seconds; gRPC without TLS, in NVFlare's favour
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.utils import make_reply, new_cell_message

CHANNEL, TOPIC = "aux_communication", "round"


def client(name: str, url: str) -> None:
    cell = Cell(fqcn=name, root_url=url, secure=False, credentials={})
    cell.register_request_cb(channel=CHANNEL, topic=TOPIC, cb=lambda ask: make_reply(ReturnCode.OK, body=ask.payload))
    cell.core_cell.start()
    while True:
        time.sleep(60)


def server(devices: int, size: int, rounds: int) -> None:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        url = f"grpc://localhost:{listener.getsockname()[1]}"
    cell = Cell(fqcn="server", root_url=url, secure=False, credentials={})
    cell.core_cell.start()
    names = [f"site-{k}" for k in range(devices)]
    words = [sys.executable, __file__, "client", url]
    clients = [subprocess.Popen([*words, name], stdout=subprocess.DEVNULL) for name in names]
    times: list[float] = []
    try:
        data, until = os.urandom(size), time.monotonic() + 60
        while len(times) < rounds:
            began = time.perf_counter()
            replies = cell.broadcast_request(
                channel=CHANNEL, topic=TOPIC, targets=names, request=new_cell_message({}, data), timeout=20.0
            )
            whole = [
                reply.get_header(MessageHeaderKey.RETURN_CODE) == ReturnCode.OK and len(reply.payload or b"") == size
                for reply in replies.values()
            ]
            if len(whole) == devices and all(whole):
                times.append(time.perf_counter() - began)
            elif time.monotonic() > until:
                raise SystemExit(f"the cells do not find each other: {replies}")
            else:
                time.sleep(0.5)
        print(json.dumps(times), flush=True)
    finally:
        for process in clients:
            process.kill()
            process.wait()
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client(sys.argv[3], sys.argv[2])
    else:
        server(*map(int, sys.argv[1:]))
