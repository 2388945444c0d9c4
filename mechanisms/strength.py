"""How strongly a rewriting advertises: contrastive decoding of two prompts, or levels in the prompt.

Source: PILA (Zhang et al., 2026, arXiv 2607.25590), of which we know second-hand notes alone: a side model that was
trained to rewrite an ad-free answer for one ad, with a strength rho set by contrastive decoding on the logits of two
models. Here the two are the same language model with two prompts, with the ad and without:

    logits = logits_ad + rho (logits_ad - logits_plain)

So rho = -1 is the plain prompt, 0 the prompt with the ad, and above 0 every token counts for more the more the ad makes
it likely. Of each step only tokens with at least a tenth of the largest probability under the prompt with the ad
may be drawn, as in contrastive decoding (Li et al., 2022, arXiv 2210.15097): without it, rare tokens win at high rho.
That bound, the prompts and the scale of rho are ours.
"""

from __future__ import annotations

import math
import re

import numpy as np

from simenv import markup
from simenv.ctr.models import Floats
from simenv.files.prompts import read_prompt
from simenv.links import LINK, masked_links
from simenv.llm import LLM, Capability, Combined, LinksOnly, Prompt, Sampling
from simenv.records import Ad, Auction, Record
from simenv.text import sentence_spans
from simenv.writer.claims import unsupported
from simenv.writer.gaps import gaps
from simenv.writer.guards import whole_sentences, without_loops
from simenv.writer.writer import corrected, lead

_PACKAGE = __package__ or "mechanisms"
NEEDED = (Capability.ENSEMBLE, Capability.CONSTRAINT, Capability.PREFILL)
MOST = 1e6
"""The largest strength. With it the most contrasted token is certain; far above it scores are no floats."""
_PLAUSIBLE = 0.1
_LEVELS = (
    (-math.inf, "Mention the product in passing, in a clause."),
    (0.5, "Mention the product in a sentence of its own."),
    (1.5, "Recommend the product, and say what it offers."),
    (3.0, "Make the product the main point of the answer."),
)
"""The strength from which each sentence is added to the prompt."""


class Contrast(Record):
    """Draws a token from the contrast of two distributions: with the ad, and without."""

    strength: float
    """rho, from -1 to MOST."""

    def __call__(self, logprobs: Floats, rng: np.random.Generator) -> Combined:
        columns, probs = self.mix(logprobs)
        cdf = np.cumsum(probs)
        place = min(int(np.searchsorted(cdf, rng.random() * cdf[-1], side="right")), len(cdf) - 1)
        return Combined(int(columns[place]), float(np.log(probs[place])), ())

    def mix(self, logprobs: Floats) -> tuple[np.ndarray[tuple[int], np.dtype[np.intp]], Floats]:
        """The tokens that may be drawn, and their probabilities. `logprobs`: shape (2, vocab), with the ad first."""
        with_ad, plain = logprobs
        columns = np.flatnonzero(with_ad >= with_ad.max() + math.log(_PLAUSIBLE))
        own = with_ad[columns]
        scores = own + self.strength * (own - np.maximum(plain[columns], -700.0))  # -inf: too small for a number
        weights = np.exp(scores - scores.max())
        return columns, np.asarray(weights / weights.sum())


def level(strength: float) -> str:
    """The sentence of the prompt that asks for this strength, for models whose logits are not known."""
    return [text for least, text in _LEVELS if strength >= least][-1]


async def contrasted(llm: LLM, auction: Auction, text: str, ad: Ad, strength: float) -> str:
    """The text rewritten around one more ad behind those that it has; it may lack the ad's link.

    The text stays as it is up to the end of its first sentence, or of that with the last link. What the model writes
    behind it loses sentences with numbers or names that are in neither the text, nor the question, nor the ad's copy.

    Args:
        llm: A model with the capabilities `NEEDED`.
        auction: Its candidates are the ads.
        text: The answer so far.
        ad: The ad.
        strength: rho.
    """
    last = max((match.end() for match in LINK.finditer(text)), default=0)
    beginning = text[: next((cut for cut in gaps(masked_links(text)) if cut >= last), len(text))]
    asked = {"query": auction.query.text, "answer": text}
    product = f"{lead(ad, text.count(']'))} {ad.body}"
    prompts = [_prompt("strength_ad", beginning, **asked, product=product), _prompt("strength", beginning, **asked)]
    completion = await llm.ensemble_decode(
        prompts,
        Contrast(strength=strength),
        key=(auction.id, "contrast", ad.id),
        # No top-p or top-k: the logits are combined before any token is ruled out.
        sampling=Sampling(top_p=1.0, top_k=None, max_tokens=400 if llm.follows_formats else 100),
        constraint=LinksOnly(links=(ad.link,)),
    )
    rest = completion.text if completion.finish != "length" else whole_sentences(completion.text)
    # Small models write the title, and then the link without a space.
    named = re.compile(rf" *(?:{re.escape(ad.title)} *)?{re.escape(ad.link)}")
    rest = named.sub(lambda found: ad.link if rest[: found.start()].endswith("\n") else f" {ad.link}", rest)
    sources = [markup.strip_markup(text), auction.query.text, ad.advertiser, ad.category, ad.text]
    spans = sentence_spans(masked_links(rest))
    kept = [rest[a:b] for a, b in spans if LINK.search(rest[a:b]) or not unsupported(rest[a:b], sources)[0]]
    whole = without_loops(f"{beginning}{' ' if kept and not kept[0][:1].isspace() else ''}{''.join(kept)}")
    return corrected(auction, whole, every_word=not llm.follows_formats)


def _prompt(name: str, beginning: str, **texts: str) -> Prompt:
    """The prompt in a file, whose first line is the system's; the completion continues the beginning."""
    system, _, user = read_prompt(_PACKAGE, name).partition("\n")
    return Prompt(system=system, user=user.strip().format(**texts), prefill=beginning)
