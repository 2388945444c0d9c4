"""Requests texts from a language model: plain answers, ad sentences, and answers with ads that the model chooses.

Pre-generation mechanisms know the winners before the text: they request the answer, then one sentence per winner with a
given link. If the model chooses the ads, there are two styles. Capable models write answer and ads in one call with the
paper's prompt (LLM-Auction, section 5.1 step 2). Small models cannot follow that format, so they work in stages: the
answer, then a constrained choice of one link or none, then the sentence with that link.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from simenv import markup
from simenv.files.prompts import read_prompt
from simenv.llm import LLM, PLAIN, Capability, LinksOnly, Prompt, Sampling
from simenv.records import Ad, Auction, Bid
from simenv.text import stops
from simenv.writer.choices import one_call_prompt, question, question_in_context

_STUCK = re.compile(r"(\b\w[^.!?]{0,40}?)(?:\W+\1\b){2,}")
"""The same words three times in a row: small models often repeat them without end."""
_LEADS = ("One option worth a look is", "You could also consider", "Another that may help is")
_PACKAGE = "simenv.writer"


class Writer:
    """Writes the texts of a mechanism: the same prompts, limits and checks for yours and for those that ship.

    A mechanism that chooses the ads itself needs `with_ads`; one where the language model chooses needs `own_choice`.
    All methods return the text of an answer with the ads as links, which `simenv.outcome` reads. Every random draw is
    keyed by the auction's id, so a text does not depend on the bids unless they are shown to the model.

    Args:
        llm: The Ad-LLM.
        answer_tokens: Maximum number of tokens of a plain answer. Models that follow formats get 400.
        sentence_tokens: Maximum number of tokens of an ad sentence after its link.
    """

    def __init__(self, llm: LLM, *, answer_tokens: int = 80, sentence_tokens: int = 32) -> None:
        self.llm = llm
        self._answer_sampling = Sampling(max_tokens=answer_tokens if not llm.follows_formats else 400)
        # A lower temperature than for the answer: the sentence should keep to the ad's facts.
        self._sentence_sampling = Sampling(temperature=0.3, max_tokens=sentence_tokens, stop=("\n",))
        self._constrains = llm.can(Capability.CONSTRAINT) and llm.can(Capability.PREFILL)

    async def answer(self, auction: Auction) -> str:
        """The answer without ads. It depends only on the query, so every mechanism gets the same answer."""
        completion = await self.llm.complete(
            Prompt(system=read_prompt(_PACKAGE, "answer_system"), user=auction.query.text),
            key=(auction.id, "answer", 0),
            sampling=self._answer_sampling,
            constraint=LinksOnly() if self._constrains else None,
        )
        text = markup.neutral(completion.text, auction).strip()
        return _whole_sentences(text) if completion.finish == "length" else text

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        """The answer followed by one sentence for each ad, in the order given.

        Args:
            auction: Only its id and its query are used.
            ads: The ads to show, of any number. Each becomes one link.
            sample: Index of the sample; another index gives other sentences after the same answer.
        """
        text = await self.answer(auction)
        for ad in ads:
            text = await self.add_sentence(auction, text, ad, sample)
        return text

    async def add_sentence(self, auction: Auction, text: str, ad: Ad, sample: int = 0) -> str:
        """The text with a sentence about the ad at its end. The link is always valid.

        With a constrained model the link is part of the prefill. Other models get the link in the prompt; if the model
        does not copy it exactly, the advertiser's own copy is shown instead of the model's sentence.
        """
        key = (auction.id, "ad-sentence", ad.id, sample)
        if self._constrains:
            lead = _LEADS[text.count("]") % len(_LEADS)]  # by the number of ads before this one
            opening = f"{text} {lead} {ad.link},".strip()  # after the comma the model describes the product
            tail = await self.llm.complete(
                self.sentence_prompt(auction, ad, opening),
                key=key,
                sampling=self._sentence_sampling,
                constraint=LinksOnly(),
            )
            return opening + end_of_sentence(tail.text)
        reply = await self.llm.complete(
            read_prompt(_PACKAGE, "ad_sentence_free").format(answer=text, link=ad.link, **_facts(auction, ad)),
            key=key,
            sampling=Sampling(max_tokens=120),
        )
        sentence = markup.with_one_link(" ".join(reply.text.split()), ad, auction)
        if sentence is None:
            sentence = f"{ad.link}: {markup.neutral(ad.body or ad.advertiser, auction)}"
        return f"{text} {sentence}".strip()

    @staticmethod
    def sentence_prompt(auction: Auction, ad: Ad, opening: str) -> Prompt:
        """The prompt for the rest of a sentence about an ad.

        Args:
            auction: Only its query is used.
            ad: The ad.
            opening: The text so far, with the beginning of the sentence and its link. The completion continues it.
        """
        return Prompt(
            system=read_prompt(_PACKAGE, "answer_system"),
            user=read_prompt(_PACKAGE, "ad_sentence").format(**_facts(auction, ad)),
            prefill=opening,
        )

    async def own_choice(self, auction: Auction, *, show_bids: bool, sample: int = 0) -> str:
        """An answer for which the model chooses the ads to show, if any.

        Args:
            auction: Bids below its reserve are not offered to the model.
            show_bids: Whether the prompt shows the bids. If not, the text depends on them only through the reserve.
            sample: Index of the sample; another index gives another draw.
        """
        bids = [bid for bid in auction.bids if bid.amount >= auction.reserve]
        if self.llm.follows_formats:
            return await self._one_call(auction, bids, show_bids, sample)
        text = await self.answer(auction)
        for place in range(auction.max_ads):
            ad = await self._choose(auction, bids, show_bids, (sample, place))
            if ad is None:
                break
            text = await self.add_sentence(auction, text, ad, sample)
            bids = [bid for bid in bids if bid.ad.id != ad.id]
        return text

    async def _one_call(self, auction: Auction, bids: Sequence[Bid], show_bids: bool, sample: int) -> str:
        reply = await self.llm.complete(
            one_call_prompt(auction, bids, show_bids=show_bids),
            key=(auction.id, "one-call", sample),
            sampling=Sampling(max_tokens=500),
            constraint=LinksOnly(links=tuple(bid.ad.link for bid in bids)) if self._constrains else None,
        )
        return reply.text.strip()

    async def choice_logprobs(
        self, auction: Auction, taken: Collection[str] = (), *, in_context: bool = False
    ) -> dict[str, float]:
        """Log-probability of each next choice of the two-stage writer without bids.

        The choices are the candidates not in `taken`, and "" for none. On models that do not follow formats,
        `own_choice` without bids and reserve draws from this distribution.

        Args:
            auction: All its candidates are offered, at any bid.
            taken: Ids of ads that are in the text already.
            in_context: Use the prompt that also shows the user's profile and the advertisers' own copy.

        Raises:
            MissingCapability: the model cannot score continuations or cannot be constrained.
        """
        bids = [bid for bid in auction.bids if bid.ad.id not in taken]
        if not bids:
            return {"": 0.0}
        prompt, options = question_in_context(auction, bids) if in_context else question(auction, bids, show_bids=False)
        rows = await self.llm.logprob(prompt, options.options, sampling=PLAIN, constraint=options)
        return dict(zip([*(bid.ad.id for bid in bids), ""], map(sum, rows), strict=True))

    async def _choose(
        self, auction: Auction, bids: Sequence[Bid], show_bids: bool, sample: tuple[int, int]
    ) -> Ad | None:
        if not bids:
            return None
        prompt, options = question(auction, bids, show_bids)
        reply = await self.llm.complete(prompt, key=(auction.id, "choose", *sample), sampling=PLAIN, constraint=options)
        return next((bid.ad for bid in bids if bid.ad.link == reply.text.strip()), None)


def _facts(auction: Auction, ad: Ad) -> dict[str, str]:
    return {"query": auction.query.text, "title": ad.title, "advertiser": ad.advertiser, "body": ad.body}


def _whole_sentences(text: str) -> str:
    """Removes the unfinished last sentence of a text that was cut at its token limit."""
    whole = text[: max(stops(text), default=0)]
    return whole.strip() or text


def end_of_sentence(tail: str) -> str:
    """Cuts the continuation of an opening at the end of its sentence, and adds a full stop if there is none.

    Words that occur three or more times in a row are kept once.
    """
    tail = _STUCK.sub(r"\1", tail)
    ends = stops(tail)
    text = tail[: ends[0]] if ends else tail.rstrip(" ,;:-")
    text = f" {text.lstrip()}" if text.strip() else " which may help"
    return text if text.endswith((".", "!", "?")) else f"{text}."
