"""What the studio holds: plans per second at a hundred devices, and how long each takes, from a generator beside it.

    python benchmarks/studio_load.py [--seconds 10] [--clients 1 2 4 8] [--json]

A studio of its own is started (two solver processes). Each client keeps one connection and drags: a budget walks up
and down by some percent, and the next plan is asked for when the last one is there. The generator runs on the same
machine and takes its share of the cores.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

WALK = 0.03
EXAMPLE, DEVICES = "campus", 100


@contextmanager
def studio() -> Iterator[str]:
    """A studio on a free port; gives its address once its solvers are ready."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "pretune", "studio", "--no-open", "--port", "0", "--folder", folder]
        child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        try:
            assert child.stdout is not None
            url = child.stdout.readline().split()[-1].rstrip("/") + "/api/v1"
            while not httpx.get(f"{url}/status", trust_env=False).json()["ready"]:
                time.sleep(0.2)
            yield url
        finally:
            child.terminate()
            child.wait()


def drag(url: str, key: str, seed: int, until: float, tolerance: float, took: list[float], bad: list[int]) -> None:
    """One client."""
    rng, energy, delay = random.Random(seed), 3000.0, 1200.0
    with httpx.Client(trust_env=False, timeout=120) as client:
        while time.perf_counter() < until:
            energy = min(max(energy * math.exp(rng.uniform(-WALK, WALK)), 600.0), 15000.0)
            delay = min(max(delay * math.exp(rng.uniform(-WALK, WALK)), 240.0), 6000.0)
            body = {"scenario_id": key, "energy_j": energy, "delay_s": delay, "tolerance": tolerance}
            began = time.perf_counter()
            answer = client.post(f"{url}/plan", json=body)
            took.append(time.perf_counter() - began)
            if answer.status_code != 200 or not answer.json()["has_plan"]:
                bad.append(answer.status_code)


def load(url: str, clients: int, seconds: float, tolerance: float) -> dict[str, Any]:
    """So many clients for so long."""
    key = httpx.post(f"{url}/scenario", json={"example": EXAMPLE}, trust_env=False, timeout=60).json()["scenario_id"]
    warm: list[float] = []
    drag(url, key, 99, time.perf_counter() + 1.0, tolerance, warm, [])
    took: list[float] = []
    bad: list[int] = []
    began = time.perf_counter()
    threads = [
        threading.Thread(target=drag, args=(url, key, seed, began + seconds, tolerance, took, bad))
        for seed in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    median, p95 = np.quantile(took, [0.5, 0.95])
    return {
        "clients": clients,
        "tolerance": tolerance,
        "plans": len(took),
        "not_answered": len(bad),
        "plans_per_s": round(len(took) / wall, 1),
        "median_ms": round(1e3 * float(median), 1),
        "p95_ms": round(1e3 * float(p95), 1),
        "max_ms": round(1e3 * max(took), 1),
    }


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--tolerances", type=float, nargs="+", default=[0.01, 0.001])
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with studio() as url:
        rows = [load(url, c, wanted.seconds, t) for t in wanted.tolerances for c in wanted.clients]
    found = {"devices": DEVICES, "cores": os.cpu_count(), "load_before": os.getloadavg()[2], "rows": rows}
    if wanted.json:
        print(json.dumps(found, indent=1))
        return
    print(
        f"{DEVICES} devices, {found['cores']} cores, generator on the same machine; "
        f"load of 15 min before: {found['load_before']:.1f}"
    )
    heads = ("clients", "tolerance", "plans", "plans_per_s", "median_ms", "p95_ms", "max_ms", "not_answered")
    print("".join(f"{head:>13}" for head in heads))
    for row in rows:
        print("".join(f"{row[head]:>13}" for head in heads))


if __name__ == "__main__":
    main()
