"""What an epoch trains for questions with and without commercial intent.

Where a policy shows no ad in any of its samples, they all have the same reward, so nothing keeps it from showing ads
once the other questions have taught it to. The choice of ads has no such gap: at each place the reward of every ad is
known, and of none. So questions without commercial intent train that choice in every epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from simenv.records import Outcome

from .label_choice import Chosen
from .levels import Drawn, Episode, Group, Level, Response, Seen

T = TypeVar("T")
U = TypeVar("U")


class ByQuestion(Level):
    """Responses of one level for questions without commercial intent, and of another for the rest.

    Args:
        plain: For questions without commercial intent: the choice of ads.
        others: For the other questions.
    """

    def __init__(self, plain: Level, others: Level) -> None:
        self.plain = plain
        self.others = others

    def of(self, episode: Episode) -> Level:
        return self.plain if episode.plain else self.others

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        return self._each(auctions, auctions, lambda level, some: level.respond(some, count, key, scored=scored))

    def seen(self, auctions: Sequence[Episode], count: int) -> list[Seen]:
        parts = self._parts(auctions)
        return [one for level, places in parts for one in level.seen([auctions[i] for i in places], count)]

    def outcome(self, episode: Episode, response: Response) -> Outcome:
        return self.of(episode).outcome(episode, response)

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Response]]]) -> list[torch.Tensor]:
        return self._each([episode for episode, _ in batch], batch, lambda level, some: level.logps(some))

    def choices(self, logps: torch.Tensor, group: Group) -> list[tuple[torch.Tensor, Group]]:
        level = self.plain if isinstance(group.responses[0], Chosen) else self.others
        return level.choices(logps, group)

    def _each(
        self, auctions: Sequence[Episode], given: Sequence[T], do: Callable[[Level, list[T]], list[U]]
    ) -> list[U]:
        """One result for each of `given`, in their order, from the level of its auction."""
        results: dict[int, U] = {}
        for level, places in self._parts(auctions):
            results |= zip(places, do(level, [given[i] for i in places]), strict=True)
        return [results[i] for i in range(len(given))]

    def _parts(self, auctions: Sequence[Episode]) -> list[tuple[Level, list[int]]]:
        """Each level that has auctions, and their places."""
        levels = (self.others, self.plain)
        parts = [(level, [i for i, e in enumerate(auctions) if self.of(e) is level]) for level in levels]
        return [part for part in parts if part[1]]
