"""What a text encoder is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
T = TypeVar("T")


class Encoder(Protocol):
    """Encodes texts as unit vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); every row has length 1."""
        ...


@runtime_checkable
class BatchingEncoder(Encoder, Protocol):
    """An encoder that encodes the texts of concurrent tasks in one batch.

    Its `encode` raises UnknownTexts for a new text while `only_known` is set.
    """

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """As `encode`: the same bits."""
        ...


class UnknownTexts(Exception):
    """Within `together`: a text was asked for that is not encoded yet."""


only_known: ContextVar[bool] = ContextVar("only_known", default=False)
"""Whether a batching encoder raises UnknownTexts instead of encoding."""


async def know(encoder: Encoder, texts: Sequence[str]) -> None:
    """Lets a batching encoder encode texts together with those of concurrent tasks, before `encode` asks for them."""
    if isinstance(encoder, BatchingEncoder):
        await encoder.vectors(texts)


async def together(encoder: Encoder, compute: Callable[[], T], texts: Callable[[], Sequence[str]]) -> T:
    """The result of a synchronous computation, with its new texts encoded together with those of concurrent tasks.

    Where all texts are known, this is `compute()`, and nothing waits.

    Args:
        encoder: The encoder that `compute` asks.
        compute: The computation. It has no effects: it is stopped at the first text that is not known, and begun again.
        texts: The texts that `compute` asks for, needed only where one is new. A text that is missing here is encoded
            alone: this costs time and changes no result.
    """
    if isinstance(encoder, BatchingEncoder):
        token = only_known.set(True)
        try:
            return compute()
        except UnknownTexts:
            pass
        finally:
            only_known.reset(token)
        await encoder.vectors(texts())
    return compute()
