"""Cues in text, learned from examples: leaked ad process, sales pressure, cheap or expensive.

A cue is a linear function of a sentence's embedding, fitted by ridge regression (Hoerl and Kennard 1970) to examples
that show it (+1) and examples that do not (-1). Both sides have the same total weight. The fit runs at the first use
and takes about two seconds. So readable examples define the cue for any encoder, and no file of weights is needed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cached_property
from importlib.resources import files
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from simenv.encoder import Encoder
from simenv.one_thread import one_thread, product
from simenv.records import Record

RIDGE = 0.01
"""Ridge penalty for unit vectors and sample weights that sum to 1; chosen on the dev part of the contrast suite."""


class Examples(Record):
    """Sentences that show a cue and sentences that do not."""

    yes: tuple[str, ...]
    no: tuple[str, ...]


def read_examples() -> dict[str, Examples]:
    """The examples of `cue_examples.toml`: leak, pressure and cheap."""
    text = (files("simenv.judges") / "cue_examples.toml").read_text(encoding="utf-8")
    return {name: Examples.model_validate(lists) for name, lists in tomllib.loads(text).items()}


class Cue:
    """Scores sentences: about 1 = similar to the examples that show the cue, about -1 = similar to the others.

    Args:
        encoder: Text encoder.
        examples: The sentences that the cue is fitted to.
    """

    def __init__(self, encoder: Encoder, examples: Examples) -> None:
        self._encoder = encoder
        self._examples = examples

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Scores of the texts: shape (len(texts),)."""
        middle, slope = self._fit
        scores: npt.NDArray[np.float64] = product(self._encoder.encode(texts).astype(np.float64) - middle, slope)
        return scores

    def prepare(self) -> None:
        """Fits the cue now, not at first use."""
        _ = self._fit

    @cached_property
    def _fit(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        yes, no = self._examples.yes, self._examples.no
        x = self._encoder.encode([*yes, *no]).astype(np.float64)
        y = np.concatenate([np.ones(len(yes)), -np.ones(len(no))])
        weight = np.concatenate([np.full(len(yes), 0.5 / len(yes)), np.full(len(no), 0.5 / len(no))])
        with one_thread():
            middle = weight @ x
            centred = x - middle
            gram = centred.T @ (weight[:, None] * centred) + RIDGE * np.eye(x.shape[1])
            return middle, np.linalg.solve(gram, centred.T @ (weight * y))


_learned: WeakKeyDictionary[Encoder, dict[Examples, Cue]] = WeakKeyDictionary()


def learn(encoder: Encoder, examples: Examples) -> Cue:
    """Returns the cue of these examples, fitted once per encoder."""
    cues = _learned.setdefault(encoder, {})
    return cues.setdefault(examples, Cue(encoder, examples))


def ramp(score: float, none: float, full: float) -> float:
    """Linear ramp: 0 for scores up to `none`, 1 for scores from `full`."""
    return min(1.0, max(0.0, (score - none) / (full - none)))
