"""Samples answers and judges them for many auctions: in this process, or in workers of an engine that hold the same
models. The auctions are dealt out in parts of fixed size, so that a batch of the policy is the same either way.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

import torch

from simenv.background_loop import run_sync
from simenv.encoder import default_encoder
from simenv.judges.base import Judge
from simenv.runs.dispatch import dispatch
from simenv.runs.ray_pool import RayPool

from . import lora
from .click_features import PCTRExample
from .irpo import Config, collect_clicks, sample_groups
from .levels import Episode, Group
from .models import Models
from .reward_model import PCTR

PART = 32
"""Auctions of a part."""
WRITTEN_PART = 128
"""The same in the written format, where a GPU samples many answers in the time of one."""


class Task(NamedTuple):
    """A part of the auctions of one phase."""

    auctions: Sequence[Episode]
    adapter: dict[str, torch.Tensor]
    key: str | None
    """Names the draw of phase 2; None: phase 1."""
    epoch: int
    config: Config
    pctr: tuple[tuple[str, ...], tuple[str, ...], dict[str, torch.Tensor]] | None
    """Users, ads and weights of the reward model; None: rewards are the judge's."""

    def __str__(self) -> str:
        return f"the part of the training auctions that begins with {self.auctions[0].auction.id}"


class Sampler:
    """What a worker builds: the models of a training, however many workers there are."""

    def __init__(self, config: Config, _: int) -> None:
        torch.set_num_threads(config.threads)
        self._models = Models(config)

    def run(self, task: Task) -> list[PCTRExample] | list[Group]:
        """The clicks of phase 1, or the groups of phase 2."""
        models = self._models
        lora.assign(models.policy.trained, task.adapter)
        if task.key is None:
            level = models.level_of(task.epoch, task.config)
            return collect_clicks(level, task.auctions, models.judge, task.config)
        source: PCTR | Judge = models.judge
        if task.pctr is not None:
            users, ads, weights = task.pctr
            source = PCTR(default_encoder(), users, ads)
            source.load_state_dict(weights)
            source.eval()
        level = models.level_of(task.epoch, task.config)
        return sample_groups(level, task.auctions, source, models.objective, task.config, task.key)


class Spread:
    """Runs the phases of a training, for a `with` block.

    Args:
        config: Options of the training, among them the engine.
        models: The models of this process.
        warned: Called when a worker is lost.

    """

    def __init__(self, config: Config, models: Models, warned: Callable[[str], None] = lambda text: None) -> None:
        self._config = config
        self._models = models
        self._warned = warned
        self._workers: RayPool[Task, list[Any]] | None = None

    def __enter__(self) -> Spread:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._workers is not None:
            self._workers.close()

    def _pool(self) -> RayPool[Task, list[Any]]:
        """The workers, which begin with the first phase that needs them and are kept for the others."""
        if self._workers is None:
            config = self._config
            self._workers = RayPool(
                partial(Sampler, config),
                workers=config.workers,
                address=config.ray_address,
                cpus=config.threads,
                gpus=int(torch.cuda.is_available()),
                warned=self._warned,
            )
        return self._workers

    def clicks(self, auctions: Sequence[Episode], config: Config, epoch: int = 0) -> list[PCTRExample]:
        """Phase 1 of an epoch: see `collect_clicks`. Epoch 0: clicks on whole answers.

        Raises:
            SimenvError: what sampling or judging raised; the cluster cannot be reached, or workers died too often.
        """
        models = self._models
        level = models.level_of(epoch, config)
        return self._each(
            auctions, None, None, epoch, config, lambda part: collect_clicks(level, part, models.judge, config)
        )

    def groups(
        self, auctions: Sequence[Episode], source: PCTR | Judge, config: Config, key: str, epoch: int
    ) -> list[Group]:
        """Phase 2 of an epoch: see `sample_groups`. Errors are those of `clicks`."""
        models = self._models
        level = models.level_of(epoch, config)
        return self._each(
            auctions,
            source,
            key,
            epoch,
            config,
            lambda part: sample_groups(level, part, source, models.objective, config, key),
        )

    def _each(
        self,
        auctions: Sequence[Episode],
        source: PCTR | Judge | None,
        key: str | None,
        epoch: int,
        config: Config,
        here: Callable[[Sequence[Episode]], list[Any]],
    ) -> list[Any]:
        size = WRITTEN_PART if config.level == "written" else PART
        parts = [auctions[start : start + size] for start in range(0, len(auctions), size)]
        results: list[list[Any]] = []
        if self._config.engine == "local":
            results = [here(part) for part in parts]
        else:
            adapter = {name: value.detach().cpu() for name, value in self._models.policy.trained.items()}
            pctr = (source.users, source.ads, source.state_dict()) if isinstance(source, PCTR) else None

            async def tasks() -> AsyncIterator[Task]:
                for part in parts:
                    yield Task(part, adapter, key, epoch, config, pctr)

            pool = self._pool()
            run_sync(lambda: dispatch(tasks(), pool, results.append, name=str, warned=self._warned))
        return [one for result in results for one in result]
