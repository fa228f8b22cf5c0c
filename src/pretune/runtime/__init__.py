"""Carrying out a plan: tasks, data, the training loop and its books. Everything here needs `pretune[train]`."""
