"""Genre VCG: bids are for genres of products, ads are inserted into an answer that is written without them.

Source: Xu, Chen, Deng, Huang, Schoenebeck (2026), arXiv 2601.19435. Its full text was not available to us: what follows
is our reading of the abstract and of public notes. They say: the answer is written without ads; screened ads are then
inserted at the ends of paragraphs, disclosed; advertisers bid on genres (stable classes such as hotels), not on
queries; the platform scores the coherence C of a genre at each point; a VCG auction sells the points, approximately
truthful and efficient with errors from C and from bidding on a genre instead of a query.

Value of an ad of genre g with bid b at point s: (b - reserve) C(g, s), with C in [0, 1].

Allocation: the matching of ads to points that maximises the sum of values, at most one ad at a point and at most K in
all. The best K' + 1 bids of each genre suffice for the matching and for every payment, where K' is the smaller of K and
the number of points: ads of a genre differ in their bids alone, at most K' are shown, and without one of them the next
takes its place (derived by us; held against all ads in tests).

Payment: VCG, the others' best sum without the ad less their sum with it (`matching.losses`), and the reserve per click.

Our choices:
- An ad's genre is its category in the catalog; its bid per click counts as its bid for the genre.
- A point is the end of a paragraph. An answer of one paragraph has the ends of its sentences as points.
- The inserted line is "Sponsored: ", the link, and the advertiser's own copy. No text is generated for it.
- C by embeddings: the click prediction of the `ctr_model` for an ad that says no more than its genre's name, with the
  cosine of this name and the question with the passage before the point. With the cosine model C = sigmoid(8 (cos -
  0.4)). A learned model adds its estimate of the category; it knows nothing of the single ad.
- C by the judge: the Ad-LLM grades genre and passage from 1 to 5, and C = (grade - 1) / 4. It is the expected grade
  where the model gives probabilities. A pair whose grade cannot be read is not sold: C = 0.
- By default C counts as the probability of a click, and the payment is charged per click, divided by C. The charge
  "answer" makes no use of this: the payment is then a transfer for the answer, whatever is clicked.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from simenv import Writer, markup, outcome
from simenv.background_loop import gather
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.encoder import Encoder
from simenv.errors import InputError
from simenv.files.prompts import read_prompt
from simenv.llm import LLM, Capability, OneOf, Prompt, Sampling
from simenv.mechanism import Claim
from simenv.records import Ad, Auction, Bid, Outcome

from .insertion import disclosed, passage_before, points
from .matching import best_places, losses
from .passages import in_context

Coherence = Literal["embeddings", "judge"]
Charge = Literal["click", "answer"]
Indices = npt.NDArray[np.intp]
_NEEDED = (Capability.LOGPROBS, Capability.CONSTRAINT, Capability.PREFILL)
_GRADES = ("1", "2", "3", "4", "5")
_GRADE = re.compile(r"^\W*([1-5])\b(?!\s*[-–]\s*\d)")
_REMEMBERED = 100_000
"""Number of grades that are kept for the predictions of clicks in finished answers; the oldest are dropped first."""


class GenreCTR:
    """Clicks by genre and place: C of the ad's genre after the passage that stands before the ad.

    Args:
        base: Predicts a click from the cosine of a genre's name.
        encoder: For these cosines; the embedded one by default.
        graded: Whether C comes from grades, which the mechanism puts into `grades`.
    """

    position_discount = 1.0

    def __init__(self, base: CTRModel, encoder: Encoder | None = None, *, graded: bool = False) -> None:
        self.base = base
        self.name = f"genre({base.name})" if not graded else "genre(judge)"
        self.graded = graded
        self.grades: dict[tuple[str, str, str], float] = {}
        """(Question, passage, genre) -> C."""
        self._encoder = encoder

    def relevance(self, auction: Auction) -> Floats:
        """C of each candidate's genre before there is an answer, always by embeddings."""
        return self._of_bids(auction, self._embedded(auction, [""]))[:, 0]

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        links = markup.parse(response, auction).links
        passages = [passage_before(response, links[ad_id][0]) for ad_id in shown]
        rows = [bid.ad.id for bid in auction.bids]
        table = self._of_bids(auction, self.coherence(auction, passages)) if passages else np.zeros((len(rows), 0))
        return {ad_id: float(table[rows.index(ad_id), column]) for column, ad_id in enumerate(shown)}

    def coherence(self, auction: Auction, passages: Sequence[str]) -> Floats:
        """C of each genre of `genres` after each passage: shape (genres, passages).

        Raises:
            InputError: C comes from grades, and the mechanism has not graded one of these passages.
        """
        if not self.graded:
            return self._embedded(auction, passages)
        rows = []
        for genre in genres(auction):
            keys = [(auction.query.text, passage, genre) for passage in passages]
            missing = [passage for _, passage, _ in keys if (auction.query.text, passage, genre) not in self.grades]
            if missing:
                raise InputError(f"the genre {genre!r} was not graded after the passage {missing[0]!r:.80}")
            rows.append([self.grades[key] for key in keys])
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(passages))

    def _embedded(self, auction: Auction, passages: Sequence[str]) -> Floats:
        names = genres(auction)
        bids = tuple(
            Bid(ad=Ad(id=f"genre-{k}", advertiser="", title=_title(name), category=name), amount=0.0)
            for k, name in enumerate(names)
        )
        by_genre = auction.model_copy(update={"bids": bids})
        columns = [self.base.relevance(in_context(by_genre, passage, self._encoder)) for passage in passages]
        return np.stack(columns, axis=1) if names else np.zeros((0, len(passages)))

    @staticmethod
    def _of_bids(auction: Auction, table: Floats) -> Floats:
        row = {name: k for k, name in enumerate(genres(auction))}
        return np.asarray(table[[row[bid.ad.category] for bid in auction.bids]], dtype=np.float64)


class GenreVCG:
    """Genre VCG: matches ads to paragraph ends by bid x coherence of the ad's genre, pays VCG prices.

    DSIC for utility maximisers, individually rational and monotone in its own model, in which C is the probability of a
    click. In a world with other clicks the audit measures its regret.

    Args:
        llm: The Ad-LLM; with the coherence "judge" also the judge.
        ctr_model: Maps the cosine of a genre's name and a passage to C.
        slots: K, the largest number of ads; the auction's max_ads by default.
        coherence: "embeddings", or "judge": grades of the Ad-LLM, one request for each genre and point.
        charge: "click": payment / C for a click. "answer": the payment as a transfer, and only the reserve per click.
        encoder: For the cosines; the embedded one by default.

    Raises:
        InputError: `slots` is not an integer of 0 or more, or another coherence or charge.
    """

    name = "genre_vcg"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM, Claim.BID_FREE_CANDIDATES})

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        coherence: Coherence = "embeddings",
        charge: Charge = "click",
        encoder: Encoder | None = None,
    ) -> None:
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 0):
            raise InputError(f"slots must be a number of ads, 0 or more, got {slots!r}")
        if coherence not in get_args(Coherence):
            raise InputError(f"coherence must be one of {', '.join(get_args(Coherence))}, got {coherence!r}")
        if charge not in get_args(Charge):
            raise InputError(f"charge must be one of {', '.join(get_args(Charge))}, got {charge!r}")
        self.ctr_model = GenreCTR(ctr_model or CosineCTR(), encoder, graded=coherence == "judge")
        self.slots = slots
        self.charge = charge
        self._llm = llm
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        cut = points(await self._writer.answer(auction))
        unreadable = await self._grade(auction, cut.passages) if self.ctr_model.graded else 0
        coherence = self.ctr_model.coherence(auction, cut.passages)
        places, paid = self.allocate(auction, coherence)
        lines = {j: disclosed(auction.bid_of(ad_id).ad, auction) for ad_id, j in places.items()}
        row = {name: k for k, name in enumerate(genres(auction))}
        fit = {ad_id: float(coherence[row[auction.bid_of(ad_id).ad.category], j]) for ad_id, j in places.items()}
        prices, transfers = dict.fromkeys(places, auction.reserve), paid
        if self.charge == "click":
            # min: dividing by C may exceed the bid by a rounding error
            prices = {i: min(auction.bid_of(i).amount, auction.reserve + paid[i] / fit[i]) for i in places}
            transfers = {}
        details = {"coherence": fit, "points": len(cut.pieces)} | ({"unreadable": unreadable} if unreadable else {})
        return outcome(auction, cut.insert(lines), prices, transfers=transfers, details=details)

    def allocate(self, auction: Auction, coherence: Floats) -> tuple[dict[str, int], dict[str, float]]:
        """Shown ad id -> its point, and -> its VCG payment beyond the reserve, in currency per answer.

        Args:
            auction: The auction.
            coherence: C of each genre of `genres` at each point: shape (genres, points).
        """
        most = auction.max_ads if self.slots is None else self.slots
        row = {name: k for k, name in enumerate(genres(auction))}
        values = np.array([bid.amount - auction.reserve for bid in auction.bids], dtype=np.float64)
        genre = np.array([row[bid.ad.category] for bid in auction.bids], dtype=np.intp)
        places, paid = clear(values, genre, coherence, most)
        ids = [bid.ad.id for bid in auction.bids]
        return {ids[i]: j for i, j in places.items()}, {ids[i]: amount for i, amount in paid.items()}

    async def _grade(self, auction: Auction, passages: Sequence[str]) -> int:
        """Grades each genre after each passage; returns the number of grades that could not be read."""
        memory = self.ctr_model.grades
        keys = [(auction.query.text, passage, genre) for passage in passages for genre in genres(auction)]
        found = await gather(self._fit(auction, passage, genre) for _, passage, genre in keys)
        for key, fit in zip(keys, found, strict=True):
            memory.pop(key, None)
            memory[key] = fit or 0.0
        while len(memory) > max(_REMEMBERED, len(keys)):
            del memory[next(iter(memory))]
        return found.count(None)

    async def _fit(self, auction: Auction, passage: str, genre: str) -> float | None:
        """(grade - 1) / 4; None if the reply has no grade."""
        text = read_prompt(__package__ or "mechanisms", "genre_fit").format(
            query=auction.query.text, passage=passage, genre=genre
        )
        if all(self._llm.can(capability) for capability in _NEEDED):
            options = tuple(f" {grade}" for grade in _GRADES)
            rows = await self._llm.logprob(
                Prompt(user=text, prefill="Grade:"), options, constraint=OneOf(options=options)
            )
            weights = [math.exp(sum(row)) for row in rows]
            return sum(k * weight for k, weight in enumerate(weights)) / sum(weights) / 4
        reply = await self._llm.complete(
            text, key=(auction.id, "genre-fit", genre, passage), sampling=Sampling(temperature=0.0, max_tokens=8)
        )
        grade = _GRADE.match(reply.text)
        return (int(grade[1]) - 1) / 4 if grade else None


def clear(values: Floats, genre: Indices, coherence: Floats, most: int) -> tuple[dict[int, int], dict[int, float]]:
    """Shown candidate -> its point, and -> its VCG payment, in currency per answer.

    Args:
        values: Bids above the reserve, currency per click: shape (n,).
        genre: Row of each candidate's genre in `coherence`: shape (n,).
        coherence: C of each genre at each point: shape (genres, points).
        most: The largest number of ads.
    """
    kept = best_of_each(values, genre, min(most, coherence.shape[1]) + 1)
    gains = values[kept, None] * coherence[genre[kept]]
    places = best_places(gains, most)
    paid = {int(kept[i]): float(np.clip(lost, 0.0, gains[i, places[i]])) for i, lost in losses(gains, places).items()}
    return {int(kept[i]): j for i, j in places.items()}, paid


def genres(auction: Auction) -> list[str]:
    """The categories of the candidates, in alphabetical order."""
    return sorted({bid.ad.category for bid in auction.bids})


def best_of_each(values: Floats, genre: Indices, most: int) -> Indices:
    """Indices of the `most` highest positive values of each genre, in the candidates' order; ties to the earlier one.

    Args:
        values: Bids above the reserve, currency per click: shape (n,).
        genre: Number of each candidate's genre: shape (n,).
        most: How many of each genre.
    """
    eligible = np.flatnonzero(values > 0)
    order = eligible[np.lexsort((-values[eligible], genre[eligible]))]
    starts = np.searchsorted(genre[order], genre[order])
    return np.sort(order[np.arange(len(order)) - starts < most])


def _title(name: str) -> str:
    """A category as the title of an ad: without the characters of links, and never empty."""
    return " ".join(re.sub(r"[@\[\]\s]", " ", name).split())[:120] or "general"
