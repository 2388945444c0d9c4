"""The written format: one call writes the whole answer with its ads.

The prompt lists the candidates, each with the first sentence of its copy, then the user and the request, and at its end
the digits and the repeated labels of the slim format:

    A Purrdust Wood Litter: Low-cost clumping cat litter, which traps smells without perfume.
    ...
    Request: Which litter smells least?
    Values:
    A 6 A A A A

At the end of the prompt they reach a small model's choice after half as many updates as in the lines with the copy. The
model writes the answer. Where it opens a link it chooses a label, and the decoder writes that ad's link in the
label's place (`simenv.llm.LabelledLinks`). So the model decides how many ads there are, up to the auction's `max_ads`,
where they stand and how they are worded; their mark-up is valid by construction.

`TunedWriter` is the writer of other mechanisms on the same model: it places and words the ads that a mechanism chose.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simenv import Writer, markup
from simenv.ctr.models import CTRModel
from simenv.llm import LLM, Completion, LabelledLinks, Prompt, Sampling
from simenv.quality.form import repeats_question
from simenv.records import Ad, Auction
from simenv.writer.copy_check import own_words
from simenv.writer.writer import finished

from .slim import LABELS, Score, digits, line, listed

SAMPLING = Sampling(max_tokens=160)
"""T 0.7, top-p 0.8, top-k 20: the paper's. The limit leaves room for a plain answer of the writer and two ads."""
_SYSTEM = "Answer the request. Show ads that help."


class Written(NamedTuple):
    """A text as the policy wrote it."""

    text: str
    ended: bool = True
    """Whether the policy ended it; if not, it was cut at the limit of tokens."""


class Page(NamedTuple):
    """What the model is asked, and the ads that it may insert."""

    prompt: Prompt
    ads: tuple[Ad, ...]
    most: int
    """Ads that an answer may show."""

    def links(self, *, required: bool = False) -> LabelledLinks:
        """The constraint of the answer, or of its rest behind the prompt's prefill."""
        left = {
            label: ad.link for label, ad in zip(LABELS, self.ads, strict=False) if ad.link not in self.prompt.prefill
        }
        more = max(0, self.most - (len(self.ads) - len(left)))
        return LabelledLinks(links=tuple(left.values()), labels=tuple(left), required=required, most=more)

    def linked(self, text: str) -> list[Ad]:
        """The ads that a text links."""
        return [ad for ad in self.ads if ad.link in text]

    def behind(self, text: str) -> Page:
        """What the model is asked for the rest of an answer that begins with `text`."""
        return self._replace(prompt=self.prompt.model_copy(update={"prefill": text}))


def page(
    auction: Auction,
    *,
    order: Sequence[int] | None = None,
    show_bids: bool = True,
    counts: Mapping[str, int] | None = None,
    shown: Mapping[str, str] | None = None,
    profile: bool = True,
) -> Page:
    """The auction in the written format.

    Args:
        auction: Bids of 0 and bids below the reserve are not offered.
        order: Another order of the candidates, for experiments.
        show_bids: Whether labels are repeated in proportion to the bids. If not, no label is repeated.
        counts: Ad id -> repetitions of its label, in place of the keyed draw.
        shown: Ad id -> the digit of its line, in the order of the list, in place of the retriever's: see `slim.digits`.
        profile: Whether the prompt shows the user's profile as the platform sees it.
    """
    shown = digits(auction) if shown is None else shown
    bids = listed(auction, shown, order)
    counts = counts if show_bids else {bid.ad.id: 0 for bid in bids}
    values = [line(auction, label, "", bid, shown, counts or {}) for label, bid in zip(LABELS, bids, strict=False)]
    return _page(auction, [bid.ad for bid in bids], auction.max_ads, ["Values:", *values], profile=profile)


def winners_page(auction: Auction, ads: Sequence[Ad], *, profile: bool = True) -> Page:
    """A prompt for an answer with these ads, which were chosen already: neither bids nor scores are shown."""
    return _page(auction, list(ads)[: len(LABELS)], len(ads), [], profile=profile)


def _page(auction: Auction, ads: Sequence[Ad], most: int, values: Sequence[str], *, profile: bool) -> Page:
    copies = [f"{label} {ad.title}: {own_words(ad)}" for label, ad in zip(LABELS, ads, strict=False)]
    person = markup.neutral(auction.profile, auction) if profile else ""
    parts = ["Ads:", *copies, *([f"User: {person}"] if person else []), f"Request: {auction.query.text}", *values]
    return Page(Prompt(system=_SYSTEM, user="\n".join(parts)), tuple(ads), most)


def read(auction: Auction, written: Completion | Written) -> str:
    """The answer in a text: whole sentences without loops, and ads that keep to their copy. It makes no call."""
    if isinstance(written, Written):
        written = Completion(text=written.text, finish="stop" if written.ended else "length")
    return finished(auction, written, every_word=True)


def read_with(auction: Auction, written: Completion | Written, ads: Sequence[Ad]) -> str:
    """The answer in a text, and behind it, in the advertisers' own words, those of `ads` that it does not show."""
    text = read(auction, written)
    missing = [ad for ad in ads if ad.link not in text]
    return " ".join([text, *(f"{ad.link}: {own_words(ad)}" for ad in missing)]).strip()


def answers(auction: Auction, text: str) -> bool:
    """Whether a text does more than show ads and repeat the question."""
    plain = " ".join(_parted(auction, text)[0])
    return bool(plain.strip()) and not repeats_question(plain, auction.query.text)


def ads_at_end(auction: Auction, text: str) -> str:
    """The answer with the sentences that link ads moved behind the others, in their order."""
    plain, with_ads = _parted(auction, text)
    return " ".join([*plain, *with_ads])


def _parted(auction: Auction, text: str) -> tuple[list[str], list[str]]:
    """The sentences that link no ad, and those that do."""
    links = [bid.ad.link for bid in auction.bids]
    parts: tuple[list[str], list[str]] = ([], [])
    for piece in markup.sentences(text):
        parts[any(link in piece for link in links)].append(piece)
    return parts


class TunedWriter(Writer):
    """A writer on a model that was trained to write answers with ads in one call.

    Args:
        llm: The model with its adapter.
        profile: Whether its prompts show the user's profile.
        score, ctr: The digit of a candidate: see `slim.offer`.
    """

    def __init__(
        self, llm: LLM, *, profile: bool = True, score: Score = "retriever", ctr: CTRModel | None = None
    ) -> None:
        super().__init__(llm)
        self._profile = profile
        self._score = score
        self._ctr = ctr

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        """The answer with each of the ads once, where the model places them and in its words: one call.

        An ad that the model did not show within the limit of tokens is added in the advertiser's own words.
        """
        if not ads:
            return await self.answer(auction)
        asked = winners_page(auction, ads, profile=self._profile)
        completion = await self.llm.complete(
            asked.prompt,
            key=(auction.id, "tuned-writer", *(ad.id for ad in ads), sample),
            sampling=SAMPLING,
            constraint=asked.links(required=True),
        )
        return await self.answered(auction, read_with(auction, completion, ads))

    async def own_choice(self, auction: Auction, *, show_bids: bool, sample: int = 0) -> str:
        """An answer for which the model chooses the ads, if any: one call."""
        score: Score = "pctr" if self._score == "ecpm" and not show_bids else self._score
        shown = digits(auction, score, self._ctr)
        asked = page(auction, show_bids=show_bids, shown=shown, profile=self._profile)
        completion = await self.llm.complete(
            asked.prompt,
            key=(auction.id, "llm-auction", sample),
            sampling=SAMPLING,
            constraint=asked.links() if asked.ads else None,
        )
        return await self.answered(auction, read_with(auction, completion, asked.linked(completion.text)))

    async def answered(self, auction: Auction, text: str) -> str:
        """A text that was read; if it does not answer, its ads behind a plain answer, which is a further call."""
        if answers(auction, text):
            return text
        return " ".join([await self.answer(auction), *_parted(auction, text)[1]])
