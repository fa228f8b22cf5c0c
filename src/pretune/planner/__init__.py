"""The planner: the best rounds, batches, clocks and powers within the budgets, with a proof."""
