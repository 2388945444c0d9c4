"""From logits to the sampling distribution: temperature, then top-k, then top-p."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from simenv.llm.requests import Sampling

_BLOCK = 256
"""Logits are searched for the top k in blocks of this size: each of the k is in one of the k blocks with the largest
maxima."""


def kept_tokens(
    scores: npt.NDArray[np.float32], sampling: Sampling
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """The tokens that may be sampled, in token order, and their probabilities.

    Args:
        scores: Logits of one distribution, -inf where forbidden: shape (vocab,).
        sampling: Gives temperature, top_k and top_p; at temperature 0 only the most likely token is kept.
    """
    if sampling.temperature == 0:
        return np.array([scores.argmax()]), np.ones(1)
    if sampling.top_k is None or sampling.top_k >= len(scores):
        ids = np.isfinite(scores).nonzero()[0]
    else:
        ids = _top(scores, sampling.top_k)
    probs = _softmax(scores[ids], sampling.temperature)
    if sampling.top_p < 1:  # the smallest set of top tokens that reaches top_p
        order = np.argsort(-scores[ids], kind="stable")
        keep = int((probs[order].cumsum() < sampling.top_p).sum()) + 1
        kept = np.sort(order[:keep])
        ids, probs = ids[kept], probs[kept] / probs[kept].sum()
    return ids, probs


def _top(scores: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.intp]:
    """The k largest logits that are allowed, in token order."""
    whole = len(scores) // _BLOCK
    ids = np.arange(len(scores))
    if k < whole:
        maxima = scores[: whole * _BLOCK].reshape(whole, _BLOCK).max(axis=1)
        blocks = np.argpartition(-maxima, k)[:k]
        inside = (blocks[:, None] * _BLOCK + np.arange(_BLOCK)).ravel()
        ids = np.sort(np.concatenate([inside, ids[whole * _BLOCK :]]))
    ids = ids[np.isfinite(scores[ids])]
    return np.sort(ids[np.argsort(-scores[ids], kind="stable")[:k]])


def _softmax(scores: npt.NDArray[np.float32], temperature: float) -> npt.NDArray[np.float64]:
    weights = np.exp((scores.astype(np.float64) - float(scores.max())) / temperature)
    return np.asarray(weights / weights.sum())


def draw(scores: npt.NDArray[np.float32], sampling: Sampling, uniform: float) -> tuple[int, float]:
    """Draws one token by inverting the CDF at `uniform`; returns it with its log-probability.

    The CDF is in token order, not in order of probability, so that a small change of the logits rarely changes the
    token.
    """
    ids, probs = kept_tokens(scores, sampling)
    cdf = np.cumsum(probs)
    pick = min(int(np.searchsorted(cdf, uniform * cdf[-1], side="right")), len(cdf) - 1)
    return int(ids[pick]), float(np.log(probs[pick]))


def logprob_of(scores: npt.NDArray[np.float32], sampling: Sampling, token: int) -> float:
    """Log-probability of one token; -inf if it cannot be sampled."""
    ids, probs = kept_tokens(scores, sampling)
    place = int(np.searchsorted(ids, token))
    possible = place < len(ids) and int(ids[place]) == token and probs[place] > 0
    return float(np.log(probs[place])) if possible else -np.inf


def log_distributions(scores: npt.NDArray[np.float32], sampling: Sampling) -> npt.NDArray[np.float64]:
    """The distributions of several rows of logits as log-probabilities: shape (rows, vocab)."""
    logs = np.full(scores.shape, -np.inf)
    for row, out in zip(scores, logs, strict=True):
        ids, probs = kept_tokens(row, sampling)
        with np.errstate(divide="ignore"):  # a probability may be too small for a number
            out[ids] = np.log(probs)
    return logs
