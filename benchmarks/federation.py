"""What a federated round costs beyond computing and the link, and how long a whole run takes: in one command.

    python benchmarks/federation.py [--only streams,submit,messages,nvflare] [--nvflare VENV] [--json FILE]

streams    4 devices with models of 400 kB, 16 devices with 2.5 MB: processes of their own, TLS on loopback. A round,
           from its beginning to that of the next (stepping, evaluating, checkpointing included): the whole; less the
           slowest device's computing; and less the link, which is what moving the same bytes there and back takes
           over bare gRPC streams with TLS between as many processes on the same machine.
submit     300 rounds of 4 devices from `flwr run` to the result, SuperLink and SuperNodes being there.
messages   the same app over stock Flower messages (mode `messages`), a few rounds.
nvflare    the cell network that carries NVFlare's aux messages, gRPC, in a venv of its own (--nvflare); told if absent.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import emulated_radio as radio

from pretune.fieldbook import load_fieldbook
from pretune.runtime.federated.config import load_server_config
from pretune.runtime.federated.keys import enroll
from pretune.runtime.federated.serve import read_errand

HERE = Path(__file__).resolve().parent
COMMAND = "import sys; from pretune.cli import main; sys.exit(main())"


def _folder(folder: Path, devices: int, hidden: int, rounds: int, mode: str) -> None:
    """Scenario, plan, keys and configurations of a federation on loopback."""
    from pretune.runtime.flower.launch import free_port

    scenario = radio.make_scenario([1e7] * devices, hidden, 1e7)
    folder.mkdir(parents=True)
    (folder / "scenario.json").write_text(json.dumps(scenario.to_dict()))
    radio.make_plan(scenario, rounds).save(folder / "plan.json")
    enroll(folder / "keys", ["localhost"], scenario.devices.names)
    common = {"scenario": "scenario.json", "mode": mode, "port": free_port(), "flower_port": free_port()}
    server = {**common, "plan": "plan.json", "out": "run", "keys": "keys/server"}
    (folder / "server.json").write_text(json.dumps(server))
    for name in scenario.devices.names:
        tree = {**common, "name": name, "keys": f"keys/devices/{name}"}
        (folder / f"{name}.json").write_text(json.dumps(tree))


def _start(*words: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-c", COMMAND, *words], env=env, stdout=subprocess.DEVNULL)


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def link(devices: int, size: int, rounds: int) -> list[float]:
    """Seconds to send `size` bytes to so many processes and back, bare gRPC streams over TLS."""
    with tempfile.TemporaryDirectory() as name:
        enroll(Path(name), ["localhost"], ["d0"])
        words = [sys.executable, str(HERE / "echo_link.py"), "server", name, str(devices), str(size), str(rounds)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def streams(devices: int, hidden: int, rounds: int) -> dict[str, float]:
    """The overhead of a round with everything that a run does."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "field"
        _folder(folder, devices, hidden, rounds, "direct")
        ends = [_start("device", str(folder / f"d{k}.json"), "-q") for k in range(devices)]
        try:
            server = _start("server", str(folder / "server.json"), "-q")
            ends.append(server)
            if server.wait(timeout=600) != 0:
                raise SystemExit("the server failed")
        finally:
            _stop(ends)
        lines = load_fieldbook(folder / "run")
    assert all(len(line.answered) == devices for line in lines)
    lines = lines[5:]
    size = lines[0].devices[0].bytes_up
    bare = statistics.median(link(devices, size, 60 if size < 1e6 else 25)[3:])
    period = [late.began_s - early.began_s for early, late in pairwise(lines)]
    compute = [max(device.compute_s or 0.0 for device in line.devices) for line in lines[:-1]]
    beyond = [whole - own for whole, own in zip(period, compute, strict=True)]
    return {
        "devices": devices,
        "bytes": size,
        "rounds": len(lines),
        "round_ms": 1e3 * statistics.median(period),
        "compute_ms": 1e3 * statistics.median(compute),
        "beyond_compute_ms": 1e3 * statistics.median(beyond),
        "beyond_compute_p95_ms": 1e3 * sorted(beyond)[int(0.95 * len(beyond))],
        "link_ms": 1e3 * bare,
        "overhead_ms": 1e3 * (statistics.median(beyond) - bare),
        "overhead_p95_ms": 1e3 * (sorted(beyond)[int(0.95 * len(beyond))] - bare),
    }


def through_flower(mode: str, rounds: int) -> dict[str, float]:
    """From `flwr run` to the result with 4 devices that are enrolled and online; and the rounds' own times."""
    from pretune.runtime.flower import launch

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "field"
        _folder(folder, 4, 128, rounds, mode)
        config = load_server_config(folder / "server.json")
        errand = read_errand(config)
        ends: list[subprocess.Popen[bytes]] = []
        try:
            with launch.superlink(config):
                launch.register(config, errand.scenario.devices.names)
                ends = [_start("device", str(folder / f"d{k}.json"), "-q") for k in range(4)]
                time.sleep(20)  # SuperNodes are there
                began = time.monotonic()
                launch.submit(config)
                submitted = time.monotonic()
                while launch.outcome(config) is None:
                    if time.monotonic() - began > 900:
                        raise SystemExit("no result")
                    time.sleep(0.05)
                ended = time.monotonic()
                if not launch.outcome(config)["ok"]:
                    raise SystemExit(f"the run failed: {launch.outcome(config)}")
        finally:
            _stop(ends)
        lines = load_fieldbook(folder / "run")
    period = [late.began_s - early.began_s for early, late in pairwise(lines)]
    return {
        "rounds": len(lines),
        "answers": sum(len(line.answered) for line in lines),
        "submit_to_result_s": ended - began,
        "of_it_flwr_run_s": submitted - began,
        "first_to_last_round_s": lines[-1].began_s + lines[-1].measured_s - lines[0].began_s,
        "round_ms": 1e3 * statistics.median(period or [line.measured_s for line in lines]),
    }


def nvflare(venv: Path | None) -> dict[str, object]:
    """NVFlare's cells: server and 4 clients, 400 kB there and back in one request to all."""
    python = None if venv is None else venv / "bin" / "python"
    if python is None or not python.is_file():
        return {"absent": "give --nvflare VENV, a virtual environment with nvflare"}
    words = [str(python), str(HERE / "nvflare_cells.py"), "4", "407000", "60"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        return {"failed": done.stderr[-500:]}
    times = json.loads(done.stdout.splitlines()[-1])[3:]
    return {
        "devices": 4,
        "bytes": 407000,
        "round_ms": 1e3 * statistics.median(times),
        "p95_ms": 1e3 * sorted(times)[int(0.95 * len(times))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="streams,submit,messages,nvflare")
    parser.add_argument("--nvflare", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    parts = {
        "streams": lambda: [streams(4, 128, 200), streams(16, 790, 40)],
        "submit": lambda: through_flower("flower", 300),
        "messages": lambda: through_flower("messages", 5),
        "nvflare": lambda: nvflare(given.nvflare),
    }
    found = {}
    for name in given.only.split(","):
        found[name] = parts[name]()
        for row in found[name] if isinstance(found[name], list) else [found[name]]:
            words = [
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            ]
            print(f"{name}: " + ", ".join(words), flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
