"""a. The bounds and what they bound, round by round, through both stages.

Constants are those of `pretune calibrate`, measured with other seeds than the runs'. The left side of `trajectory` is
the average over all rounds so far of the squared norm of the task objective's gradient (over all devices' samples), a
round weighted as in the criterion; it is looked at every few rounds and taken as linear between. Beside it the loss,
whose gap to its least value (taken as 0) `final` bounds; its Polyak-Lojasiewicz constant is a measured rate and no
guarantee.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretune.convergence import criteria
from pretune.ledger import Stage
from pretune.scenario import Scenario
from pretune.study import Experiment, Figure, Point, Scale, Table, grid
from pretune.study.draw import band, drawing, plain_numbers
from pretune.study.statistics import mean_interval
from pretune.study.words import interval_text, number, table_text

TASKS = ("digits", "mnist-usps", "cifar10-corrupted")
SERVER_BATCH, BATCH = 32, 4
TRAJECTORY, FINAL = "#0b5fa5", "#d1495b"


def points(scale: Scale) -> list[Point]:
    """Tasks and seeds; the smoke scale is a short run on digits, with constants from a few samples."""
    if scale is Scale.SMOKE:
        rounds = {"pretrain_rounds": (12,), "finetune_rounds": (8,), "every": (4,)}
        return grid(task=("digits",), **rounds, repetitions=(3,), samples=(40,), seed=(0, 1))
    rounds = {"pretrain_rounds": (200,), "finetune_rounds": (100,), "every": (5,)}
    return grid(task=TASKS, **rounds, repetitions=(5,), samples=(2000,), seed=range(10))


def measure(point: Point) -> list[dict[str, Any]]:
    """One run: at every look the gradient, its average so far, the loss, and both bounds for the rounds so far."""
    import torch  # here and not above, so that listing experiments is quick

    from pretune.runtime.gradient import fused_gradient, step
    from pretune.runtime.local import Crew

    from ._measured import data_of, measured

    scenario = measured(point.text("task"), point.integer("repetitions"), point.integer("samples"))
    task, held = data_of(scenario)
    weights = scenario.devices.weight
    column = torch.from_numpy(np.repeat(weights / held.sizes, held.sizes))
    seed, every = point.integer("seed"), point.integer("every")
    batches = np.minimum(BATCH, held.sizes)
    one = np.ones(1, dtype=np.int64)
    m, n = point.integer("pretrain_rounds"), point.integer("finetune_rounds")
    server = Crew.of(Stage.PRETRAIN, held.general, one * len(held.general), one * SERVER_BATCH, np.ones(1))
    devices = Crew.of(Stage.FINETUNE, held.task, held.sizes, batches, weights)
    model = task.build(seed).train()
    looks, norms, losses = [], [], []
    for at in range(m + n + 1):
        if at % every == 0 or at == m + n:
            found = fused_gradient(model, task.loss, held.task, column)
            looks, norms, losses = [*looks, at], [*norms, found.norm_sq], [*losses, found.loss]
        if at < m:
            step(model, server.gradient(model, task.loss, seed, at + 1), scenario.convergence.pretrain_step)
        elif at < m + n:
            step(model, devices.gradient(model, task.loss, seed, at - m + 1), scenario.convergence.finetune_step)
    averages = running_average(scenario, np.array(norms), np.array(looks), m)
    bounds = [bounds_at(scenario, min(at, m), max(at - m, 0), batches) for at in looks]
    return [
        {
            "round": at,
            "stage": Stage.PRETRAIN.value if at <= m else Stage.FINETUNE.value,
            "gradient_sq": norm,
            "average_gradient_sq": average,
            "trajectory_bound": trajectory,
            "loss": loss,
            "final_bound": final,
        }
        for at, norm, average, loss, (trajectory, final) in zip(looks, norms, averages, losses, bounds, strict=True)
    ]


def running_average(scenario: Scenario, norms: np.ndarray, looks: np.ndarray, m: int) -> list[float | None]:
    """What `trajectory` bounds after so many rounds, at the looks; None before the first round."""
    c = criteria.trajectory(scenario.convergence)
    rounds = np.arange(looks[-1])
    weights = np.where(rounds < m, c.pretrain_weight, c.finetune_weight)
    sums = np.concatenate(([0.0], np.cumsum(weights * np.interp(rounds, looks, norms))))
    totals = np.concatenate(([0.0], np.cumsum(weights)))
    return [float(sums[at] / totals[at]) if at else None for at in looks.tolist()]


def bounds_at(scenario: Scenario, m: int, n: int, batches: np.ndarray) -> tuple[float | None, float]:
    """Both criteria after `m` and `n` rounds; `trajectory` has none before the first."""
    noise, held = criteria.device_noise(scenario), batches.astype(np.float64)
    final = criteria.objective(criteria.final(scenario.convergence), noise, m, n, SERVER_BATCH, held)
    if m + n == 0:
        return None, final
    return criteria.objective(criteria.trajectory(scenario.convergence), noise, m, n, SERVER_BATCH, held), final


def figures(rows: Table, folder: Path) -> Sequence[Figure]:
    """A column for each task: squared gradient norms above, losses below."""
    tasks = rows.distinct("task")
    caption = (
        "Above: the squared norm of the task objective's gradient, averaged over the rounds so far (solid), and the "
        "bound `trajectory` for them (dashed). Below: the loss and the bound `final`. Means over the seeds with 95 % "
        "intervals; the dotted line is where fine-tuning begins."
    )
    panels = (("average_gradient_sq", "trajectory_bound", TRAJECTORY), ("loss", "final_bound", FINAL))
    with drawing(folder, "gradient_norm", caption, rows=2, columns=len(tasks), size=(3.2, 2.5)) as (axes, made):
        for i, task in enumerate(tasks):
            part = rows.where(task=task)
            for line, (seen, bound, colour) in zip(axes, panels, strict=True):
                looks = [(at[0], own) for at, own in part.groups("round") if own.column(bound)[0] is not None]
                x = [float(at) for at, _ in looks]
                found = [mean_interval(own.numbers(seen)) for _, own in looks]
                band(line[i], x, [f.mean for f in found], [f.half for f in found], label="measured", colour=colour)
                limits = [float(own.numbers(bound)[0]) for _, own in looks]
                line[i].plot(x, limits, "--", color=colour, label="bound")
                line[i].axvline(float(part.numbers("pretrain_rounds")[0]), color="0.6", linestyle=":", linewidth=0.8)
                line[i].set(yscale="log", xlabel="round")
            axes[0][i].set_title(task, fontsize=9)
        for one in (*axes[0], *axes[1]):
            plain_numbers(one.yaxis)
        axes[0][0].set_ylabel("average squared gradient norm")
        axes[1][0].set_ylabel("loss")
        axes[0][0].legend()
    return made


def words(rows: Table) -> str:
    """How far the bounds are from what they bound, after either stage, and whether they are ever broken."""
    lines, broken, contrary = [], [], []
    for (task,), part in rows.groups("task"):
        first = int(part.numbers("pretrain_rounds")[0])
        last = first + int(part.numbers("finetune_rounds")[0])
        for at, when in ((first, "pre-training"), (last, "fine-tuning")):
            own = part.where(round=at)
            average, loss = mean_interval(own.numbers("average_gradient_sq")), mean_interval(own.numbers("loss"))
            bounds = [float(own.numbers(name)[0]) for name in ("trajectory_bound", "final_bound")]
            ratios = [bound / seen.mean for bound, seen in zip(bounds, (average, loss), strict=True)]
            cells = [interval_text(average, 3), number(bounds[0]), number(ratios[0]), interval_text(loss, 3)]
            lines.append([task, when, str(average.count), *cells, number(bounds[1]), number(ratios[1])])
        start, end = part.where(round=0), part.where(round=first)
        bound_moves = float(end.numbers("final_bound")[0] - start.numbers("final_bound")[0])
        if bound_moves * float(end.numbers("loss").mean() - start.numbers("loss").mean()) < 0.0:
            contrary.append(task)
        for seen, bound in (("average_gradient_sq", "trajectory_bound"), ("loss", "final_bound")):
            own_bounds = [
                (int(at[0]), own.numbers(seen).mean(), own.numbers(bound)[0]) for at, own in part.groups("round")
            ]
            # before the first round the bound is the untrained model's loss itself, that of other seeds
            over = [at for at, mean, limit in own_bounds if at > 0 and mean > limit]
            if over:
                broken.append(f"{task}: {seen} above {bound} at {len(over)} looks, the first after round {over[0]}")
    heads = ("task", "after", "seeds", "average ‖g‖²", "`trajectory`", "times", "loss", "`final`", "times")
    said = "The mean over the seeds is below its bound at every look." if not broken else "; ".join(broken) + "."
    turned = (
        f"**On {', '.join(contrary)} `final` rises through pre-training while the loss falls**: with the constants "
        "that were measured and these batches its floor under data shift is above the untrained model's loss, so by "
        "this bound there is no use in pre-training, which has one."
        if contrary
        else "Through pre-training `final` moves the way the loss does."
    )
    return "\n\n".join(
        [
            table_text(heads, lines, left=2),
            turned,
            f"{said} The bounds hold for expectations; the constants were measured along runs with other seeds and "
            "are no guarantees for the whole space. A plan needs a bound's shape more than its height; how it ranks "
            "plans is what the other experiments see.",
        ]
    )


EXPERIMENT = Experiment(
    name="gradient_norm",
    title="a. Bound and measured gradient norm",
    question="How far are the convergence bounds from what they bound, round by round, in both stages?",
    points=points,
    measure=measure,
    figures=figures,
    words=words,
)
