"""Bare gRPC streams over TLS between processes: what moving a model to and fro takes here; see federation.py.

echo_link.py server KEYS DEVICES BYTES ROUNDS
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc

SETTINGS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def client(keys: Path, port: str) -> None:
    credentials = grpc.ssl_channel_credentials((keys / "server" / "ca.crt").read_bytes())
    outgoing: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    outgoing.put(b"here")
    channel = grpc.secure_channel(f"localhost:{port}", credentials, SETTINGS)
    for data in channel.stream_stream("/echo/Stream")(iter(outgoing.get, None)):
        if data == b"stop":
            os._exit(0)
        outgoing.put(data)


def server(keys: Path, devices: int, size: int, rounds: int) -> None:
    outgoing: list[queue.SimpleQueue[bytes]] = []
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()

    def stream(requests, context):
        mine: queue.SimpleQueue[bytes] = queue.SimpleQueue()

        def read() -> None:
            try:
                next(requests)
                outgoing.append(mine)
                for data in requests:
                    arrived.put(len(data))
            except grpc.RpcError:
                return

        threading.Thread(target=read, daemon=True).start()
        yield from iter(mine.get, None)

    made = grpc.server(futures.ThreadPoolExecutor(devices + 2), options=SETTINGS)
    methods = {"Stream": grpc.stream_stream_rpc_method_handler(stream)}
    made.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo", methods),))
    pair = ((keys / "server" / "server.key").read_bytes(), (keys / "server" / "server.crt").read_bytes())
    port = made.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    made.start()
    words = [sys.executable, __file__, "client", str(keys), str(port)]
    clients = [subprocess.Popen(words) for _ in range(devices)]
    while len(outgoing) < devices:
        time.sleep(0.01)
    data, times = os.urandom(size), []
    for _ in range(rounds):
        began = time.perf_counter()
        for one in outgoing:
            one.put(data)
        for _ in outgoing:
            arrived.get()
        times.append(time.perf_counter() - began)
    for one in outgoing:
        one.put(b"stop")
    print(json.dumps(times), flush=True)
    for process in clients:
        process.wait(timeout=20)
    os._exit(0)


if __name__ == "__main__":
    if sys.argv[1] == "client":
        client(Path(sys.argv[2]), sys.argv[3])
    else:
        server(Path(sys.argv[2]), *map(int, sys.argv[3:]))
