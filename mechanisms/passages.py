"""Computes relevance in context, for mechanisms that place ads inside the text."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder, Vectors, default_encoder
from simenv.markup import strip_markup
from simenv.one_thread import product
from simenv.records import Auction


def in_context(auction: Auction, text: str, encoder: Encoder | None = None) -> Auction:
    """The auction with each candidate's relevance computed against query and text so far together.

    Only the candidates' cosines change, so any CTR model that uses them predicts in context.

    Args:
        auction: The auction to answer.
        text: The answer so far; a link counts as its title.
        encoder: The embedded one by default.
    """
    if not auction.bids:
        return auction
    encoder = encoder or default_encoder()
    context = f"{auction.query.text} {strip_markup(text)}".strip()
    vectors = encoder.encode([context, *(bid.ad.text for bid in auction.bids)])
    return with_cosines(auction, vectors[0], vectors[1:])


def with_cosines(auction: Auction, context: npt.NDArray[np.float32], ads: Vectors) -> Auction:
    """The auction with each candidate's relevance as the cosine of a text and the ad.

    Args:
        auction: The auction to answer.
        context: Unit vector of the text: shape (dimension,).
        ads: Unit vectors of the candidates' ads: shape (n, dimension).
    """
    cosines = np.clip(product(ads, context), -1.0, 1.0)
    bids = tuple(
        bid.model_copy(update={"relevance": float(cosine)}) for bid, cosine in zip(auction.bids, cosines, strict=True)
    )
    return auction.model_copy(update={"bids": bids})
