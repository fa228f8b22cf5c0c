"""MLflow, by its client alone: no global state, nothing printed, nothing sent to anyone but the tracker named."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pretune.errors import MissingExtra
from pretune.tracking.rows import Row

EXPERIMENT = "pretune"
URI = "MLFLOW_TRACKING_URI"
_STATUS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # a server that is away would otherwise hold the run up for minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}


class MLflow:
    """A run of the experiment ``pretune``.

    Without a URI it is that of MLFLOW_TRACKING_URI or, without one, the file ``mlflow.db`` beside the run's folder
    (read it with ``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db``).
    """

    def __init__(self, uri: str | None, folder: Path) -> None:
        for key, value in _SETTINGS.items():
            os.environ.setdefault(key, value)
        try:
            with _quietly():
                from mlflow.entities import Metric, Param
                from mlflow.tracking import MlflowClient
        except ModuleNotFoundError as error:
            raise MissingExtra("mlflow", error.name or "mlflow") from None
        self._uri = uri or os.environ.get(URI) or f"sqlite:///{(folder.parent / 'mlflow.db').resolve()}"
        self._make: Callable[..., Any] = MlflowClient
        self._metric: Callable[..., Any] = Metric
        self._param: Callable[..., Any] = Param
        self._client: Any = None
        self._run = ""

    def open(self, run: str | None, title: str, parameters: Mapping[str, str]) -> str:
        """Begin a run, or go on with it."""
        with _quietly():
            self._client = self._make(tracking_uri=self._uri)
            if run is not None:
                self._client.update_run(run, status="RUNNING")
                self._run = run
                return run
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            if experiment is not None:
                number = experiment.experiment_id
            else:
                number = self._client.create_experiment(EXPERIMENT, artifact_location=self._artifacts())
            self._run = str(self._client.create_run(number, run_name=title).info.run_id)
            self._client.log_batch(self._run, params=[self._param(key, value) for key, value in parameters.items()])
        return self._run

    def last_step(self, key: str) -> int:
        """From the history of the figure."""
        with _quietly():
            return max((metric.step for metric in self._client.get_metric_history(self._run, key)), default=-1)

    def write(self, rows: Sequence[Row]) -> None:
        """All of them in one request."""
        now = int(1e3 * time.time())
        metrics = [self._metric(key, value, now, row.step) for row in rows for key, value in row.figures.items()]
        with _quietly():
            self._client.log_batch(self._run, metrics=metrics)

    def keep(self, files: Sequence[Path]) -> None:
        """As artifacts."""
        with _quietly():
            for file in files:
                self._client.log_artifact(self._run, str(file))

    def close(self, status: str) -> None:
        """End it."""
        with _quietly():
            self._client.set_terminated(self._run, _STATUS[status])

    def _artifacts(self) -> str | None:
        """A database has no room for files: they go into a folder beside it. A server knows a place itself."""
        prefix = "sqlite:///"
        if not self._uri.startswith(prefix):
            return None
        return (Path(self._uri.removeprefix(prefix)).resolve().parent / "mlartifacts").as_uri()


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the library's warnings about libraries below it, and its messages of how it sets up its tables."""
    import logging

    names = ("alembic", "mlflow")
    before = {name: logging.getLogger(name).level for name in names}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                logging.getLogger(name).setLevel(logging.ERROR)
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
