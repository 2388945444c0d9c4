"""What a text encoder is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Encodes texts as unit vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); every row has length 1."""
        ...
