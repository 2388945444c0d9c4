"""GEM-Bench's judged rubric (Hu, Zhang, Shi and Xiao 2025, arXiv 2509.14221): six grades of an answer, one call each.

A language model reads question and answer, without mark-up, and for two of the grades the products. It ends with a
category in double square brackets; the last one counts. The categories are worth 90, 60, 30 and 0 (`gem_rubric.toml`;
the codes are GEM-Bench's, the words of the prompts ours).

Otherwise here than in GEM-Bench's code: a verdict that cannot be read is an abstention, where the code takes the worst
class in four grades, and 30 in the other two. The weights that the code has for the grades are used nowhere in it, and
are not here.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from simenv import markup
from simenv.background_loop import gather
from simenv.errors import UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.judges.fence import fence_code, neutralize
from simenv.llm.base import LLM, Capability, OneOf, Prompt, Sampling, metered
from simenv.records import Auction, Outcome, Usage

_MAX_CHARS = 20_000
"""Characters of an answer that are graded, as in the judge."""
_NO_ANSWER = "(no answer)"
_VERDICT = re.compile(r"\[\[\s*([A-Za-z_ -]+?)\s*\]\]")


class Point(NamedTuple):
    """One of the six."""

    name: str
    asks: str
    product: bool
    """Whether the judge sees the products."""
    worth: Mapping[str, float]
    """Category -> grade."""
    meaning: Mapping[str, str]
    """Category -> what it means."""


class Graded(NamedTuple):
    """The grades of one answer."""

    grades: dict[str, float | None]
    """By the point's name; None: an abstention, or a product that is not there."""
    unread: tuple[str, ...]
    """The points whose verdict could not be read."""
    usage: Usage


@cache
def points() -> tuple[Point, ...]:
    """The six points, in the order of `gem_rubric.toml`."""
    rows = tomllib.loads(_text())
    found = []
    for name, row in rows.items():
        categories = {code: it for code, it in row.items() if isinstance(it, list)}
        worth = {code: float(grade) for code, (grade, _) in categories.items()}
        meaning = {code: text for code, (_, text) in categories.items()}
        found.append(Point(name, row["asks"], row.get("product", False), worth, meaning))
    return tuple(found)


def read_verdict(reply: str, worth: Mapping[str, float]) -> float:
    """The grade of a judge's reply: that of the last category in double square brackets.

    Args:
        reply: The whole reply.
        worth: Category -> grade. Case does not count, nor a space or hyphen for an underscore.

    Raises:
        UnreadableReply: no category stands in double square brackets, or the last one is not one of these.
    """
    found = _VERDICT.findall(reply)
    if not found:
        raise UnreadableReply(f"no [[CATEGORY]] in {reply.strip()[-120:]!r}")
    category = re.sub(r"[\s-]+", "_", found[-1]).upper()
    if category not in worth:
        raise UnreadableReply(f"category {found[-1]!r}: allowed are {', '.join(worth)}")
    return worth[category]


class Rubric:
    """Grades answers with a language model, six calls an answer.

    Args:
        llm: The judge. A model that does not follow formats and can be constrained says the category alone; the grades
            of such a small model carry no information.
    """

    _SAMPLING = Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=300)

    def __init__(self, llm: LLM) -> None:
        self.name = f"rubric:{llm.name}"
        self._llm = llm
        self._system = read_prompt("simenv.quality", "gem_system")
        self._user, self._products = (read_prompt("simenv.quality", f"gem_{it}") for it in ("user", "products"))
        self._chooses = not llm.follows_formats and llm.can(Capability.CONSTRAINT)
        parts = [self._system, self._user, self._products, _text(), repr(self._SAMPLING), repr(self._chooses)]
        self.sha256 = hashlib.sha256("\n".join(parts).encode()).hexdigest()

    async def grade(self, auction: Auction, outcome: Outcome) -> Graded:
        """Grades one answer. The grades of products are None where the answer shows none."""
        shown = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
        products = "\n".join(f"{ad.title} {ad.url}".strip() + (f": {ad.body}" if ad.body else "") for ad in shown)
        asked = [point for point in points() if shown or not point.product]
        with metered() as meter:
            replies = await gather(self._ask(point, auction, outcome.response, products) for point in asked)
        grades: dict[str, float | None] = {point.name: None for point in points()}
        unread = []
        for point, reply in zip(asked, replies, strict=True):
            try:
                grades[point.name] = read_verdict(reply, point.worth)
            except UnreadableReply:
                unread.append(point.name)
        return Graded(grades, tuple(unread), meter.usage)

    async def _ask(self, point: Point, auction: Auction, response: str, products: str) -> str:
        query, answer, listed = (
            neutralize(text, _MAX_CHARS) or _NO_ANSWER
            for text in (auction.query.text, markup.strip_markup(response), products)
        )
        code = fence_code(auction.id, "gem", point.name, texts=(query, answer, listed))
        user = self._user.format(query=query, response=answer, code=code)
        if point.product:
            user += "\n\n" + self._products.format(products=listed, code=code)
        categories = "\n".join(f"{category}: {text}" for category, text in point.meaning.items())
        completion = await self._llm.complete(
            Prompt(system=self._system.format(asks=point.asks, categories=categories), user=user),
            key=(auction.id, f"gem-{point.name}", 0),
            sampling=self._SAMPLING,
            constraint=OneOf(options=tuple(f"[[{category}]]" for category in point.worth)) if self._chooses else None,
        )
        return completion.text


def _text() -> str:
    return (files("simenv.quality") / "gem_rubric.toml").read_text(encoding="utf-8")
