"""What computes a local model's logits: `Runtime`. The decoding of texts, in `simenv.llm.local`, is the same on all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


class Batch(Protocol):
    """Texts that are being written, one a row: the model's memory of each row's tokens."""

    def step(self, tokens: Sequence[Sequence[int]]) -> Logits:
        """Appends tokens to each row, as many to each. Returns the logits after the last: shape (rows, vocab)."""
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Drops all rows but these; their order stays."""
        ...


class Runtime(Protocol):
    """A loaded model.

    Attributes:
        vocab_size: Width of the logits.
        arithmetic: What computes the numbers and in which precision, for manifests and hashes.
        independent_rows: Whether a row gets the same bits whatever other rows share its batch.
    """

    vocab_size: int
    arithmetic: str
    independent_rows: bool

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[Batch, Logits]:
        """Reads prompts as one batch.

        Args:
            prompts: Token ids of each row, at least one.

        Returns:
            The batch, and the logits after each prompt: shape (prompts, vocab).
        """
        ...

    def score(self, prompt: Sequence[int], rows: Sequence[Sequence[int]]) -> Iterator[Logits]:
        """Reads continuations of one prompt.

        Args:
            prompt: Token ids.
            rows: Token ids of each continuation; it may be empty.

        Yields:
            For each row the logits before each of its tokens and after the last: shape (tokens + 1, vocab).
        """
        ...


class GrowingBatch(Batch, Protocol):
    """A batch of independent rows, which others may join."""

    def add(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """Adds a row for each prompt. Returns the logits after each: shape (prompts, vocab)."""
        ...


class GrowingRuntime(Protocol):
    """A runtime of independent rows."""

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[GrowingBatch, Logits]:
        """As `Runtime.read`."""
        ...
