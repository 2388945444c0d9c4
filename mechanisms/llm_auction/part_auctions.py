"""The auctions of a training: those of a part of the personas and ads, drawn by a key."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from simenv.ctr.models import CTRModel
from simenv.judges.base import Judge
from simenv.market.bidders import UniformBidder
from simenv.market.catalog import load_catalog
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, QuerySource
from simenv.world import World
from simenv.world_factory import make_world

from .irpo import Config
from .levels import Episode, episodes
from .models import judge_of
from .slim import PLACES, Score
from .split import Part, only

PLAIN_QUESTIONS = Path(__file__).parent / "plain_questions.txt"
"""Questions without commercial intent; others than those of the pack no_commercial_intent, which is for tests."""


def part_world(
    part: Part, config: Config, candidates: int, judge: Judge | None = None, queries: QuerySource | None = None
) -> World:
    """Builds the world of one part of the packs, with the personas and ads of this part and uniform bids in 1..100.

    `queries` replaces the personas' own.
    """
    return make_world(
        queries=queries,
        catalog=only(load_catalog(config.catalog), part),
        personas=only(load_personas(config.personas), part),
        judge=judge or judge_of(config),
        bidder=UniformBidder(),
        candidates=candidates,
        max_ads=config.max_ads,
        turns="apart",  # answers are sampled one by one
    )


class PartAuctions:
    """Draws the auctions of a training.

    Args:
        config: Options of the training.
        judge: The judge of their worlds.

    Attributes:
        ctr: Gives the digits in prompts with the scores "pctr" and "ecpm". None: the retriever's.
    """

    def __init__(self, config: Config, judge: Judge) -> None:
        self._config = config
        self._judge = judge
        self._worlds: dict[tuple[Part, bool], list[World]] = {}
        self.ctr: CTRModel | None = None

    def draw(self, part: Part, count: int, seed: int, *, plain: bool = True) -> list[Episode]:
        """`count` auctions of the run `seed`, alternating between the numbers of candidates.

        With `plain`, the share `plain_share` of them has questions without commercial intent.
        """
        without = round(self._config.plain_share * count) if plain else 0
        return self._alternating(part, False, count - without, seed) + self.plain(part, without, seed)

    def plain(self, part: Part, count: int, seed: int) -> list[Episode]:
        """`count` auctions whose questions have no commercial intent."""
        if not count:
            return []
        return [episode._replace(plain=True) for episode in self._alternating(part, True, count, seed + 500_000)]

    def _alternating(self, part: Part, plain: bool, count: int, seed: int) -> list[Episode]:
        config = self._config
        score: Score = config.score if self.ctr is not None else "retriever"
        draw = partial(episodes, show_score=config.show_score, score=score, ctr=self.ctr, places=PLACES)
        worlds = self._worlds_of(part, plain)
        each = [draw(world, -(-count // len(worlds)), seed + 1_000_000 * i) for i, world in enumerate(worlds)]
        return [episode for turn in zip(*each, strict=True) for episode in turn][:count]

    def _worlds_of(self, part: Part, plain: bool) -> Sequence[World]:
        """One world for each number of candidates, built when it is first needed."""
        if (part, plain) not in self._worlds:
            questions = FileQueries(PLAIN_QUESTIONS) if plain else None
            self._worlds[part, plain] = [
                part_world(part, self._config, n, self._judge, questions) for n in self._config.candidates
            ]
        return self._worlds[part, plain]
