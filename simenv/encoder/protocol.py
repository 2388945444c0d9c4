"""What a text encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Encodes texts as unit vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); every row has length 1."""
        ...


@runtime_checkable
class BatchingEncoder(Encoder, Protocol):
    """An encoder that encodes the texts of concurrent tasks in one batch."""

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """As `encode`: the same bits."""
        ...


async def know(encoder: Encoder, texts: Sequence[str]) -> None:
    """Lets a batching encoder encode texts that `encode` is about to be asked for, with those of concurrent tasks."""
    if isinstance(encoder, BatchingEncoder):
        await encoder.vectors(texts)
