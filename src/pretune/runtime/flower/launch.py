"""Flower's SuperLink and SuperNode as processes of ours: TLS and node keys on, telemetry off, gone when we are.

They are run through Flower's own commands, which are its public interface for deployment.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretune.errors import InputError, MissingExtra, RunFailed
from pretune.runtime.federated.config import DeviceConfig, ServerConfig
from pretune.runtime.flower.program import write_program

CONFIG, DEVICE_CONFIG = "PRETUNE_SERVER_CONFIG", "device-config"
NODES, OUTCOME, PROCESS, LOG = "nodes.json", "outcome.json", "serverapp.json", "superlink.log"
OWNER = "PRETUNE_OWNER"
"""The process of `pretune server` or `pretune device` that everything else belongs to."""
CONNECTION = "pretune"
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
READY_S, COMMAND_S, LEFTOVERS_S = 90.0, 120.0, 15.0


def command(name: str) -> str:
    """Flower's command of this environment.

    Raises:
        MissingExtra: Flower is not installed.
    """
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise MissingExtra("flower", name)
    return str(path)


def environment(home: Path, **more: str) -> dict[str, str]:
    """What Flower's processes see: no telemetry, a home of their own, and each other on the path."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {**os.environ, **QUIET, "FLWR_HOME": str(home), "PATH": path, OWNER: str(os.getpid()), **more}


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody has at the moment."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        return int(listener.getsockname()[1])


@contextmanager
def superlink(config: ServerConfig) -> Iterator[subprocess.Popen[bytes]]:
    """A running SuperLink with its database in the run's state folder; it and its children are ended in the end.

    Raises:
        RunFailed: it ended at once, or does not listen; its log is named.
    """
    state, keys = config.state, config.keys.resolve()
    state.mkdir(parents=True, exist_ok=True)
    home = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = {json.dumps(f'{config.public_host}:{config.flower_port}')}\n"
        f"root-certificates = {json.dumps(str(keys / 'ca.crt'))}\n"
    )
    (state / "config.toml").write_text(home, encoding="utf-8")
    write_program(state / "app")
    words = [
        command("flower-superlink"),
        *("--host", config.host, "--port", str(config.flower_port)),
        *("--ssl-ca-certfile", str(keys / "ca.crt")),
        *("--ssl-certfile", str(keys / "server.crt"), "--ssl-keyfile", str(keys / "server.key")),
        *("--enable-supernode-auth", "--database", str(state / "state.db")),
        "--disable-runtime-dependency-installation",
    ]
    _wait_for_the_last_one(config)
    if _listens(config.host, config.flower_port):
        raise InputError.field("server.flower_port", config.flower_port, "a port that nothing else listens on")
    with open(state / LOG, "ab") as log:
        process = _start(words, environment(state.resolve(), **{CONFIG: str(config.path)}), log)
    try:
        until = time.monotonic() + READY_S
        while not _listens(config.host, config.flower_port):
            if process.poll() is not None or time.monotonic() > until:
                raise RunFailed(f"Flower's SuperLink does not start; its log is {state / LOG}")
            time.sleep(0.1)
        yield process
    finally:
        end(process)


def register(config: ServerConfig, names: Sequence[str]) -> dict[str, int]:
    """Make the devices' keys known to the SuperLink; returns the node of each device that has one.

    What was registered before is kept in the state folder beside the SuperLink's own database.

    Raises:
        RunFailed: the SuperLink refuses.
    """
    target = config.state / NODES
    known: dict[str, dict[str, Any]] = json.loads(target.read_text(encoding="utf-8")) if target.is_file() else {}
    for name in names:
        path = config.keys / "devices" / f"{name}.pub"
        if not path.is_file():
            continue
        key = path.read_text(encoding="utf-8").split()[1]
        if known.get(name, {}).get("key") == key:
            continue
        words = ["supernode", "register", str(path.resolve()), CONNECTION, "--name", name, "--format", "json"]
        answer = flwr(config.state, words)
        node = answer.get("node-id")
        if node is None:
            raise RunFailed(f"Flower does not register {name}: {str(answer)[:200]}")
        known[name] = {"key": key, "node": int(node)}
        part = target.with_name(target.name + ".part")
        part.write_text(json.dumps(known), encoding="utf-8")
        os.replace(part, target)
    return {name: int(entry["node"]) for name, entry in known.items()}


def submit(config: ServerConfig) -> int:
    """Start the app; returns Flower's number of the run.

    Raises:
        RunFailed: the SuperLink refuses.
    """
    for name in (OUTCOME, PROCESS):
        (config.state / name).unlink(missing_ok=True)
    answer = flwr(config.state, ["run", str((config.state / "app").resolve()), CONNECTION, "--format", "json"])
    if not answer.get("success") or "run-id" not in answer:
        raise RunFailed(f"Flower does not start the run: {str(answer)[:300]}")
    return int(answer["run-id"])


def flwr(state: Path, words: Sequence[str]) -> Mapping[str, Any]:
    """The JSON that one of Flower's commands answers with.

    Raises:
        RunFailed: it failed, or answers with something else.
    """
    try:
        done = subprocess.run(
            [command("flwr"), *words],
            env=environment(state.resolve()),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        start = done.stdout.find("{")
        tree = json.loads(done.stdout[start:]) if start >= 0 else None
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise RunFailed(f"flwr {words[0]}: no answer that can be read ({type(error).__name__})") from None
    if not isinstance(tree, dict):
        said = " ".join((done.stderr or done.stdout).split())
        raise RunFailed(f"flwr {words[0]} failed: {said[-300:]}")
    return tree


def outcome(config: ServerConfig) -> Mapping[str, Any] | None:
    """How the app's server end ended; None while it runs, or has not begun."""
    try:
        tree = json.loads((config.state / OUTCOME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def serverapp_pid(config: ServerConfig) -> int | None:
    """The process of the app's server end, once it has begun."""
    try:
        return int(json.loads((config.state / PROCESS).read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return True


@contextmanager
def supernode(config: DeviceConfig) -> Iterator[subprocess.Popen[bytes]]:
    """A running SuperNode with the device's key; it and its children are ended in the end.

    Raises:
        InputError: a key is missing.
    """
    config.roots()
    home = config.keys / "flower"
    home.mkdir(parents=True, exist_ok=True)
    words = [
        command("flower-supernode"),
        *("--superlink", f"{config.host}:{config.flower_port}"),
        *("--root-certificates", str((config.keys / "ca.crt").resolve())),
        *("--auth-supernode-private-key", str((config.keys / "device.key").resolve())),
        *("--host", "127.0.0.1", "--port", str(free_port())),
        *("--node-config", f"{DEVICE_CONFIG}={json.dumps(str(config.path))}"),
        *("--max-wait-time", f"{config.patience_s:g}"),
    ]
    with open(home / "supernode.log", "ab") as log:
        process = _start(words, environment(home.resolve()), log)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process and its children to stop, and see to it that they do."""
    for number, wait_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=wait_s)
    process.wait()


def _start(words: Sequence[str], env: Mapping[str, str], log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        words,
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509  it calls one system call and no Python of ours
    )


def _die_with_parent() -> None:
    """Linux: be killed when whoever started us is gone, even by kill -9 (prctl PR_SET_PDEATHSIG)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def die_with_owner() -> None:
    """In a process that Flower started for us: end when the command that all belongs to is gone, within a second."""
    owner = int(os.environ.get(OWNER, "0"))

    def watch() -> None:
        while alive(owner):
            time.sleep(0.5)
        os._exit(1)

    if owner:
        threading.Thread(target=watch, daemon=True).start()


def _wait_for_the_last_one(config: ServerConfig) -> None:
    """A server that was killed a moment ago: what is left of it ends by itself, which takes a second or two."""
    until = time.monotonic() + LEFTOVERS_S
    while time.monotonic() < until:
        pid = serverapp_pid(config)
        if (pid is None or not alive(pid)) and not _listens(config.host, config.flower_port):
            return
        time.sleep(0.1)


def _listens(host: str, port: int) -> bool:
    target = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    with contextlib.suppress(OSError), socket.create_connection((target, port), timeout=1.0):
        return True
    return False
