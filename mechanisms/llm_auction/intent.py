"""Tells questions with commercial intent from those without, before any ad is offered.

A small policy that has learned to show ads shows some to questions where none belongs: it learns which of its training
questions are of that kind more than the kind. The embedding of a question tells the kind well, so a logistic regression
on it decides, and the policy is offered no ads where it says no. It reads the question alone: neither bids nor ads
change what it says, so it leaves every advertiser's incentives as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from simenv.encoder import Encoder
from simenv.errors import DataFileError, InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.limits import read_bytes

FILE = "intent.safetensors"
LEAST = 0.5
"""Probability of commercial intent below which no ads are offered, unless the mechanism's option says another."""


class CommercialIntent:
    """Probability that a question has commercial intent. Built by `fit`.

    Args:
        encoder: Embeds questions.
        weights: Of a question's embedding: shape (dimension,).
        bias: Added to the weighted sum; both are in logits.
    """

    def __init__(self, encoder: Encoder, weights: npt.NDArray[np.float32], bias: float) -> None:
        self._encoder = encoder
        self.weights = weights
        self.bias = bias

    def probability(self, question: str) -> float:
        """The probability, in [0, 1], if both kinds of questions were equally frequent."""
        return float(expit(self._encoder.encode([question])[0] @ self.weights + self.bias))


def fit(encoder: Encoder, commercial: Sequence[str], others: Sequence[str]) -> CommercialIntent:
    """Fits the classifier; the two kinds weigh the same, however many questions there are of each.

    Args:
        encoder: Embeds questions.
        commercial: Questions that count as ones with commercial intent.
        others: Questions without.

    Raises:
        InputError: there are no questions of one kind.
    """
    from sklearn.linear_model import LogisticRegression

    if not commercial or not others:
        raise InputError(
            "the classifier of commercial intent needs questions of both kinds, "
            f"got {len(commercial)} with commercial intent and {len(others)} without"
        )
    vectors = encoder.encode([*commercial, *others])
    kinds = [1] * len(commercial) + [0] * len(others)
    found = LogisticRegression(class_weight="balanced", max_iter=1000).fit(vectors, kinds)
    return CommercialIntent(encoder, found.coef_[0].astype(np.float32), float(found.intercept_[0]))


def save(model: CommercialIntent, folder: Path) -> None:
    """Writes intent.safetensors."""
    from safetensors.numpy import save as to_bytes

    parts = {"weights": model.weights, "bias": np.array([model.bias], np.float32)}
    write_bytes_atomically(folder / FILE, to_bytes(parts))


def load(folder: Path, encoder: Encoder) -> CommercialIntent | None:
    """Reads a classifier that `save` wrote; None if the folder has none.

    Raises:
        DataFileError: the file cannot be read, is damaged, or is for an encoder with another dimension.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    file = folder / FILE
    if not file.exists():
        return None
    content = read_bytes(file)
    try:
        parts = from_bytes(content)
        weights, (bias,) = parts["weights"].astype(np.float32), parts["bias"].tolist()
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise DataFileError(f"{file}: no classifier of intent, or damaged: {' '.join(str(error).split())}") from None
    dimension = encoder.encode([""]).shape[1]
    if weights.shape != (dimension,) or not np.isfinite([*weights, bias]).all():
        raise DataFileError(
            f"{file}: expected {dimension} finite weights, those of the encoder's embeddings, got shape {weights.shape}"
        )
    return CommercialIntent(encoder, weights, float(bias))
