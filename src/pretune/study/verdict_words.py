"""The verdicts in words and tables, for the page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pretune.report.words import joules, seconds
from pretune.study.statistics import ALPHA
from pretune.study.verdict import Comparison, Saving, Verdict
from pretune.study.words import NONE, interval_text, p_text, points_text, table_text

_MARKS = {Verdict.WIN: " **W**", Verdict.LOSS: " **L**", Verdict.TIE: "", Verdict.UNKNOWN: " ?", Verdict.NO_PLAN: ""}


def verdict_words(found: Sequence[Comparison], saved: Sequence[Saving], *, chosen_apart: bool) -> str:
    """The section on verdicts: against the best baseline, against every one, and what is saved."""
    seeds = sorted({one.paired.difference.count for one in found if one.paired.difference.count})
    spread = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}" if seeds else "no"
    how = (
        "chosen by its mean accuracy on seeds of its own, and tested on others"
        if chosen_apart
        else "chosen by its mean accuracy on the very seeds that test it, which can only flatter the baseline"
    )
    parts = [
        f"Differences are joint planning less the baseline in percentage points of test accuracy, over {spread} paired "
        f"seeds, with 95 % intervals (Student's t). `p` is that of the paired t-test after Holm's correction over all "
        f"{sum(not math.isnan(one.paired.t_p) for one in found)} comparisons; wins and losses have p < {ALPHA}, all "
        "else is a tie. Wilcoxon's exact signed-rank p-value, uncorrected, stands beside it: with n seeds it is never "
        f"below 2^(1-n), 0.0625 for five. The best baseline is {how}.",
        table_text(
            ("task", "budgets", "joint", "best baseline", "its accuracy", "difference", "p", "Wilcoxon", "verdict"),
            [_line(one) for one in found if one.best],
            left=2,
        ),
        "### Against every baseline",
        "Percentage points, and **W** for a win, **L** for a loss; nothing for a tie.",
    ]
    for task in dict.fromkeys(one.task for one in found):
        own = [one for one in found if one.task == task]
        regimes = list(dict.fromkeys(one.regime for one in own))
        cells = {(one.baseline, one.regime): _short(one) for one in own}
        names = list(dict.fromkeys(one.baseline for one in own))
        rows = [[name, *(cells.get((name, regime), NONE) for regime in regimes)] for name in names]
        parts.append(table_text((task, *regimes), rows))
    if saved:
        parts += [
            "### What is saved at the best baseline's accuracy",
            "How much less of one budget joint planning needs, the other budget being the same, to be as accurate as "
            "the best baseline is with all of it: read off its mean curve (linear in the budget's logarithm), with "
            "95 % intervals by the bootstrap over seeds. *At least*: the smallest budget measured was enough already. "
            "*Not reached*: not even the largest was. Negative: it needs more than the baseline.",
            table_text(
                ("task", "budgets", "of", "best baseline", "its accuracy", "its budget", "saved", "share"),
                [_saving(one) for one in saved],
                left=3,
            ),
        ]
    return "\n\n".join(parts)


def _line(one: Comparison) -> list[object]:
    return [
        one.task,
        one.regime,
        interval_text(one.ours, 1, scale=100.0) + " %",
        one.baseline,
        interval_text(one.theirs, 1, scale=100.0) + " %",
        points_text(one.paired.difference),
        p_text(one.corrected_p),
        p_text(one.paired.wilcoxon_p).strip("*"),
        one.verdict.value,
    ]


def _short(one: Comparison) -> str:
    if one.verdict is Verdict.NO_PLAN:
        return "no plan"
    return f"{100.0 * one.paired.difference.mean:+.1f}{_MARKS[one.verdict]}"


def _saving(one: Saving) -> list[object]:
    unit = joules if one.axis == "energy_j" else seconds
    kind = "energy" if one.axis == "energy_j" else "delay"
    head = [one.task, one.regime, kind, one.baseline, f"{100.0 * one.accuracy:.1f} %", unit(one.budget, 3)]
    if math.isinf(one.needed):
        return [*head, "not reached", NONE]
    ends = [NONE if math.isinf(end) else unit(end, 2) for end in (one.low, one.high)]
    least = "at least " if one.at_least else ""
    return [*head, f"{least}{unit(one.saved, 2)} [{ends[0]}, {ends[1]}]", f"{least}{one.saved / one.budget:.0%}"]
