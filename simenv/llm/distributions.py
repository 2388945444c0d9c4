"""From logits to the sampling distribution: temperature, then top-k, then top-p."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from simenv.llm.requests import Sampling


def kept_tokens(scores: torch.Tensor, sampling: Sampling) -> tuple[torch.Tensor, torch.Tensor]:
    """The tokens that may be sampled, in token order, and their probabilities.

    Args:
        scores: Logits of one distribution, -inf where forbidden: shape (vocab,).
        sampling: Gives temperature, top_k and top_p; at temperature 0 only the most likely token is kept.
    """
    if sampling.temperature == 0:
        return scores.argmax()[None], torch.ones(1, dtype=torch.float64)
    allowed = torch.isfinite(scores).nonzero()[:, 0]
    k = min(sampling.top_k or len(allowed), len(allowed))
    if k == len(allowed) and sampling.top_p == 1:
        return allowed, torch.softmax(scores[allowed].double() / sampling.temperature, dim=0)
    top, ids = scores.topk(k)
    probs = torch.softmax(top.double() / sampling.temperature, dim=0)
    if sampling.top_p < 1:  # the smallest set of top tokens that reaches top_p
        keep = int((probs.cumsum(0) < sampling.top_p).sum()) + 1
        probs, ids = probs[:keep] / probs[:keep].sum(), ids[:keep]
    ids, order = ids.sort()
    return ids, probs[order]


def draw(scores: torch.Tensor, sampling: Sampling, uniform: float) -> tuple[int, float]:
    """Draws one token by inverting the CDF at `uniform`; returns it with its log-probability.

    The CDF is in token order, not in order of probability, so that a small change of the logits rarely changes the
    token.
    """
    ids, probs = kept_tokens(scores, sampling)
    cdf = np.cumsum(probs.numpy())
    pick = min(int(np.searchsorted(cdf, uniform * cdf[-1], side="right")), len(cdf) - 1)
    return int(ids[pick]), float(np.log(probs[pick].item()))


def logprob_of(scores: torch.Tensor, sampling: Sampling, token: int) -> float:
    """Log-probability of one token; -inf if it cannot be sampled."""
    ids, probs = kept_tokens(scores, sampling)
    place = int(torch.searchsorted(ids, token))
    return float(probs[place].log()) if place < len(ids) and int(ids[place]) == token else -np.inf


def log_distributions(scores: torch.Tensor, sampling: Sampling) -> npt.NDArray[np.float64]:
    """The distributions of several rows of logits as log-probabilities: shape (rows, vocab)."""
    logs = torch.full(scores.shape, -torch.inf, dtype=torch.float64)
    for row, out in zip(scores, logs, strict=True):
        ids, probs = kept_tokens(row, sampling)
        out[ids] = probs.log()
    return logs.numpy()
