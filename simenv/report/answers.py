"""The answers that the report holds: whole questions, with the answer of every mechanism.

Of a longer log, questions are drawn at random, by a draw that is keyed by the question alone: the same log gives the
same sample, and runs of the same auctions are sampled alike.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from simenv.records import Ad, Persona, Transition
from simenv.report.answer import Row, pack
from simenv.report.groups import PERSONA_GROUPS
from simenv.seeding import keyed_int


class _Question(NamedTuple):
    """A question, the same over runs."""

    auction: str
    text: str
    persona: str


class _Kept(NamedTuple):
    about: tuple[str, str, int, int, float] | tuple[str, str, int, int, float, str, int]
    """Profile and topic, turn, number of ads without a penalty, reserve; where turns are linked session and horizon."""
    rows: list[Row]


class _Numbered(dict[Any, int]):
    """Values in the order of their first use, each once."""

    def number(self, value: Any) -> int:
        return self.setdefault(value, len(self))


class Sample:
    """Adds up answers, and keeps those of a sample of the questions.

    Args:
        most: Most answers that are kept, unless one question has more.
    """

    def __init__(self, most: int) -> None:
        self.answers = 0
        """All answers."""
        self.kept = 0
        """Those that are kept."""
        self._most = most
        self._kept: dict[_Question, _Kept] = {}
        self._queue: list[tuple[int, _Question]] = []
        self._below: int | None = None
        """Questions whose draw is not below it are left out."""
        self._draws: set[int] = set()
        self._ads: dict[Ad, Ad] = {}

    @property
    def questions(self) -> int:
        """Number of different questions among all answers."""
        return len(self._draws)

    @property
    def kept_questions(self) -> int:
        """Number of questions whose answers are kept."""
        return len(self._kept)

    def add(self, t: Transition) -> None:
        """Adds one answer."""
        self.answers += 1
        question = _Question(t.auction.id, t.auction.query.text, t.persona_id)
        draw = keyed_int("report-answers", *question)
        self._draws.add(draw)
        if self._below is not None and draw >= self._below:
            return
        if question not in self._kept:
            a = t.auction
            about = (a.profile, a.query.topic, a.turn, a.max_ads, a.reserve)
            self._kept[question] = _Kept(about if a.horizon is None else (*about, a.session_id, a.horizon), [])
            heapq.heappush(self._queue, (-draw, question))
        self._kept[question].rows.append(pack(t, self._ads))
        self.kept += 1
        while self.kept > self._most and len(self._kept) > 1:
            negative, dropped = heapq.heappop(self._queue)
            self._below = -negative
            self.kept -= len(self._kept.pop(dropped).rows)

    def page(self, mechanisms: Sequence[str], personas: Mapping[str, Persona]) -> dict[str, Any]:
        """Returns what the page is given: rows of ads, personas, candidates, ad-free texts, questions and answers.

        Rows refer to each other by number.

        Args:
            mechanisms: All mechanisms, in the order of the table.
            personas: Persona id -> persona, where they are known.
        """
        ads, candidates, texts, people = _Numbered(), _Numbered(), _Numbered(), _Numbered()
        profiles: list[str] = []
        questions, answers = [], []
        for number, (question, (about, rows)) in enumerate(self._kept.items()):
            profile, *rest = about
            who = people.number(question.persona)
            profiles += [profile] if who == len(profiles) else []
            questions.append([question.auction, question.text, who, *rest])
            for row in sorted(rows, key=lambda row: mechanisms.index(row.mechanism)):
                bids = tuple((ads.number(ad), *numbers) for ad, *numbers in row.bids)
                answer = {"question": number, "mechanism": mechanisms.index(row.mechanism), **row.fields}
                answer["candidates"] = candidates.number(bids)
                if row.ad_free is not None:
                    answer["adFree"] = texts.number(row.ad_free)
                answers.append(answer)
        return {
            "ads": [[ad.id, ad.title, ad.advertiser, ad.category, ad.url, ad.body] for ad in ads],
            "personas": [
                [name, profile, _private(personas.get(name))] for name, profile in zip(people, profiles, strict=True)
            ],
            "candidates": list(candidates),
            "texts": list(texts),
            "questions": questions,
            "answers": answers,
        }


def _private(persona: Persona | None) -> list[tuple[str, str]]:
    """What the judge knows of a persona, and no mechanism: (name, text)."""
    if persona is None:
        return []
    groups = [(by, group(persona)) for by, group in PERSONA_GROUPS.items()]
    return [(name, text) for name, text in [*groups, ("attitude", persona.attitude)] if text]
