"""`pretune studio`: the settings from the options, the address for people, and the server until Ctrl-C."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from pretune.errors import InputError
from pretune.scenario import load_scenario
from pretune.studio.app import create_app
from pretune.studio.guard import Keys
from pretune.studio.intake import checked
from pretune.studio.settings import Limits, Settings
from pretune.studio.store import Store

LOGIN_S = 3600.0
"""How long the link of the terminal is good for one login."""
SHORTEST_TOKEN = 16


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the command line asked for."""

    host: str
    port: int
    folder: Path
    scenario: Path | None
    task_files: tuple[Path, ...]
    token_file: Path | None
    open_page: bool
    log: bool
    limits: Limits


def run_studio(wanted: Wanted) -> int:
    """Serve until interrupted."""
    settings = settings_of(wanted)
    keys = Keys(settings.token)
    bound = _bound(settings)
    host, port = bound.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    link = f"{address}login?code={keys.new_code(LOGIN_S)}" if keys.needed else address
    print(f"pretune studio: {link}")
    if keys.needed:
        print("The link logs one browser in, once, within an hour.")
        if wanted.token_file is None:
            print(f"Token for other browsers and scripts: {settings.token}")
    print("Ctrl-C ends it; runs go on.", flush=True)
    server = uvicorn.Server(server_config(settings, keys, log=wanted.log))
    if wanted.open_page and _has_screen():
        threading.Timer(1.0, webbrowser.open, (link,)).start()
    server.run(sockets=[bound])
    return 0


def server_config(settings: Settings, keys: Keys, *, log: bool) -> uvicorn.Config:
    """How uvicorn serves the studio; its access log, if wanted, holds no queries, so no login codes."""
    logging.getLogger("uvicorn.access").addFilter(without_query)
    return uvicorn.Config(
        create_app(settings, keys),
        log_level="info" if log else "warning",
        access_log=log,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=2,
        limit_concurrency=500,
        ws="none",
    )


def without_query(record: logging.LogRecord) -> bool:
    """Cut the query off the path in a line of uvicorn's access log."""
    if isinstance(record.args, tuple) and len(record.args) == 5:
        client, method, path, version, status = record.args
        record.args = (client, method, str(path).partition("?")[0], version, status)
    return True


def settings_of(wanted: Wanted) -> Settings:
    """The settings, with everything refused that can't be used.

    Raises:
        InputError: a file or folder can't be used, or a token is no token.
    """
    for path in wanted.task_files:
        if path.suffix != ".py" or not path.is_file():
            raise InputError.field("--task-file", str(path), "a Python file that exists")
    try:
        wanted.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--folder: {wanted.folder} can't be made ({error.strerror})") from None
    settings = Settings(
        folder=wanted.folder.resolve(),
        host=wanted.host,
        port=wanted.port,
        token=None,
        task_files=tuple(path.resolve() for path in wanted.task_files),
        limits=wanted.limits,
    )
    if wanted.token_file is not None:
        settings = replace(settings, token=_token_in(wanted.token_file))
    elif not settings.loopback:
        settings = replace(settings, token=secrets.token_urlsafe(32))
    if wanted.scenario is not None:
        settings = replace(settings, first=_kept(wanted.scenario, settings))
    return settings


def _token_in(path: Path) -> str:
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--token-file: {path} can't be read ({getattr(error, 'strerror', None) or 'no text'})"
        ) from None
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable() and " " not in token):
        should = f"a token of at least {SHORTEST_TOKEN} printable characters without spaces"
        raise InputError(f"--token-file: {path} holds no token, should hold {should}")
    return token


def _kept(path: Path, settings: Settings) -> str:
    """The operator's own scenario, whose fleet file is read here; its task may name the task files alone."""
    scenario = load_scenario(path)
    tree = checked(scenario.to_dict(), most_devices=settings.limits.devices, task_files=settings.task_files)
    return Store(folder=settings.own / "scenarios", most=settings.limits.scenarios).save(tree, scenario.defaults)


def _bound(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
        bound.listen(128)  # whoever asks before the server is up waits for it
    except OSError as error:
        bound.close()
        option = "--host" if isinstance(error, socket.gaierror) else "--port"
        raise InputError(f"{option}: {settings.host}:{settings.port} can't be used ({error.strerror})") from None
    return bound


def _has_screen() -> bool:
    """Whether there is a desktop to open a browser on: a browser in the terminal helps nobody."""
    return sys.platform in ("win32", "darwin") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
