"""Weights & Biases as a tracker of benchmarks and trainings; see `simenv.integrations.tracking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simenv.integrations.missing import missing

try:
    import wandb
except ModuleNotFoundError as error:
    raise missing(error, "wandb", "wandb") from None


class WandbTracker:
    """Tracks in a run of Weights & Biases.

    Args:
        project: Name of the project.
        **options: Further arguments of `wandb.init`, such as mode="offline", dir or entity.
    """

    def __init__(self, project: str = "simenv", **options: Any) -> None:
        self._options = {"project": project, **options}
        self._run: Any = None

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        self._run = wandb.init(name=name, config=dict(parameters), **self._options)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def end(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        self._run.summary.update(dict(numbers))
        if files:
            artifact = wandb.Artifact("simenv-run", type="run")
            for file in files:
                artifact.add_file(str(file))
            self._run.log_artifact(artifact)
        self._run.finish()
