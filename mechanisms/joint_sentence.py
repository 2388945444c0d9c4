"""One sponsored sentence that several advertisers' models decode jointly, token by token.

Every advertiser's model is the same language model with a prompt about its own ad. Decoding chooses first the link,
then the text after it, all under the same constraint. What is drawn from all distributions is the mechanism's rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from simenv import Writer
from simenv.ctr.models import Floats
from simenv.errors import InputError
from simenv.llm import PLAIN, Capability, Combine, EnsembleCompletion, LinksOnly, OneOf, Prompt, Sampling
from simenv.records import Ad, Auction
from simenv.writer.writer import first_sentence

NEEDED = (Capability.ENSEMBLE, Capability.CONSTRAINT, Capability.PREFILL)
"""What the language model must be able to do."""


class JointSentence(NamedTuple):
    """A decoded sentence. The logs of both parts are those of the rules, a row for each token."""

    linked: Ad
    """The ad whose link was drawn."""
    link: EnsembleCompletion
    """The choice of the link; without tokens if there was one ad."""
    tail: EnsembleCompletion
    """The text after the link."""

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{opening(self.linked)} {first_sentence(self.tail)}"


def opening(ad: Ad) -> str:
    """How the sentence begins if this ad is linked."""
    return f"One option worth a look is {ad.link}:"


def joint_sampling(tokens: int) -> Sampling:
    """Sampling of the text after the link, of at most this many tokens.

    The temperature is that of the writer's ad sentences, but there is no top-p or top-k: they would make probabilities
    0 that another advertiser's model needs.

    Raises:
        InputError: tokens below 1.
    """
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
        raise InputError(f"tokens must be 1 or more, got {tokens!r}")
    return Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=tokens, stop=(".", "!", "?", "\n"))


async def decode_jointly(
    writer: Writer,
    auction: Auction,
    ads: Sequence[Ad],
    rule: Combine,
    then: Callable[[EnsembleCompletion], Combine],
    *,
    name: str,
    sampling: Sampling,
) -> JointSentence:
    """Decodes the sentence.

    Args:
        writer: Gives the prompts, and its language model decodes.
        auction: Its id keys the draws.
        ads: At least one ad; each has one distribution, in this order.
        rule: Draws the link.
        then: The rule that draws the text, given the choice of the link.
        name: Names the draws, with the auction's id.
        sampling: Of the text after the link: see `joint_sampling`.
    """

    def prompts(beginning: str) -> list[Prompt]:
        return [writer.sentence_prompt(ad, beginning) for ad in ads]

    link = await writer.llm.ensemble_decode(
        prompts("One option worth a look is"),
        rule,
        key=(auction.id, f"{name}-link"),
        sampling=PLAIN,
        constraint=OneOf(options=tuple(f" {ad.link}" for ad in ads)),
    )
    linked = next(ad for ad in ads if ad.link == link.text.strip())
    tail = await writer.llm.ensemble_decode(
        prompts(opening(linked)),
        then(link),
        key=(auction.id, f"{name}-sentence"),
        sampling=sampling,
        constraint=LinksOnly(),
    )
    return JointSentence(linked, link, tail)


def draw(probs: Floats, uniform: float) -> int:
    """The index that a uniform number in [0, 1) draws; the probabilities need not sum to 1."""
    cdf = np.cumsum(probs)
    return min(int(np.searchsorted(cdf, uniform * cdf[-1], side="right")), len(cdf) - 1)
