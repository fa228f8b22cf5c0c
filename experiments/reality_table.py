"""The tables and the figure of docs/reality.md, from the results of `reality.py`."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from common import HERE
from reality_policies import CLAIRVOYANT, POLICIES, UNTRAINED
from reality_scenes import SCENES
from scipy import stats

from pretune.physics.types import Floats
from pretune.study.draw import drawing

DRAWS = 10_000
BEGIN = "<!-- written by experiments/reality.py --part table: do not edit -->"
END = "<!-- end of what is written -->"
DOCS = HERE.parent / "docs"
Rows = Sequence[Mapping[str, str]]
SHORT = {
    "static": "static",
    "static, outage plan": "static, outage",
    "static, worst-case plan": "static, worst case",
    "static, ergodic plan": "static, ergodic",
    "control": "control",
    "re-planning": "re-planning",
    "control, outage plan": "outage + control",
    "re-planning, outage plan": "outage + re-planning",
}
MEASURES = {
    "criterion": ("of the gap in the criterion", "criterion", 1.0, 4),
    "test_loss": ("of the gap in the test loss", "test loss", 1.0, 4),
    "test_accuracy": ("of the gap in the test accuracy", "test accuracy, %", 100.0, 2),
}


TRAINED = ("test_loss", "test_accuracy")


class Found:
    """The results as columns."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        there = {row["scene"] for row in rows}
        self.scenes = [name for name in SCENES if name in there]

    def column(self, scene: str, policy: str, key: str) -> Floats:
        """One number a seed; of what was learnt, for the seeds with trained models."""
        mine = [row for row in self.rows if row["scene"] == scene and row["policy"] == policy]
        found = np.array([float(row[key] or "nan") for row in sorted(mine, key=lambda row: int(row["seed"]))])
        return found[: self.trained(scene)] if key in TRAINED else found

    def trained(self, scene: str) -> int:
        """For how many seeds, the first ones, models were trained."""
        mine = [row for row in self.rows if row["scene"] == scene and row["policy"] == "static"]
        return sum(row["test_loss"] != "nan" for row in mine)

    def best(self, scene: str, key: str) -> Floats:
        """The clairvoyant's; of the criterion the bound, which not even the clairvoyant's plan may reach."""
        return self.column(scene, CLAIRVOYANT, "bound" if key == "criterion" else key)

    def measured(self, scene: str, key: str) -> bool:
        """Whether there is such a figure for this scene."""
        return len(self.column(scene, "static", key)) > 0


def mean_and_half(values: Sequence[float] | Floats) -> tuple[float, float]:
    """The mean, and half its 95 % interval (Student's t)."""
    column = np.asarray(values, dtype=np.float64)
    if len(column) < 2:
        return float(column.mean()), math.nan
    half = stats.t.ppf(0.975, len(column) - 1) * column.std(ddof=1) / math.sqrt(len(column))
    return float(column.mean()), float(half)


def closed(
    static: Sequence[float] | Floats, policy: Sequence[float] | Floats, best: Sequence[float] | Floats
) -> tuple[float, float, float]:
    """The share of the gap that is closed, of the means, and its 95 % interval by resampling the seeds in pairs."""
    s, p, b = (np.asarray(column, dtype=np.float64) for column in (static, policy, best))
    whole = float((s - p).mean() / (s - b).mean())
    pick = np.random.default_rng(0).integers(0, len(s), (DRAWS, len(s)))
    shares = (s - p)[pick].mean(axis=1) / (s - b)[pick].mean(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return whole, float(low), float(high)


def resolved(static: Floats, best: Floats) -> bool:
    """Whether the gap itself is there: the 95 % interval of its mean over the seeds does not reach zero."""
    middle, half = mean_and_half(static - best)
    return bool(abs(middle) > half)


def _shares(found: Found, key: str) -> list[str]:
    names = [policy for policy in POLICIES if policy != "static" and (key == "criterion" or policy not in UNTRAINED)]
    lines = ["| scene | " + " | ".join(SHORT[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for scene in found.scenes:
        if not found.measured(scene, key):
            continue
        static, best = found.column(scene, "static", key), found.best(scene, key)
        cells = []
        if not resolved(static, best):
            middle, half = mean_and_half(MEASURES[key][2] * (best - static))
            nothing = f"the gap is {middle:.2f} ± {half:.2f}: not told from zero"
            lines.append(f"| {scene} | {nothing} |" + " |" * (len(names) - 1))
            continue
        for name in names:
            share, low, high = closed(static, found.column(scene, name, key), best)
            text = f"{100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f})"
            cells.append(f"**{text}**" if share >= 0.8 else text)
        lines.append(f"| {scene} | {' | '.join(cells)} |")
    return lines


def _values(found: Found, key: str) -> list[str]:
    names = ["static", "static, outage plan", "control", "re-planning", CLAIRVOYANT]
    scale, digits = MEASURES[key][2:]
    more = ["no plan is below"] if key == "criterion" else []
    lines = ["| scene | " + " | ".join([*names, *more]) + " |", "|---" * (len(names) + len(more) + 1) + "|"]
    for scene in found.scenes:
        if not found.measured(scene, key):
            continue
        columns = [found.column(scene, name, key) for name in names]
        columns += [found.best(scene, key)] if more else []
        cells = [
            f"{middle:.{digits}f} ± {half:.{digits}f}" for middle, half in (mean_and_half(scale * c) for c in columns)
        ]
        lines.append(f"| {scene} | {' | '.join(cells)} |")
    return lines


def _rounds(found: Found) -> list[str]:
    names = ["static", "static, outage plan", "control", "re-planning", "re-planning, outage plan", CLAIRVOYANT]
    lines = ["| scene | " + " | ".join(names) + " | re-plans |", "|---" * (len(names) + 2) + "|"]
    for scene in found.scenes:
        cells = [
            " + ".join(f"{found.column(scene, name, key).mean():.0f}" for key in ("pretrain", "finetune"))
            for name in names
        ]
        lines.append(f"| {scene} | {' | '.join(cells)} | {found.column(scene, 're-planning', 'replans').mean():.1f} |")
    return lines


def _robustness(found: Found) -> list[str]:
    names = [name for name, (_, rules) in POLICIES.items() if rules.plain]
    lines = ["| scene | " + " | ".join(SHORT[name] for name in names) + " |", "|---" * (len(names) + 1) + "|"]
    for scene in found.scenes:
        energy, delay = (budget_of(scene, key) for key in ("energy_j", "delay_s"))
        cells = []
        for name in names:
            kept = 100 * found.column(scene, name, "in_planned_time").mean()
            broke = found.column(scene, name, "breaks")
            used = 100 * found.column(scene, name, "energy_j").mean() / energy
            lasted = 100 * found.column(scene, name, "delay_s").mean() / delay
            cells.append(f"{kept:.0f}; {int(broke.sum())} of {len(broke)}; {used:.0f} / {lasted:.0f}")
        lines.append(f"| {scene} | {' | '.join(cells)} |")
    return lines


def budget_of(scene: str, key: str) -> float:
    """A budget of a scene's scenario."""
    return float(getattr(SCENES[scene].scenario().budget, key))


def _letter(found: Found, rows: Rows) -> list[str]:
    kinds = list(dict.fromkeys(row["plan"] for row in rows))
    lines = ["| scene | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for scene in found.scenes:
        cells = []
        for kind in kinds:
            mine = [row for row in rows if row["scene"] == scene and row["plan"] == kind]
            if mine:
                value = np.mean([float(row["criterion"]) for row in mine])
                arrived = np.mean([float(row["arrived"]) for row in mine])
                cells.append(f"{value:.3g} ({100 * arrived:.0f})")
        if cells:
            lines.append(f"| {scene} | {' | '.join(cells)} |")
    return lines


def lines_of(found: Found, saved: Rows, lettered: Rows = ()) -> list[str]:
    """All that is written between the marks."""
    lines = ["| scene | what is hard | seeds | with models |", "|---|---|---|---|"]
    for scene in found.scenes:
        seeds = len(found.column(scene, "static", "criterion"))
        lines.append(f"| {scene} | {SCENES[scene].hard} | {seeds} | {found.trained(scene)} |")
    lines += ["", "![Share of the gap closed](images/reality.svg)", "", "(Bars are cut off at -60 %.)", ""]
    for key, (what, _, _, _) in MEASURES.items():
        if not any(found.measured(scene, key) for scene in found.scenes):
            continue
        lines += [
            f"Per cent {what} that is closed (0: as the static plan, 100: "
            + ("the bound" if key == "criterion" else "as the clairvoyant plan")
            + f"; ratio of means, 95 % intervals by {DRAWS:,} resamplings of the seeds; bold from 80 on):",
            "",
            *_shares(found, key),
            "",
        ]
    for key, (_, name, _, _) in MEASURES.items():
        if not any(found.measured(scene, key) for scene in found.scenes):
            continue
        lines += [f"Means of the {name}, with 95 % intervals (Student's t):", "", *_values(found, key), ""]
    lines += ["Rounds, pre-training + fine-tuning, and how often `auto` planned anew:", "", *_rounds(found), ""]
    lines += [
        "What robustness buys. In each cell: per cent of the uploads that arrive within the time the plan gives them; "
        "how many runs would have broken a budget without the guard; per cent of the energy / of the delay used "
        "with it.",
        "",
        *_robustness(found),
        "",
    ]
    if lettered:
        lines += [
            "The static plans carried out to the letter, without guard and patience: the mean criterion (in brackets "
            "the per cent of uploads that arrive in time):",
            "",
            *_letter(found, lettered),
            "",
        ]
    gaps = {
        scene: 1.0 - found.best(scene, "criterion").mean() / found.column(scene, CLAIRVOYANT, "criterion").mean()
        for scene in found.scenes
    }
    lines += [
        "The clairvoyant plan lies above its bound by "
        + ", ".join(f"{100 * gap:.2g} % ({scene})" for scene, gap in gaps.items())
        + ".",
    ]
    beaten = sum(
        int((found.column(scene, name, "criterion") < found.best(scene, "criterion")).sum())
        for scene in found.scenes
        for name in POLICIES
    )
    lines += ["", f"Runs of real policies below the bound: {beaten}."]
    if saved:
        words = []
        for key, unit in (("energy", "j"), ("delay", "s")):
            share = [1 - float(row[f"{key}_control_{unit}"]) / float(row[f"{key}_fixed_{unit}"]) for row in saved]
            middle, half = mean_and_half(100.0 * np.array(share))
            words.append(f"{middle:.1f} ± {half:.1f} % less {key}")
        same = sum(int(row["same_criterion"]) for row in saved)
        lines += [
            "",
            f"For the same rounds and batches (so the same model) under Rayleigh fading, control took {words[0]} and "
            f"{words[1]} than the plan's fixed clocks and powers ({same} of {len(saved)} seeds: the same number of "
            "rounds done, the same criterion).",
        ]
    return lines


def draw(found: Found, folder: Path) -> None:
    """``reality.svg``: the share of the gap closed, by policy and scene."""
    colours = {
        "static, outage plan": "#d1495b",
        "static, ergodic plan": "#e08e0b",
        "control": "#1b998b",
        "re-planning": "#0b5fa5",
        "re-planning, outage plan": "#6a4c93",
    }
    caption = "Share of the gap between the static plan and the clairvoyant that is closed."
    with drawing(folder, "reality", caption, rows=2, size=(9.6, 2.7)) as (axes, _):
        for (one,), key in zip(axes, ("criterion", "test_loss"), strict=True):
            scenes = [
                scene
                for scene in found.scenes
                if found.measured(scene, key) and resolved(found.column(scene, "static", key), found.best(scene, key))
            ]
            if not scenes:
                continue
            for i, (name, colour) in enumerate(colours.items()):
                x = np.arange(len(scenes)) + (i - 2) * 0.16
                shares = np.array(
                    [
                        closed(found.column(s, "static", key), found.column(s, name, key), found.best(s, key))
                        for s in scenes
                    ]
                ).reshape(-1, 3)
                down, up = shares[:, 0] - shares[:, 1], shares[:, 2] - shares[:, 0]
                one.bar(x, 100 * shares[:, 0], 0.16, color=colour, label=SHORT[name])
                one.errorbar(x, 100 * shares[:, 0], 100 * np.stack([down, up]), fmt="none", ecolor="#222", lw=0.7)
            one.axhline(80, color="#222", lw=0.7, ls="--")
            one.set_ylim(-60, 140)
            one.set_xticks(np.arange(len(scenes)), scenes, fontsize=8)
            one.set_ylabel(f"% of the gap in the\n{MEASURES[key][1].removesuffix(', %')} closed")
        axes[0][0].legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0))


def write_page(rows: Rows, saved: Rows, lettered: Rows, page: Path = DOCS / "reality.md") -> None:
    """Write the tables into the page, and the figure into ``images`` beside it."""
    found = Found(rows)
    lines = lines_of(found, saved, lettered)
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    page.write_text(head + BEGIN + "\n\n" + "\n".join(lines) + "\n\n" + END + rest.split(END, 1)[1], encoding="utf-8")
    draw(found, page.parent / "images")
    sys.stdout.write("\n".join(lines) + "\n")
