"""The writer that has the ads in the system prompt: one call answers and words them.

Source: Ad-Chat of GEM-Bench (Hu, Zhang, Shi, Xiao, 2025, arXiv 2509.14221), which chooses the ad with calls of its own;
here the mechanism has chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

from simenv import markup
from simenv.files.prompts import read_prompt
from simenv.links import masked_links
from simenv.llm import LinksOnly, Prompt, Sampling
from simenv.records import Ad, Auction
from simenv.text import sentence_spans
from simenv.writer.copy_check import own_words
from simenv.writer.guards import echoes
from simenv.writer.told import Told
from simenv.writer.writer import Writer, finished, lead


class ChatWriter(Writer):
    """One call with the ads in the system prompt writes the answer and the sentences about them.

    An ad that the model leaves out, or behind one that should follow it, is added at the end in the advertiser's own
    words, and sentences with broken or foreign links or talk of the instructions are dropped. A model that cannot
    follow formats hardly writes a link. The log names the ads that the model itself worked in: `details["woven"]`.

    Args:
        llm: The Ad-LLM.
    """

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        """The answer with each of the ads once, in the order given: one call."""
        return (await self.told(auction, ads, sample)).text

    async def told(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> Told:
        """`with_ads`, and the ids of the ads that the model worked in."""
        if not ads:
            return Told(await self.answer(auction), {})
        completion = await self.llm.complete(
            Prompt(
                system=read_prompt(__package__, "chat_system").format(
                    products="\n".join(f"- {ad.link} by {ad.advertiser}: {ad.body}" for ad in ads)
                ),
                user=markup.neutral(auction.query.text, auction),
            ),
            key=(auction.id, "chat", *(ad.id for ad in ads), sample),
            sampling=Sampling(max_tokens=500 if self.llm.follows_formats else 160),
            constraint=LinksOnly(links=tuple(ad.link for ad in ads)) if self._constrains else None,
        )
        text = _valid(auction, finished(auction, completion, every_word=not self.llm.follows_formats), ads)
        if not text or echoes(text, auction.query.text):
            text = await self.answer(auction)
        woven = [ad.id for ad in ads if ad.link in text]
        missing = [f"{lead(ad, i)} {own_words(ad)}" for i, ad in enumerate(ads) if ad.id not in woven]
        return Told(" ".join([text, *missing]).strip(), {"woven": woven})


def _valid(auction: Auction, text: str, ads: Sequence[Ad]) -> str:
    """The text without sentences that break the mark-up or link an ad out of its order.

    Links stay while they are the first of `ads`, in their order: the others can then follow at the end.
    """
    parsed = markup.parse(text, auction)
    in_order = 0
    bad = [violation.span for violation in parsed.violations]
    for ad_id, span in parsed.links.items():
        if in_order < len(ads) and ad_id == ads[in_order].id:
            in_order += 1
        else:
            bad.append(span)
    kept = [
        text[start:stop]
        for start, stop in sentence_spans(masked_links(text))
        if not any(left < stop and start < right for left, right in bad)
    ]
    whole = "".join(kept).strip()
    return whole if not bad or len(kept) == 0 else _valid(auction, whole, ads)
