"""A studio for tests: the real server in a thread, on a port of the system's, asked over real connections."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from pretune.studio.app import create_app
from pretune.studio.guard import Keys
from pretune.studio.serve import server_config
from pretune.studio.settings import Limits, Settings

API = "/api/v1"


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A running studio; `client` sends nothing but what it is told to."""

    url: str
    client: httpx.Client
    settings: Settings
    keys: Keys

    def post(self, path: str, body: Any = None, **more: Any) -> httpx.Response:
        return self.client.post(API + path, json={} if body is None else body, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.client.get(API + path, **more)

    def example(self, name: str, **changes: Any) -> str:
        """The id of an example's scenario."""
        answer = self.post("/scenario", {"example": name, "changes": changes or None})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["scenario_id"])


@contextmanager
def serving(folder: Path, *, log: bool = False, **changes: Any) -> Iterator[Studio]:
    """A studio over `folder`; `changes` are settings, `limits` among them."""
    settings = Settings(folder=folder, **{"solvers": 1, **changes})
    keys = Keys(settings.token)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(64)  # connections wait, rather than be refused, until the server is up
    server = uvicorn.Server(server_config(settings, keys, log=log))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{bound.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, trust_env=False, timeout=600) as client:
            yield Studio(url=url, client=client, settings=settings, keys=keys)
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()


def ask(settings: Settings, method: str, path: str, *, keys: Keys | None = None, **more: Any) -> httpx.Response:
    """One request to a studio that is not served, so has no solvers: for what is refused before they are asked."""

    async def one() -> httpx.Response:
        transport = httpx.ASGITransport(app=create_app(settings, keys), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:80") as client:
            return await client.request(method, path, **more)

    return asyncio.run(one())


def problem(answer: httpx.Response, status: int) -> tuple[str, str]:
    """The field and the message of a refusal, whose form is looked at."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert set(error) == {"field", "message", "problems"}
    assert error["message"]
    assert "\n" not in error["message"]
    return error["field"], error["message"]


__all__ = ["API", "Limits", "Settings", "Studio", "ask", "problem", "serving"]
