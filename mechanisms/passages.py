"""Candidates seen from within an answer: for mechanisms that place ads inside the text."""

from __future__ import annotations

import numpy as np

from simenv.encoder import Encoder, default_encoder
from simenv.markup import strip_markup
from simenv.records import Auction


def in_context(auction: Auction, text: str, encoder: Encoder | None = None) -> Auction:
    """The auction as the retriever would see it now: relevance to the query and the text so far together.

    Only the candidates' cosines change, so any CTR model that reads them predicts in context.

    Args:
        auction: What is answered.
        text: The answer so far; links count as their titles.
        encoder: The embedded one by default.
    """
    if not auction.bids:
        return auction
    encoder = encoder or default_encoder()
    read = f"{auction.query.text} {strip_markup(text)}".strip()
    vectors = encoder.encode([read, *(bid.ad.text for bid in auction.bids)])
    cosines = np.clip(vectors[1:] @ vectors[0], -1.0, 1.0)
    bids = tuple(
        bid.model_copy(update={"relevance": float(cosine)}) for bid, cosine in zip(auction.bids, cosines, strict=True)
    )
    return auction.model_copy(update={"bids": bids})
