"""Requests texts from a language model: plain answers, ad sentences, and answers with ads that the model chooses.

Pre-generation mechanisms know the winners before the text: they request the answer, then one sentence per winner with a
given link. If the model chooses the ads, there are two styles. Capable models write answer and ads in one call with the
paper's prompt (LLM-Auction, section 5.1 step 2). Small models cannot follow that format, so they work in stages: the
answer, then a constrained choice of one link or none, then the sentence with that link.

Every text is checked. An answer that loops (`guards.py`), repeats the question or has no whole sentence, and a sentence
that says what the advertiser did not say (`copy_check.py`), are requested again with other keys. After a few draws the
answer is cut to its good part, and the sentence is replaced by the advertiser's own words.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from simenv import markup
from simenv.files.prompts import read_prompt
from simenv.links import LINK, masked_links
from simenv.llm import LLM, PLAIN, Capability, Completion, Key, LinksOnly, Prompt, Sampling
from simenv.records import Ad, Auction, Bid
from simenv.text import sentence_spans, stops
from simenv.writer.choices import one_call_prompt, question, question_in_context
from simenv.writer.copy_check import keeps_to_copy, own_words
from simenv.writer.guards import echoes, loops, whole_clauses, whole_sentences, without_loops

_LEADS = ("One option worth a look is", "You could also consider", "Another that may help is")
_PACKAGE = "simenv.writer"
_ANSWER_DRAWS = 3
"""Maximum number of requests for one answer."""
_SENTENCE_DRAWS = 2
"""The same for a sentence. A third draw does not pay: of GSP's ads on the embedded model, 38% had the model's own
sentence after at most two draws (16 questions), and 33% after at most three (12 questions)."""


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

    def __init__(self, llm: LLM, *, answer_tokens: int = 80, sentence_tokens: int = 48) -> None:
        self.llm = llm
        self._answer_sampling = Sampling(max_tokens=answer_tokens if not llm.follows_formats else 400)
        # A lower temperature than for the answer: the sentence should keep to the ad's facts.
        self._sentence_sampling = Sampling(temperature=0.3, max_tokens=sentence_tokens, stop=("\n",))
        self._constrains = llm.can(Capability.CONSTRAINT) and llm.can(Capability.PREFILL)

    async def answer(self, auction: Auction) -> str:
        """The answer without ads. It depends only on the query, so every mechanism gets the same answer."""
        drafts: list[str] = []
        for draw in range(_ANSWER_DRAWS):
            completion = await self.llm.complete(
                Prompt(system=read_prompt(_PACKAGE, "answer_system"), user=auction.query.text),
                key=(auction.id, "answer", draw),
                sampling=self._answer_sampling,
                constraint=LinksOnly() if self._constrains else None,
            )
            text = markup.neutral(completion.text, auction).strip()
            whole = whole_sentences(text) if completion.finish == "length" else text
            if whole and not loops(whole) and not echoes(whole, auction.query.text):
                return whole
            drafts.append(without_loops(whole) or whole_clauses(text))
        return next(filter(None, drafts), "")

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

        With a constrained model the link is part of the prefill. Other models get the link in the prompt. If no draw
        copies it exactly and keeps to the ad's copy, the sentence has the first sentence of that copy.
        """
        opening = lead(ad, text.count("]"))
        for draw in range(_SENTENCE_DRAWS):
            key: Key = (auction.id, "ad-sentence", ad.id, sample) + ((draw,) if draw else ())
            if self._constrains:
                completion = await self.llm.complete(
                    self.sentence_prompt(ad, opening),
                    key=key,
                    sampling=self._sentence_sampling,
                    constraint=LinksOnly(),
                )
                sentence = f"{opening} {rest}" if (rest := first_sentence(completion)) else ""
            else:
                completion = await self.llm.complete(
                    read_prompt(_PACKAGE, "ad_sentence_free").format(
                        answer=text, link=ad.link, query=auction.query.text, **_facts(ad)
                    ),
                    key=key,
                    sampling=Sampling(max_tokens=120),
                )
                sentence = whole_sentences(completion.text) if completion.finish == "length" else completion.text
                sentence = " ".join(sentence.split())
            if self.accepts(auction, sentence, ad):
                return f"{text} {sentence}".strip()
        return f"{text} {opening} {own_words(ad)}".strip()

    def accepts(self, auction: Auction, sentence: str, ad: Ad) -> bool:
        """Whether a sentence links this ad and no other, says only what its copy says, and does not loop.

        Args:
            auction: The names and numbers of its query may stand before the link; its candidates' ids may not occur.
            sentence: One sentence, or a short passage.
            ad: The ad.
        """
        return (
            markup.links_only(ad, sentence, auction)
            and not loops(sentence)
            and keeps_to_copy(sentence, ad, query=auction.query.text, every_word=not self.llm.follows_formats)
        )

    @staticmethod
    def sentence_prompt(ad: Ad, opening: str) -> Prompt:
        """The prompt for the rest of a sentence about an ad.

        It shows neither the question nor the answer: of 24 first draws of the embedded model, 9 kept to the copy with
        this prompt, and 1 with a prompt that asks for a continuation of the answer.

        Args:
            ad: The ad.
            opening: The beginning of the sentence with its link. The completion continues it.
        """
        return Prompt(
            system=read_prompt(_PACKAGE, "ad_sentence_system"),
            user=read_prompt(_PACKAGE, "ad_sentence").format(**_facts(ad)),
            prefill=opening,
        )

    async def own_choice(self, auction: Auction, *, show_bids: bool, sample: int = 0) -> str:
        """An answer for which the model chooses the ads to show, if any.

        Args:
            auction: Bids below its reserve are not offered to the model.
            show_bids: Whether the prompt shows the bids. If not, the text depends on them only through the reserve.
            sample: Index of the sample; another index gives another draw.
        """
        bids = [bid for bid in auction.bids if auction.admits(bid)]
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
        """One call, and no further draw: another text could have other ads, and the choice is the model's."""
        reply = await self.llm.complete(
            one_call_prompt(auction, bids, show_bids=show_bids),
            key=(auction.id, "one-call", sample),
            sampling=Sampling(max_tokens=500),
            constraint=LinksOnly(links=tuple(bid.ad.link for bid in bids)) if self._constrains else None,
        )
        return finished(auction, reply)

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


def lead(ad: Ad, place: int) -> str:
    """The beginning of a sentence about an ad, with its link: another one for the next ad of the text."""
    return f"{_LEADS[place % len(_LEADS)]} {ad.link}:"


def first_sentence(completion: Completion) -> str:
    """The first sentence of a completion that continues an opening; empty if it was cut before its end."""
    text = completion.text.strip()
    ends = stops(text)
    if ends:
        return text[: ends[0]]
    text = text.rstrip(" ,;:-")
    return f"{text}." if text and completion.finish == "stop" else ""


def finished(auction: Auction, completion: Completion, *, every_word: bool = False) -> str:
    """The answer that a completion with links holds: whole sentences, no loops, and ads that keep to their copy.

    The model chose the ads, so no check drops one: an ad's sentence that was cut at the limit of tokens, or that loops,
    or that says more than the copy, is written in the advertiser's own words. Of an answer that loops nothing is left
    where no words are left before its first ad.

    Args:
        auction: Its candidates are the ads.
        completion: An answer in one call, with any number of links.
        every_word: See `keeps_to_copy`.
    """
    text = completion.text.strip()
    if completion.finish == "length":
        text = _last_ad_completed(auction, text) or whole_sentences(text) or whole_clauses(text)
    return corrected(auction, _without_loops(auction, text) if loops(text) else text, every_word=every_word)


def _last_ad_completed(auction: Auction, text: str) -> str:
    """The text with the advertiser's own words in place of the end of a cut sentence; empty if it links no ad."""
    begun = len(whole_sentences(masked_links(text)))
    cut = text[begun:]
    ads = _shown(cut, _by_link(auction))
    return text[: begun + cut.index(ads[0].link)] + _in_own_words(ads) if ads else ""


def _without_loops(auction: Auction, text: str) -> str:
    """The text without its plain sentences from the first that loops on, and with ads that loop in own words.

    It is empty if no plain words are left before the first ad.
    """
    kept, looped, candidates = "", False, _by_link(auction)
    for start, stop in sentence_spans(masked_links(text)):
        piece = text[start:stop]
        ads = _shown(piece, candidates)
        if not ads:
            looped = looped or loops(kept + piece)
            kept += "" if looped else piece
            continue
        kept = kept if kept.strip() else whole_clauses(text[:start])
        if not kept.strip():
            return ""
        kept += _reworded(piece, ads) if loops(kept + piece) else piece
    return kept.strip()


def _in_own_words(ads: Sequence[Ad]) -> str:
    return " ".join(f"{ad.link}: {own_words(ad)}" for ad in ads)


def _reworded(piece: str, ads: Sequence[Ad]) -> str:
    """The advertisers' own words in the place of a piece, behind its white space."""
    return piece[: len(piece) - len(piece.lstrip())] + _in_own_words(ads)


def _by_link(auction: Auction) -> dict[str, Ad]:
    return {bid.ad.link: bid.ad for bid in auction.bids}


def _shown(piece: str, candidates: Mapping[str, Ad]) -> list[Ad]:
    """The candidates that a piece of a text links, in its order."""
    return [candidates[link] for link in _links(piece) if link in candidates]


def corrected(auction: Auction, text: str, *, every_word: bool = False) -> str:
    """The text with the advertisers' own words in place of each sentence about ads that says more than their copy.

    Args:
        auction: Its candidates are the ads.
        text: An answer with any number of links.
        every_word: See `keeps_to_copy`.
    """
    pieces, candidates = [], _by_link(auction)
    for start, stop in sentence_spans(masked_links(text)):
        piece = text[start:stop]
        shown = _shown(piece, candidates)
        if not all(
            keeps_to_copy(_alone(piece, ad), ad, query=auction.query.text, every_word=every_word) for ad in shown
        ):
            piece = _reworded(piece, shown)
        pieces.append(piece)
    return "".join(pieces)


def _links(piece: str) -> list[str]:
    return [match.group() for match in LINK.finditer(piece)]


def _alone(piece: str, ad: Ad) -> str:
    """The piece without the links of other ads."""
    for link in _links(piece):
        piece = piece if link == ad.link else piece.replace(link, " ")
    return piece


def _facts(ad: Ad) -> dict[str, str]:
    return {"title": ad.title, "advertiser": ad.advertiser, "body": ad.body}
