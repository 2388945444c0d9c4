"""Which follow-up question a user chooses, computed offline.

    P(s) = w_s / (w_0 + sum_j w_j),   w_0 = exp(none),
    w_s  = exp(query cos(query, s) + interests max_k cos(interest_k, s))

This is Luce's choice rule (Luce 1959) over the questions offered and "none of them". The three numbers are those of the
click model's world (section `questions`). They are our assumption, not fitted to people: offered the three questions of
the everyday pack that are nearest to one of its 1,500 queries, 21% of its users choose none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder, together
from simenv.judges.click_worlds import QuestionParams
from simenv.one_thread import one_thread, product
from simenv.records import Auction, Choice, Persona, Suggestion
from simenv.seeding import keyed_rng

Floats = npt.NDArray[np.float64]


def log_weights(
    encoder: Encoder, params: QuestionParams, query: str, interests: Sequence[str], questions: Sequence[str]
) -> Floats:
    """ln w_s of every question: shape (questions,).

    Args:
        encoder: Text encoder.
        params: The weights.
        query: What the user asked.
        interests: What else is known of the user; may be empty.
        questions: The questions offered.
    """
    vectors = encoder.encode([query, *interests, *questions])
    known, offered = vectors[: 1 + len(interests)], vectors[1 + len(interests) :]
    cosines = product(offered, known.T).astype(np.float64)
    taste = cosines[:, 1:].max(1) if interests else np.zeros(len(questions))
    return np.asarray(params.query * cosines[:, 0] + params.interests * taste)


def choice_probs(logs: Floats, none: float) -> Floats:
    """P(s) of every question, given ln w_s and ln w_0: shape (questions,)."""
    top = max(none, float(logs.max(initial=-math.inf)))
    weights = np.exp(logs - top)
    return np.asarray(weights / (math.exp(none - top) + weights.sum()))


def drawn(auction: Auction, questions: Sequence[Suggestion], probs: Sequence[float]) -> int | None:
    """Draws a question with these probabilities; None is none of them.

    Every question has its own draw, keyed by auction and text, so that two mechanisms that offer the same questions get
    the same choice: the largest ln P(s) + Gumbel noise wins.
    """
    chances = [*probs, max(0.0, 1 - sum(probs))]
    texts = [*(it.text for it in questions), ""]
    noise = [
        # a text that is offered twice has two draws, or the first one would get the chances of both
        float(
            keyed_rng("question", auction.id, text, *([again] if (again := texts[:place].count(text)) else [])).gumbel()
        )
        for place, text in enumerate(texts)
    ]
    sums = [math.log(p) + g if p > 0 else -math.inf for p, g in zip(chances, noise, strict=True)]
    place = int(np.argmax(sums))
    return None if place == len(questions) else place


async def choose_by_cosines(
    encoder: Encoder, params: QuestionParams, persona: Persona, auction: Auction, questions: Sequence[Suggestion]
) -> Choice:
    """The choice by the formula above. Whether a question is sponsored plays no part."""
    texts = [question.text for question in questions]

    def compute() -> Floats:
        with one_thread():
            return log_weights(encoder, params, auction.query.text, persona.interests, texts)

    logs = await together(encoder, compute, lambda: [auction.query.text, *persona.interests, *texts])
    probs = tuple(choice_probs(logs, params.none).tolist())
    return Choice(place=drawn(auction, questions, probs), probs=probs)
