"""Judges the answers of systems, chunk by chunk."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from simenv.background_loop import run_sync
from simenv.errors import SimenvError
from simenv.llm.base import LLM, Meter, metered
from simenv.market.values import ValueDistribution
from simenv.quality.embedded import QualityMeasure
from simenv.records import Ad, Auction, Feedback, Outcome, Persona, Transition
from simenv.runs.ceilings import Spending
from simenv.runs.failures import Failures
from simenv.runs.rollout import in_flight_of
from simenv.runs.window import AHEAD, Finished, run_in_turns, run_together
from simenv.scoring.answers import Asked, WrittenAnswers
from simenv.world import World

_LINK_ALONE = 0.5
"""What `simenv.quality.embedded.disclosure` gives an ad that only its link sets apart."""


class _Values:
    """The values that the rows of a system give."""

    name = "given"

    def __init__(self, system: WrittenAnswers) -> None:
        self._values = system.values

    def value(self, auction_id: str, ad: Ad) -> float:
        return self._values[auction_id][ad.id]


class AsWritten:
    """A quality measure of answers that were written elsewhere.

    A link is no disclosure where the answer as it was written had none, and the factuality of an ad without copy is
    unknown.

    Args:
        measure: The measure.
        unlinked: Auction -> ids of the ads that stood there in plain words.
    """

    def __init__(self, measure: QualityMeasure, unlinked: Mapping[str, Collection[str]]) -> None:
        self.name = measure.name
        self.sha256 = measure.sha256
        self._measure = measure
        self._unlinked = unlinked

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        feedback = await self._measure.measure(persona, auction, outcome, ad_free)
        if feedback.quality is None:
            return feedback
        ads = []
        for it in feedback.quality.ads:
            if it.disclosure == _LINK_ALONE and it.ad_id in self._unlinked.get(auction.id, ()):
                it = it.model_copy(update={"disclosure": 0.0})
            if not auction.bid_of(it.ad_id).ad.body:
                it = it.model_copy(update={"factuality": None})
            ads.append(it)
        return feedback.model_copy(update={"quality": feedback.quality.model_copy(update={"ads": tuple(ads)})})


class AnswersWorld(World):
    """A world in which one system's answers are judged.

    Args:
        base: Judge, quality measure, objective and all else.
        system: The system.
        reference: Whether the Ad-LLM writes the answer without ads where the system's rows do not give one.
    """

    def __init__(self, base: World, system: WrittenAnswers, *, reference: bool) -> None:
        vars(self).update(vars(base))  # everything that a world has, but for what is the system's own
        self._known_candidates, self._known_values = {}, {}
        self.linked = False
        self.values: ValueDistribution = _Values(system)
        self.ad_free = base.ad_free if reference else None
        self.quality = base.quality and AsWritten(base.quality, system.unlinked)
        self._references = system.references

    async def _answer_without_ads(self, auction: Auction) -> tuple[str | None, Meter]:
        text = self._references.get(auction.id)
        return await super()._answer_without_ads(auction) if text is None else (text, Meter())


class _Verdicts:
    """The verdicts of a scoring, for `simenv.runs.window`. There an index is the place of an answer in the log."""

    labels: Sequence[str] = ("answers",)
    in_order: Collection[str] = ()

    def __init__(
        self,
        asked: Sequence[Asked],
        systems: Mapping[str, WrittenAnswers],
        worlds: Mapping[str, World],
        failures: Failures,
        done: Mapping[tuple[int, str], Transition],
        spending: Spending,
        on_answer: Callable[[bool], None],
        on_chunk: Callable[[Finished], None],
    ) -> None:
        self.keys = [(index, name) for index, it in enumerate(asked) for name in systems if name in it.answers]
        self._asked, self._systems, self._worlds = asked, systems, worlds
        self._failures, self._done, self._spending = failures, done, spending
        self._on_answer, self._on_chunk = on_answer, on_chunk
        self._seconds: dict[tuple[int, str], float] = {}

    def chunks(self, size: int) -> list[Sequence[int]]:
        """The places of the answers to each `size` auctions."""
        places: dict[int, list[int]] = {}
        for place, (index, _) in enumerate(self.keys):
            places.setdefault(index // size, []).append(place)
        return list(places.values())

    def known(self, index: int, label: str) -> bool:
        return self.keys[index] in self._done

    def may_begin(self) -> bool:
        return self._spending.stopped() is None

    async def begin(self, index: int) -> None:
        """Nothing is needed before a verdict."""

    async def ready(self, indices: Sequence[int]) -> None:
        """Nothing is needed before a verdict."""

    def waves(self, indices: Sequence[int], label: str) -> list[Sequence[int]]:
        return [indices]

    async def answer(self, index: int, label: str) -> Transition:
        key = self.keys[index]
        transition = self._done.get(key)
        if transition is None:
            started = time.perf_counter()
            transition = await self._judged(*key)
            self._seconds[key] = time.perf_counter() - started
        self._on_answer(key not in self._done)
        return transition

    async def _judged(self, index: int, name: str) -> Transition:
        session, system, world = self._asked[index].session, self._systems[name], self._worlds[name]
        auction = system.auctions[f"{session.id}.0"]
        self._failures.begin()
        try:
            return await world.step(session, 0, system, index=index, name=name, auction=auction)
        except SimenvError as error:
            return world.failed(session, 0, self._failures.row(error), index=index, name=name, auction=auction)

    def finish(self, indices: Sequence[int], finished: Finished) -> None:
        keys = [self.keys[place] for place in indices]
        if all(key in self._done for key in keys):
            return
        seconds = dict.fromkeys((name for _, name in keys), 0.0)
        for key in keys:
            seconds[key[1]] += self._seconds.pop(key, 0.0)
        self._on_chunk(Finished(finished.transitions, seconds))


def judge_answers(
    asked: Sequence[Asked],
    systems: Mapping[str, WrittenAnswers],
    worlds: Mapping[str, World],
    llms: Sequence[LLM],
    *,
    chunk: int,
    failures: Failures,
    spending: Spending,
    done: Mapping[tuple[int, str], Transition],
    on_answer: Callable[[bool], None],
    on_chunk: Callable[[Finished], None],
) -> None:
    """Judges every answer that is not done, until a ceiling is reached.

    Args:
        asked: The auctions with their answers, by index.
        systems: The systems by name, in the order of the log.
        worlds: The world of each system.
        llms: The models that are asked.
        chunk: Auctions that are passed on together.
        failures: Which verdicts may fail.
        spending: The ceilings.
        done: (index, system) -> transition of finished chunks.
        on_answer: Called after each verdict: with False if it was done before.
        on_chunk: Called with each new chunk, in order.

    Raises:
        SimenvError: a model or the judge raised it. Chunks that were passed on remain valid.
    """
    verdicts = _Verdicts(asked, systems, worlds, failures, done, spending, on_answer, on_chunk)
    in_flight = in_flight_of(llms)

    async def go() -> None:
        with metered(spending):
            chunks: Any = verdicts.chunks(chunk)
            if in_flight is None:
                await run_in_turns(chunks, verdicts)
            else:
                await run_together(chunks, verdicts, in_flight=in_flight, unwritten=in_flight * AHEAD)

    run_sync(go)
