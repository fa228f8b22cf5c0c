"""A run's figures, written to an experiment tracker while it goes: `pretune run --track mlflow|tensorboard`.

follow.py       what is written when, and that a failing tracker never loses a run
rows.py         a round's line of the ledger as named figures; the scenario and the plan as parameters
mlflow.py       MLflow, through its client        tensorboard.py   TensorBoard's event files
"""

from pretune.tracking.follow import TRACKERS, Tracking, open_tracking

__all__ = ["TRACKERS", "Tracking", "open_tracking"]
