"""The planner: the best rounds, batches, clocks and powers within the budgets, with a proof.

problem   the scenario as arrays          kernels   the compiled arithmetic: one device, fixed rounds, price bounds
whole     whole batches at fixed rounds   search    branch and bound over the rounds
infeasible  what clashes when nothing fits          solve   from a scenario to a written plan
"""

from pretune.planner.solve import plan

__all__ = ["plan"]
