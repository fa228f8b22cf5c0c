"""How long a federation takes to get over a fault: server and 4 devices as processes (400 kB, TLS).

    python benchmarks/recovery.py [--flower] [--json FILE]

Times are from the fault (or its end) to the end of the next round, or to the next round in which the device takes part,
as seen in the files of the run's folder. The deadline of a round is 1 s here (`patience.floor_s`). With `--flower` the
run is a Flower app, and the faults are those that only it has: its server process, and the server over it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import federation

from pretune.errors import InputError
from pretune.fieldbook import FieldRound, Standing, load_fieldbook

DEADLINE_S = 1.0


class Field:
    """The processes of a federation."""

    def __init__(self, folder: Path, mode: str) -> None:
        self.folder = folder
        federation._folder(folder, 4, 128, 100_000, mode)
        path = folder / "server.json"
        tree = json.loads(path.read_text())
        patience = {"floor_s": DEADLINE_S, "factor": 1.0}
        path.write_text(json.dumps({**tree, "patience": patience}))
        for k in range(4):
            device = folder / f"d{k}.json"
            device.write_text(json.dumps({**json.loads(device.read_text()), "actuator": {"use": "emulated"}}))
        self.server = self.start_server()
        self.devices = [self.start_device(k) for k in range(4)]

    def start_server(self) -> subprocess.Popen[bytes]:
        return federation._start("server", str(self.folder / "server.json"), "-q")

    def start_device(self, k: int) -> subprocess.Popen[bytes]:
        return federation._start("device", str(self.folder / f"d{k}.json"), "-q")

    def lines(self) -> list[FieldRound]:
        try:
            return list(load_fieldbook(self.folder / "run"))
        except InputError:
            return []

    def until(self, what: Callable[[list[FieldRound]], bool]) -> float:
        """Seconds until the rounds so far are as asked."""
        began = time.monotonic()
        while not what(self.lines()):
            if time.monotonic() - began > 120:
                raise SystemExit("no recovery within two minutes")
            time.sleep(0.005)
        return time.monotonic() - began

    def after(self, k: int, standing: Standing | None = None) -> Callable[[list[FieldRound]], bool]:
        """A round later than those now has ended; with `standing`, one in which device k stood so."""
        last = self.lines()[-1].round

        def seen(lines: list[FieldRound]) -> bool:
            later = [line for line in lines if line.round > last + 1]  # the one under way may have been done before
            return any(standing in (None, line.devices[k].standing) for line in later)

        return seen

    def close(self) -> None:
        self.server.terminate()  # not killed: it takes Flower's processes with it
        self.server.wait(timeout=60)
        for process in self.devices:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.devices:
            process.wait(timeout=60)


def measure(field: Field) -> dict[str, float]:
    """Each fault once."""
    found = {}
    field.until(lambda lines: len(lines) >= 10)

    def fault(name: str, act: Callable[[], object], k: int, standing: Standing | None = None) -> None:
        seen = field.after(k, standing)
        act()
        found[name] = field.until(seen)
        time.sleep(0.5)

    fault("nothing (two rounds)", lambda: None, 3)
    fault("device killed: next round done", lambda: os.kill(field.devices[3].pid, signal.SIGKILL), 3)
    field.devices[3].wait()

    def again() -> None:
        field.devices[3] = field.start_device(3)

    fault("device started again: takes part", again, 3, Standing.OK)
    fault("device frozen: next round done", lambda: os.kill(field.devices[2].pid, signal.SIGSTOP), 2)
    fault("device awake: takes part", lambda: os.kill(field.devices[2].pid, signal.SIGCONT), 2, Standing.OK)

    rounds = []

    def restart() -> None:
        os.kill(field.server.pid, signal.SIGKILL)
        field.server.wait()
        rounds.append(field.lines()[-1].round)
        field.server = field.start_server()

    fault("server killed and started: next round done", restart, 0)
    numbers = [line.round for line in field.lines()]
    assert numbers == list(range(1, len(numbers) + 1)), "a round is missing or there twice"
    fault("all four again after that", lambda: None, 3, Standing.OK)
    return found


def measure_flower(field: Field) -> dict[str, float]:
    """The faults of a Flower app, each once."""
    found = {}
    field.until(lambda lines: len(lines) >= 10)

    def fault(name: str, act: Callable[[], object]) -> None:
        began = time.monotonic()
        act()
        field.until(field.after(0))
        found[name] = time.monotonic() - began
        time.sleep(3.0)

    def app() -> None:
        state = json.loads((field.folder / "run.flower" / "serverapp.json").read_text())
        os.kill(state["pid"], signal.SIGKILL)

    def restart() -> None:
        field.server.kill()
        field.server.wait()
        time.sleep(2.0)  # rounds that were under way
        field.server = field.start_server()

    fault("app's server process killed: next rounds done", app)
    fault("server killed and started: next rounds done", restart)
    numbers = [line.round for line in field.lines()]
    assert numbers == list(range(1, len(numbers) + 1)), "a round is missing or there twice"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flower", action="store_true", help="as a Flower app")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        field = Field(Path(name) / "field", "flower" if given.flower else "direct")
        try:
            found = measure_flower(field) if given.flower else measure(field)
        finally:
            field.close()
    for name, seconds in found.items():
        print(f"{name:<45} {seconds:7.3f} s")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
