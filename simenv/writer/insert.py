"""Writers that put the ads where the answer breaks least: GEM-Bench's pipelines without an auction of their own.

Source: GEM-Bench (Hu, Zhang, Shi, Xiao, 2025, arXiv 2509.14221). GI-R writes the answer and inserts the ad; GIR-R then
has the model smooth the text, with one more call. Which ads are shown is another matter: a mechanism chooses them,
or `gem_insert`, which retrieves them as GEM-Bench does.
"""

from __future__ import annotations

from collections.abc import Sequence

from simenv import markup
from simenv.encoder import Encoder, default_encoder
from simenv.files.prompts import read_prompt
from simenv.links import LINK
from simenv.llm import LLM, LinksOnly, Sampling
from simenv.records import Ad, Auction
from simenv.writer.claims import unsupported
from simenv.writer.copy_check import denials, own_words
from simenv.writer.gaps import best_places, disruption, gaps, with_sentences
from simenv.writer.guards import alike, loops
from simenv.writer.told import Told
from simenv.writer.writer import Writer, corrected, lead


class InsertWriter(Writer):
    """The answer with each ad's own words in a sentence where the text breaks least: no call beyond the answer's.

    The ads stand in the order given, each between two sentences of the answer (`gaps`); those that find no place
    between two sentences stand at the end.

    Args:
        llm: The Ad-LLM.
        encoder: Embeds sentences and ads; the embedded one by default.
    """

    def __init__(self, llm: LLM, encoder: Encoder | None = None) -> None:
        super().__init__(llm)
        self._encoder = encoder

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        """The answer with a sentence for each ad, in the order given."""
        text = await self.answer(auction)
        if not ads:
            return text
        cuts = gaps(text)
        inside = ads[: len(cuts)]
        costs = await disruption(self._encoder or default_encoder(), text, cuts, inside)
        places = [cuts[gap] for gap in best_places(costs)] + [len(text)] * (len(ads) - len(inside))
        return with_sentences(text, places, [f"{lead(ad, i)} {own_words(ad)}" for i, ad in enumerate(ads)])


class SmoothWriter(InsertWriter):
    """The same, then one call that smooths the text around the ads.

    A smoothed text is kept if it has the same sentences in the same order: those with links with the same links, and
    nothing that their ads' copy does not say; the others nearly word by word, with the same numbers, names and
    denials. Otherwise the text stays as it was. The log says which: `details["smoothed"]`.

    Args:
        llm, encoder: See `InsertWriter`.
    """

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        """The answer with a sentence for each ad, in the order given, smoothed if the model keeps to the rules."""
        return (await self.told(auction, ads, sample)).text

    async def told(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> Told:
        """`with_ads`, and whether its text was smoothed."""
        text = await super().with_ads(auction, ads, sample)
        if not ads:
            return Told(text, {})
        smoothed = await self.smoothed(auction, text, sample)
        return Told(smoothed or text, {"smoothed": bool(smoothed)})

    async def smoothed(self, auction: Auction, text: str, sample: int = 0) -> str:
        """The text smoothed by one call; empty if the model broke a rule.

        Args:
            auction: Its candidates are the ads.
            text: An answer with ads as links.
            sample: Index of the sample.
        """
        links = tuple(match.group() for match in LINK.finditer(text))
        completion = await self.llm.complete(
            read_prompt(__package__, "smooth").format(query=auction.query.text, answer=text),
            key=(auction.id, "smooth", *links, sample),
            sampling=Sampling(temperature=0.3, max_tokens=600),
            constraint=LinksOnly(links=links) if self._constrains else None,
        )
        new = completion.text.strip()
        every_word = not self.llm.follows_formats
        return new if completion.finish != "length" and keeps(auction, text, new, every_word=every_word) else ""


def keeps(auction: Auction, before: str, after: str, *, every_word: bool = False) -> bool:
    """Whether a text has the sentences of another in their order, and changes them only around the ads.

    Args:
        auction: Its candidates are the ads.
        before, after: Answers with ads as links.
        every_word: See `copy_check.keeps_to_copy`.
    """
    if markup.parse(after, auction).violations or loops(after):
        return False
    if corrected(auction, after, every_word=every_word) != after:
        return False
    old, new = markup.sentences(before), markup.sentences(after)
    return len(old) == len(new) and all(
        _same_links(a, b) if LINK.search(a + b) else _says_the_same(a, b) for a, b in zip(old, new, strict=True)
    )


def _same_links(before: str, after: str) -> bool:
    return LINK.findall(before) == LINK.findall(after)


def _says_the_same(before: str, after: str) -> bool:
    return (
        alike(before, after)
        and not unsupported(before, [after])[0]
        and not unsupported(after, [before])[0]
        and denials(before) == denials(after)
    )
