"""How well the fast planner and a conic solver agree, over drawn scenarios.

    python benchmarks/oracle.py --count 240 --seed 0 [--out lines.jsonl]

Each draw compares the fixed-rounds optimum of `solve_fixed` with the conic program's at the drawn rounds, then the
whole plan with the joint conic program (criterion trajectory only) and with the check. A conic answer counts only if
its decisions, put through the cost model, and its prices, put through the dual, meet (pretune.planner.reference).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "planner"))

from draws import Drawn, draw

from pretune import certify
from pretune.errors import PretuneError
from pretune.planner import plan, reference
from pretune.planner.kernels.fixed import SOLVED, new_point, solve_fixed
from pretune.planner.kernels.rounds import coefficients
from pretune.planner.problem import build


def fixed(drawn: Drawn) -> dict[str, Any]:
    """Kernel and oracle at the drawn rounds; the noise part is compared, the criterion's other part is the same."""
    m, n = drawn.rounds
    problem, _ = build(drawn.scenario)
    _, _, psi0, psi = coefficients(problem.criterion, float(m), float(n))
    point = new_point(len(drawn.scenario.devices))
    status = solve_fixed(problem, problem.batches, float(m), float(n), psi0, psi, point)
    began = time.perf_counter()
    answer = reference.fixed_rounds(drawn.scenario, m, n)
    line: dict[str, Any] = {
        "kernel": int(status),
        "oracle": answer.status,
        "oracle_gap": answer.gap,
        "oracle_s": time.perf_counter() - began,
    }
    if status == SOLVED and answer.status == "solved":
        line["difference"] = float(point.scalars[8]) / answer.noise - 1.0
    return line


def whole(drawn: Drawn, time_limit: float) -> dict[str, Any]:
    """The plan: its gap, its check, and (trajectory) where the joint conic optimum lies."""
    began = time.perf_counter()
    try:
        answer = plan(drawn.scenario, throw=False, time_limit=time_limit)
        line: dict[str, Any] = {"plan": answer.status.value, "gap": answer.relative_gap}
        line["plan_s"] = time.perf_counter() - began
        line["proven"] = certify.check(answer, drawn.scenario).lower_bound_proven
    except (PretuneError, ArithmeticError, ValueError, Warning) as error:
        return {"plan": f"{type(error).__name__}: {error}"[:300]}
    if answer.criterion == "trajectory":
        relaxed = reference.joint(drawn.scenario)
        line["joint"] = relaxed.status
        if relaxed.status == "solved":
            line["joint_gap"] = relaxed.gap
            line["above_joint"] = answer.objective / relaxed.value - 1.0
            line["bound_above_joint"] = answer.lower_bound / relaxed.value - 1.0
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=24, help="how many scenarios to draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first; the others follow")
    parser.add_argument("--out", type=Path, help="write a JSON line for each draw as soon as it is done")
    parser.add_argument("--time-limit", type=float, default=60.0, help="seconds for one plan")
    parser.add_argument("--fixed", action="store_true", help="fixed rounds only, no plans")
    options = parser.parse_args()
    lines = []
    for seed in range(options.seed, options.seed + options.count):
        drawn = draw(seed)
        line = {"seed": seed, "label": drawn.label, "rounds": drawn.rounds, **fixed(drawn)}
        if not options.fixed:
            line |= whole(drawn, options.time_limit)
        lines.append(line)
        if options.out:
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    report(lines)


def report(lines: list[dict[str, Any]]) -> None:
    """The figures over all draws, each with the seed that it comes from."""

    def worst(key: str, **where: Any) -> str:
        found = [line for line in lines if key in line and all(line.get(k) == v for k, v in where.items())]
        if not found:
            return "none"
        line = max(found, key=lambda line: abs(line[key]))
        return f"{line[key]:.2e} (seed {line['seed']}, of {len(found)})"

    def seeds(key: str, *fine: Any) -> list[Any]:
        return [(line["seed"], line[key]) for line in lines if key in line and line[key] not in fine]

    print(f"draws: {len(lines)}")
    print("fixed rounds: worst relative difference", worst("difference"))
    print("fixed rounds: worst gap of a conic answer that counts", worst("oracle_gap", oracle="solved"))
    print("fixed rounds: conic answers that do not count:", seeds("oracle", "solved"))
    print("fixed rounds: kernel not solved:", seeds("kernel", SOLVED))
    print("plans: worst relative gap", worst("gap"))
    print("plans: not optimal:", len(seeds("plan", "optimal")), seeds("plan", "optimal", "feasible", "time_limit"))
    print("plans: bound not proven by the check:", [seed for seed, _ in seeds("proven", True)])
    print("plans: slowest", worst("plan_s"), "s")
    print("joint: answers that do not count:", seeds("joint", "solved"))
    below = [line["above_joint"] for line in lines if "above_joint" in line]
    print("joint: least of objective / conic optimum - 1:", f"{min(below):.2e}" if below else "none")
    print("joint: worst of lower bound / conic optimum - 1:", worst("bound_above_joint"))


if __name__ == "__main__":
    main()
