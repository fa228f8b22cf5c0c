"""Who may ask: tokens, hosts, origins, sizes, times; and what the answers and the log give away."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from studio_server import API, Limits, Settings, ask, problem

from pretune.cli import main
from pretune.errors import InputError
from pretune.studio.app import create_app
from pretune.studio.guard import COOKIE, Keys
from pretune.studio.serve import Wanted, server_config, settings_of

TOKEN = "correct-horse-battery-staple"
STATUS = f"{API}/status"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path)


@pytest.fixture
def locked(tmp_path: Path) -> Settings:
    return Settings(folder=tmp_path, host="0.0.0.0", token=TOKEN)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def wanted(tmp_path: Path, **changes: Any) -> Wanted:
    usual: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": 0,
        "folder": tmp_path / "runs",
        "scenario": None,
        "task_files": (),
        "token_file": None,
        "open_page": False,
        "log": False,
        "limits": Limits(),
    }
    return Wanted(**{**usual, **changes})


def test_a_token_is_needed_where_others_can_reach_it(tmp_path: Path) -> None:
    assert settings_of(wanted(tmp_path)).token is None
    for host in ("0.0.0.0", "192.168.1.7", "::"):
        token = settings_of(wanted(tmp_path, host=host)).token
        assert token is not None
        assert len(token) >= 40
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n", encoding="utf-8")
    assert settings_of(wanted(tmp_path, token_file=file)).token == TOKEN
    for bad in ("short", "", "with spaces in the middle", "ünprintable-but-long-enough"):
        file.write_text(bad, encoding="utf-8")
        with pytest.raises(InputError) as caught:
            settings_of(wanted(tmp_path, token_file=file))
        assert bad == "" or bad not in str(caught.value)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(""),
        bearer(TOKEN[:-1]),
        bearer(TOKEN + "x"),
        bearer("\xe9\xe9"),
        {"authorization": TOKEN},
        {"authorization": f"Basic {TOKEN}"},
        {"cookie": f"{COOKIE}=wrong"},
        {"cookie": f"{COOKIE}={TOKEN}"},
        {"cookie": ";;=;\x01"},
    ],
)
def test_a_wrong_token_gets_401(locked: Settings, headers: dict[str, str]) -> None:
    raw = [(key.encode(), value.encode("latin-1")) for key, value in headers.items()]
    for method, path in (("GET", STATUS), ("POST", f"{API}/plan"), ("GET", f"{API}/openapi.json"), ("GET", "/nowhere")):
        answer = ask(locked, method, path, headers=raw, json={} if method == "POST" else None)
        field, message = problem(answer, 401)
        assert field == "authorization"
        assert TOKEN not in message
        assert answer.headers["www-authenticate"] == "Bearer"


def test_the_right_token_or_its_cookie_gets_in(locked: Settings) -> None:
    keys = Keys(TOKEN)
    assert ask(locked, "GET", STATUS, headers=bearer(TOKEN)).status_code == 200
    assert ask(locked, "GET", STATUS, headers={"cookie": f"a=b; {COOKIE}={keys.cookie}"}).status_code == 200
    assert TOKEN not in keys.cookie


def test_the_page_itself_needs_no_token_and_holds_no_data(locked: Settings) -> None:
    answer = ask(locked, "GET", "/")
    assert answer.status_code == 200
    assert TOKEN not in answer.text
    assert ask(locked, "GET", "/static/index.html").status_code == 200


def test_a_login_code_works_once(locked: Settings) -> None:
    keys = Keys(TOKEN)
    code = keys.new_code(60.0)
    first = ask(locked, "GET", "/login", keys=keys, params={"code": code})
    assert first.status_code == 303
    assert first.headers["location"] == "/"
    cookie = first.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}={keys.cookie};")
    assert "httponly" in cookie.lower()
    assert "samesite=strict" in cookie.lower()
    for again in (code, "", "x" * 5000, keys.new_code(-1.0)):
        answer = ask(locked, "GET", "/login", keys=keys, params={"code": again})
        problem(answer, 401)
        assert "set-cookie" not in answer.headers


def test_a_page_can_log_in_with_the_token(locked: Settings) -> None:
    answer = ask(locked, "POST", "/login", headers=bearer(TOKEN))
    assert answer.status_code == 204
    assert COOKIE in answer.headers["set-cookie"]
    problem(ask(locked, "POST", "/login", headers=bearer("wrong")), 401)
    problem(ask(locked, "POST", "/login"), 401)


@pytest.mark.parametrize(
    ("host", "good"),
    [
        ("127.0.0.1:8765", True),
        ("localhost", True),
        ("LOCALHOST:80", True),
        ("[::1]:8765", True),
        ("rebound.example:8765", False),
        ("127.0.0.1.example", False),
        ("localhost.example", False),
        ("[::1", True),
        ("", False),
    ],
)
def test_on_loopback_only_names_of_this_machine_are_served(settings: Settings, host: str, good: bool) -> None:
    answer = ask(settings, "GET", STATUS, headers={"host": host})
    if good:
        assert answer.status_code == 200
    else:
        assert problem(answer, 403)[0] == "host"


@pytest.mark.parametrize(
    ("headers", "good"),
    [
        ({}, True),
        ({"origin": "http://127.0.0.1:80"}, True),
        ({"origin": "http://127.0.0.1:81"}, False),
        ({"origin": "http://evil.example"}, False),
        ({"origin": "null"}, False),
        ({"origin": "http://[bad"}, False),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site"}, False),
        ({"sec-fetch-site": "same-origin"}, True),
    ],
)
def test_other_sites_can_start_nothing(settings: Settings, headers: dict[str, str], good: bool) -> None:
    answer = ask(settings, "POST", f"{API}/plan", headers={"host": "127.0.0.1:80", **headers}, json={"nonsense": 1})
    assert problem(answer, 422 if good else 403)[0] == ("nonsense" if good else "origin")


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_can_start_nothing(settings: Settings, kind: str) -> None:
    """What a page elsewhere can send without asking first is not taken."""
    answer = ask(settings, "POST", f"{API}/runs", headers={"content-type": kind}, content=b"{}")
    assert problem(answer, 415)[0] == "content-type"


def test_cors_is_closed(settings: Settings) -> None:
    asked = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    for method, headers in (("OPTIONS", asked), ("GET", {"origin": "http://evil.example"})):
        answer = ask(settings, method, f"{API}/status", headers=headers)
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_body_that_is_too_long_gets_413(settings: Settings) -> None:
    most = settings.limits.body_bytes
    answer = ask(
        settings, "POST", f"{API}/plan", content=b" " * (most + 1), headers={"content-type": "application/json"}
    )
    assert problem(answer, 413)[0] == "body"

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(9):
            yield b" " * 2**20

    answer = ask(settings, "POST", f"{API}/plan", content=pieces(), headers={"content-type": "application/json"})
    assert problem(answer, 413)[0] == "body"


def test_a_body_that_does_not_come_gets_408(tmp_path: Path) -> None:
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": f"{API}/plan",
        "raw_path": b"",
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"10")],
    }

    async def never() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    app: Any = create_app(Settings(folder=tmp_path, limits=Limits(body_s=0.01)))
    asyncio.run(app(scope, never, send))
    assert [message.get("status") for message in sent if "status" in message] == [408]


def test_every_answer_has_the_headers_that_browsers_heed(settings: Settings) -> None:
    for path in ("/", STATUS, "/nowhere", "/static/index.html"):
        headers = ask(settings, "GET", path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "script-src 'self'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] in ("no-store", "no-cache")
        assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        f"{API}/runs/..",
        f"{API}/runs/%2e%2e",
        f"{API}/runs/..%2f..%2fetc/report",
        f"{API}/runs/.studio/result",
        f"{API}/runs/a%00b",
        f"{API}/runs/{'a' * 65}",
    ],
)
def test_paths_lead_nowhere_else(settings: Settings, path: str) -> None:
    answer = ask(settings, "GET", path)
    assert answer.status_code in (404, 422), answer.text
    problem(answer, answer.status_code)


def test_the_log_holds_no_secrets(locked: Settings) -> None:
    """Requests with the token, the cookie and a login code are logged without them."""
    lines: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    keys = Keys(TOKEN)
    config = server_config(locked, keys, log=True)
    config.lifespan = "off"  # no solvers are needed
    kept = Kept()
    for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "pretune.studio"):
        logging.getLogger(name).addHandler(kept)
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    code = keys.new_code(60.0)
    try:
        while not server.started:
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}", trust_env=False) as client:
            assert client.get(STATUS, headers=bearer(TOKEN)).status_code == 200
            assert client.get(f"/login?code={code}").status_code == 303
            assert client.get(STATUS).status_code == 200  # the cookie
            assert client.get(f"/login?code={TOKEN}").status_code == 401
    finally:
        server.should_exit = True
        thread.join(30)
        bound.close()
        for name in ("uvicorn", "uvicorn.access", "uvicorn.error", "pretune.studio"):
            logging.getLogger(name).removeHandler(kept)
    text = "\n".join(lines)
    assert "GET /login HTTP/1.1" in text
    assert text.count(STATUS) == 2
    for secret in (TOKEN, code, keys.cookie):
        assert secret not in text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--task-file", "none.py"], "pretune: --task-file: holds 'none.py', should hold a Python file that exists"),
        (["--token-file", "none"], "pretune: --token-file: none can't be read (No such file or directory)"),
        (["--scenario", "none.yaml"], "pretune: none.yaml: does not exist"),
        (["--host", "999.1.1.1"], "pretune: --host: 999.1.1.1:0 can't be used"),
    ],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    line: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["studio", "--no-open", "--port", "0", *options]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(line)


def test_the_operators_scenario_may_not_name_code_that_was_not_granted(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "own_task.yaml"
    with pytest.raises(InputError, match=r"task\.file.*--task-file"):
        settings_of(wanted(tmp_path, scenario=example))
    granted = settings_of(wanted(tmp_path, scenario=example, task_files=(example.with_name("own_task.py"),)))
    assert granted.first is not None
