"""A plan over links as slow as it says: server and devices in network namespaces, links shaped by tc.

    python benchmarks/emulated_radio.py [--rounds 60] [--json FILE]        (root on Linux)

Each device has a link of its own to the server: the uplink a token bucket (tbf) at the rate of the plan's power and
bandwidth, the downlink at the rate of the broadcast (one multicast of the plan is one transmission for each here).
Devices compute on this machine and take as long as the plan's clock would (actuator `emulated`).

What the cost model leaves out is measured first, by a short run over *other* rates with a model of another size:

    round = planned + a + h * (t_broadcast + t_upload)

`h` is the share of bytes that are not payload (TCP/IP and Ethernet headers, TLS records, HTTP/2 and gRPC framing, the
headers of our frames), `a` the seconds a round has beside (waking up, packing, checking, combining). They are fitted to
the medians of two calibration runs and then used, unchanged, on the plan's own run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pretune.fieldbook import load_fieldbook
from pretune.physics import cost
from pretune.plans import FinetuneStage, Plan, PretrainStage, Status
from pretune.runtime.task import Samples, Task
from pretune.scenario import Scenario

HERE = Path(__file__).resolve()
NET = "10.87"
TRIAL = "qdisc add dev lo root tbf rate 1mbit burst 3000 limit 100000"
TBF = "burst 3200 limit 20000000"
HEADERS = 0.0474
"""`h` as measured on 2026-11-22 with 407 kB (TCP/IP and Ethernet headers alone are 66 / 1448 = 0.0456)."""


def make_task(hidden: int = 128, devices: int = 4) -> Task:
    """Random data of MNIST's shape, 100 samples a device; the MLP 784-hidden-10."""
    generator = torch.Generator().manual_seed(0)

    def samples(n: int) -> Samples:
        y = torch.randint(0, 10, (n,), generator=generator)
        return Samples(x=torch.randn(n, 784, generator=generator), y=y)

    def model(given: torch.Generator) -> nn.Module:
        made = nn.Sequential(nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10))
        for part in made.parameters():
            nn.init.normal_(part, std=0.02, generator=given)
        return made

    parts = tuple(np.arange(100 * k, 100 * (k + 1)) for k in range(devices))
    return Task(
        name="random",
        model=model,
        general=samples(100),
        train=samples(100 * devices),
        test=samples(100),
        parts=parts,
    )


def make_scenario(rates_bps: list[float], hidden: int, broadcast_bps: float) -> Scenario:
    """A fleet whose half power gives these uplink rates, and a server whose broadcast has that one."""
    bits = 32.0 * (784 * hidden + hidden + 10 * hidden + 10)
    noise, bandwidth = 4e-21, 1e6

    def gain(rate: float, power: float, width: float) -> float:
        return float(noise * width / power * np.expm1(np.log(2) * rate / width))

    devices = [
        {
            "name": f"d{k}",
            "capacitance": 1e-28,
            "flops_per_cycle": 2,
            "max_clock_hz": 1e9,
            "max_power_w": 0.2,
            "bandwidth_hz": bandwidth,
            "gain": gain(rate, 0.1, bandwidth),
            "samples": 100,
        }
        for k, rate in enumerate(rates_bps)
    ]
    worst = min(device["gain"] for device in devices)
    # the broadcast's power follows from the rate wanted at the worst device
    power = noise * 2e7 / worst * np.expm1(np.log(2) * broadcast_bps / 2e7)
    return Scenario(
        name="emulated",
        workload={"flops_per_sample": 6.0 * bits / 32, "upload_bits": bits, "download_bits": bits},
        server={
            "capacitance": 1e-27,
            "flops_per_cycle": 512,
            "max_clock_hz": 1.5e9,
            "samples": 100,
            "transmit_power_w": float(power),
        },
        radio={"access": "fdma", "noise_psd_w_per_hz": noise, "broadcast_bandwidth_hz": 2e7},
        devices=devices,
        budget={"energy_j": 1e6, "delay_s": 1e6},
        convergence={
            "smoothness": 5.0,
            "initial_gap": 2.3,
            "shift": 1.0,
            "pretrain_step": 0.1,
            "finetune_step": 0.05,
            "pretrain_variance": 20.0,
            "finetune_variance": 20.0,
        },
        task={"file": str(HERE), "function": "make_task", "hidden": hidden, "devices": len(rates_bps)},
    )


def make_plan(scenario: Scenario, rounds: int) -> Plan:
    """Half clocks, half powers, batches of 20 to 50, no slack: what is planned is the physics."""
    fleet = scenario.devices
    batch = np.linspace(20, 50, len(fleet)).astype(np.int64)
    two = cost.finetune_round(scenario, batch.astype(float), fleet.max_clock_hz / 2, fleet.max_power_w / 2)
    return Plan(
        status=Status.FEASIBLE,
        criterion="trajectory",
        scenario_sha256=scenario.sha256,
        pretrain=PretrainStage(rounds=0, batch=0, clock_hz=0.0, round_s=0.0),
        finetune=FinetuneStage(
            rounds=rounds,
            round_s=two.time_s,
            names=tuple(fleet.names),
            batch=batch,
            clock_hz=fleet.max_clock_hz / 2,
            power_w=fleet.max_power_w / 2,
            upload_s=two.upload_s,
        ),
        objective=1.0,
        lower_bound=0.5,
        relative_gap=0.5,
        energy_j=rounds * two.energy_j,
        delay_s=rounds * two.time_s,
        message="made by hand",
    )


def why_not() -> str | None:
    """Why links can't be shaped here, None if they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "needs the commands ip and tc (iproute2)"
    name = f"pt{os.getpid()}t"
    try:
        _sh("ip", "netns", "add", name)
        _sh("ip", "netns", "exec", name, "tc", *TRIAL.split())
    except subprocess.CalledProcessError as error:
        return f"this kernel does not let links be shaped ({error.stderr.strip()[:100]})"
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    return None


class Links:
    """A namespace for the server and one for each device (or one for all, each with its own link)."""

    def __init__(self, up_bps: list[float], down_bps: float, *, together: bool) -> None:
        tag = f"pt{os.getpid()}"
        self.server = f"{tag}s"
        self.devices = [f"{tag}d" if together else f"{tag}d{k}" for k in range(len(up_bps))]
        self._all = [self.server, *dict.fromkeys(self.devices)]
        try:
            for name in self._all:
                _sh("ip", "netns", "add", name)
                _sh("ip", "-n", name, "link", "set", "lo", "up")
            for k, (name, rate) in enumerate(zip(self.devices, up_bps, strict=True)):
                here, there = f"s{k}", f"d{k}"
                _sh(*f"ip link add {here} netns {self.server} type veth peer name {there} netns {name}".split())
                for space, link, last, bps in ((self.server, here, 1, down_bps), (name, there, 2, rate)):
                    _sh(*f"ip -n {space} addr add {NET}.{k}.{last}/24 dev {link}".split())
                    _sh(*f"ip -n {space} link set {link} up".split())
                    _sh(*f"tc -n {space} qdisc add dev {link} root tbf rate {bps:.0f}bit".split(), *TBF.split())
        except BaseException:
            self.close()
            raise

    def hosts(self) -> list[str]:
        return [f"{NET}.{k}.1" for k in range(len(self.devices))]

    def close(self) -> None:
        for name in self._all:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def carry_out(scenario: Scenario, rounds: int, folder: Path, *, together: bool) -> list[float]:
    """Run a plan over shaped links; the measured seconds of its rounds."""
    from pretune.runtime.federated.keys import enroll

    plan = make_plan(scenario, rounds)
    piece = plan.finetune
    two = cost.finetune_round(scenario, piece.batch.astype(float), piece.clock_hz, piece.power_w)
    folder.mkdir(parents=True)
    (folder / "scenario.json").write_text(json.dumps(scenario.to_dict()))
    plan.save(folder / "plan.json")
    up = (scenario.workload.upload_bits / two.upload_s).tolist()
    links = Links(up, scenario.workload.download_bits / two.broadcast.time_s, together=together)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        enroll(folder / "keys", links.hosts(), scenario.devices.names)
        common = {"scenario": "scenario.json", "mode": "direct", "port": 9443}
        server = {**common, "plan": "plan.json", "out": "run", "keys": "keys/server", "host": "0.0.0.0"}
        (folder / "server.json").write_text(json.dumps({**server, "public_host": links.hosts()[0]}))
        processes.append(_start(links.server, "server", folder / "server.json"))
        files = []
        for name, host in zip(scenario.devices.names, links.hosts(), strict=True):
            files.append(folder / f"{name}.json")
            tree = {
                **common,
                "name": name,
                "keys": f"keys/devices/{name}",
                "host": host,
                "actuator": {"use": "emulated"},
            }
            files[-1].write_text(json.dumps(tree))
        if together:
            processes.append(_start(links.devices[0], "devices", *files))
        else:
            processes += [_start(name, "devices", file) for name, file in zip(links.devices, files, strict=True)]
        code = processes[0].wait(timeout=600)
        if code != 0:
            raise SystemExit(f"the server ended with code {code}")
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()
        links.close()
    lines = load_fieldbook(folder / "run")
    assert all(len(line.answered) == len(scenario.devices) for line in lines), "somebody was missing in a round"
    return [line.measured_s for line in lines]


def terms(scenario: Scenario) -> tuple[float, float]:
    """The planned round and its part on the links, in seconds (of the device that the round waits for)."""
    piece = make_plan(scenario, 1).finetune
    two = cost.finetune_round(scenario, piece.batch.astype(float), piece.clock_hz, piece.power_w)
    slowest = int((two.compute_s + two.upload_s).argmax())
    return two.time_s, two.broadcast.time_s + float(two.upload_s[slowest])


def compare(folder: Path, rounds: int, *, together: bool, quick: bool) -> dict[str, float]:
    """Calibrate the overhead on other settings, then run the plan: all figures in seconds.

    `quick`: a small model, and `h` is taken as HEADERS, so that one calibration run is enough.
    """
    rates = [2e6, 2.5e6, 3e6, 4e6] if quick else [8e6, 10e6, 12e6, 16e6]
    hidden, down = (8, 10e6) if quick else (128, 20e6)
    small = make_scenario([1.5 * rate for rate in rates], hidden // 4, 1.5 * down)
    # a small model on quick links, where `a` counts, and a larger one, where `h` does
    settings = (small,) if quick else (small, make_scenario([0.7 * rate for rate in rates], hidden, 0.7 * down))
    points = []
    for k, setting in enumerate(settings):
        measured = carry_out(setting, max(12, rounds // 4), folder / f"calibration-{k}", together=together)
        planned, air = terms(setting)
        points.append((air, statistics.median(measured[2:]) - planned))
    air, extra = points[0]
    h = HEADERS if quick else (points[1][1] - extra) / (points[1][0] - air)
    a = extra - h * air
    scenario = make_scenario(rates, hidden, down)
    measured = carry_out(scenario, rounds, folder / "plan", together=together)
    planned, air = terms(scenario)
    median = statistics.median(measured)
    expected = planned + a + h * air
    return {
        "rounds": len(measured),
        "devices": len(rates),
        "model_bytes": scenario.workload.upload_bits / 8,
        "overhead_a_s": a,
        "overhead_h": h,
        "planned_round_s": planned,
        "expected_round_s": expected,
        "measured_median_s": median,
        "measured_p95_s": sorted(measured)[int(0.95 * len(measured))],
        "error_bare": median / planned - 1.0,
        "error_with_overhead": median / expected - 1.0,
    }


def _sh(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, text=True)


def _start(space: str, end: str, *files: Path) -> subprocess.Popen[bytes]:
    words = ["ip", "netns", "exec", space, sys.executable, str(HERE), "--end", end, *map(str, files)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)


def _end(end: str, files: list[Path]) -> None:
    """One end, inside its namespace."""
    import threading

    torch.set_num_threads(1)
    if end == "server":
        from pretune.runtime.federated.config import load_server_config
        from pretune.runtime.federated.serve import carry_out as serve
        from pretune.runtime.federated.serve import read_errand, streams_of

        errand = read_errand(load_server_config(files[0]))
        serve(errand, streams_of(errand))
        return
    from pretune.runtime.federated.config import load_device_config
    from pretune.runtime.federated.device import run_device

    # the first import of everything, before the threads
    configs = [load_device_config(file) for file in files]
    threads = [threading.Thread(target=run_device, args=(config, lambda line: None)) for config in configs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a small model, as in the test")
    parser.add_argument("--end", choices=["server", "devices"], help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.end:
        _end(given.end, given.files)
        return
    why = why_not()
    if why is not None:
        raise SystemExit(f"emulated radio: {why}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = compare(Path(folder), given.rounds, together=given.quick, quick=given.quick)
    for key, value in found.items():
        print(f"{key:>22} {value:.5g}")
    print(f"{'took':>22} {time.monotonic() - began:.0f} s on {socket.gethostname() and os.cpu_count()} cores")
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
