"""Text encoders: unit vectors whose dot product is a cosine similarity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Anything that turns texts into unit vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); every row has length 1."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 (384 dimensions, mean pooling, first 256 tokens), embedded. Remembers what it encoded.

    Raises:
        MissingWeights: its weight package is not installed.
    """

    name = "all-MiniLM-L6-v2"
    _BATCH = 64
    _MEMORY = 50_000

    def __init__(self) -> None:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from simenv.llm.weights import encoder_path

        path = encoder_path()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = AutoModel.from_pretrained(path).eval()
        self._known: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        unknown = sorted({text for text in texts if text not in self._known}, key=lambda t: (len(t), t))
        for start in range(0, len(unknown), self._BATCH):
            batch = unknown[start : start + self._BATCH]
            for text, vector in zip(batch, self._forward(batch), strict=True):
                self._known[text] = vector
        vectors = np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 384), np.float32)
        if len(self._known) > self._MEMORY:
            self._known.clear()
        return vectors

    def _forward(self, texts: list[str]) -> Vectors:
        import torch

        with torch.inference_mode():
            batch = self._tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
            hidden = self._model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            unit: Vectors = torch.nn.functional.normalize(pooled, dim=1).numpy().astype(np.float32)
            return unit


@cache
def default_encoder() -> MiniLM:
    """The embedded encoder, loaded once per process."""
    return MiniLM()
