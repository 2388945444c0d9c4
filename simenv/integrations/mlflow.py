"""MLflow as a tracker of benchmarks and trainings; see `simenv.integrations.tracking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from time import time

from simenv.integrations.missing import missing

try:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
except ModuleNotFoundError as error:
    raise missing(error, "mlflow", "mlflow") from None

_BATCH = 1000
"""Most numbers that MLflow takes at once."""


class MLflowTracker:
    """Tracks in a run of MLflow.

    Args:
        uri: A tracking server or a store; by default that of MLflow itself (MLFLOW_TRACKING_URI).
        experiment: Name of the experiment; it is created if there is none.

    Attributes:
        run_id: Id of MLflow's run, once it has begun.
    """

    def __init__(self, uri: str | None = None, experiment: str = "simenv") -> None:
        self.run_id: str | None = None
        self._client = MlflowClient(uri)
        self._experiment = experiment

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        known = self._client.get_experiment_by_name(self._experiment)
        experiment = known.experiment_id if known is not None else self._client.create_experiment(self._experiment)
        self.run_id = self._client.create_run(experiment, run_name=name).info.run_id
        self._client.log_batch(self.run_id, params=[Param(key, value) for key, value in parameters.items()])

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        now = int(time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in numbers.items()]
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + _BATCH])

    def end(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        self.log(numbers, 0)
        for file in files:
            self._client.log_artifact(self.run_id, str(file))
        self._client.set_terminated(self.run_id)
