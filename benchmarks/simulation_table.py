"""The page's section on simulated rounds; `table.py` writes the others."""

from __future__ import annotations

from typing import Any

Rows = list[dict[str, Any]]

_WHAT = {
    "ours": "**pretune, local backend with its full ledger**",
    "whole": "the same, the whole run: evaluations, checkpoints, results",
    "fused": "bare PyTorch: draw, one fused pass, one step",
    "drawn": "the same on one batch drawn before",
    "loop": "bare PyTorch, device by device",
    "pfl": "pfl, simulated backend",
    "flower": "Flower, `run_simulation`",
    "blazefl": "BlazeFL",
}
_AIMS = {"fused": "0.9", "pfl": "7", "flower": "100"}
MEMORY_AIM = 2e9


def section(rows: Rows) -> str:
    """The section as Markdown."""
    from table import prose, table, times

    speeds = {row["name"]: row for row in rows if row["name"] in _WHAT}
    ours, body = speeds["ours"], []
    for name, row in speeds.items():
        version = f" {row['version']}" if "version" in row else ""
        if "rounds_per_s" not in row:
            body.append((_WHAT[name] + version, f"absent: {row.get('absent', 'no figure')}", "–", "–"))
            continue
        ratio = "" if name in ("ours", "whole") else times(ours["rounds_per_s"] / row["rounds_per_s"])
        body.append((_WHAT[name] + version, times(row["rounds_per_s"]), ratio or "–", _AIMS.get(name, "–")))
    text = ["## Simulated rounds", ""]
    text += prose(
        f"{ours['devices']} devices, one gradient of a batch of 10 each in every round, MLP 784-200-10, one thread "
        "(`benchmarks/federated_simulation.py`; the peers by an interpreter of their own, `--peers` or PRETUNE_PEERS). "
        "Rounds per second by the median round, in processor time but for Flower's many processes, which are measured "
        f"by the clock; our own in turns, {ours['repeats']} times."
    )
    text += table(("what", "rounds per second", "pretune's ratio to it", "aim"), body)
    for row in rows:
        if row["name"] == "large":
            kept = "below" if row["memory_bytes"] < MEMORY_AIM else "above"
            text += ["", *prose(
                f"{row['devices']:,} devices with ten samples each (pixels: {row['data_bytes'] / 1e9:.2f} GB): "
                f"{times(row['rounds_per_s'])} rounds per second, {row['memory_bytes'] / 1e9:.2f} GB of memory at the "
                f"most, {kept} the aim of 2 GB; before the run, with PyTorch and the data loaded, it was "
                f"{row['before_bytes'] / 1e9:.2f} GB."
            )]  # fmt: skip
    return "\n".join(text)
