"""Retrieval: selects the ads of a catalog that are candidates for a query."""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from simenv.encoder import Encoder, MiniLM, Vectors
from simenv.errors import InputError
from simenv.llm.weights import cache_dir
from simenv.market.ad_file import LARGE, AdFile
from simenv.market.index import VectorIndex, open_or_build
from simenv.one_thread import product
from simenv.records import Ad


class Retriever:
    """Selects the n ads whose title and copy are most similar to the query, by cosine.

    The cosines of up to `simenv.market.ad_file.LARGE` ads are all computed. A larger catalog is searched in a
    `VectorIndex`, which finds 99% of the most similar ads and computes their cosines to 3 digits.

    Args:
        catalog: The ads.
        encoder: Text encoder.
        n: Candidates per query; the whole catalog if it has fewer.

    Raises:
        InputError: an empty catalog, duplicate ids, or n < 0.
    """

    def __init__(self, catalog: Sequence[Ad], encoder: Encoder, n: int) -> None:
        if n < 0:
            raise InputError(f"number of candidates must be 0 or more, got {n}")
        if not catalog:
            raise InputError("the catalog is empty")
        if not isinstance(catalog, AdFile):  # its ids were compared when it was written
            ids = [ad.id for ad in catalog]
            if len(set(ids)) < len(ids):
                raise InputError(f"duplicate ad ids in the catalog: {sorted({i for i in ids if ids.count(i) > 1})}")
            catalog = tuple(catalog)
        self.catalog = catalog
        self.n = min(n, len(catalog))
        self.encoder = encoder
        self._vectors: Vectors | None = None
        self._index: VectorIndex | None = None
        self._without: frozenset[str] = frozenset()

    def without(self, ads: Iterable[str]) -> Retriever:
        """Returns the same retriever over the catalog without the ads of these ids: the next ones become candidates."""
        self.prepare()
        other = copy.copy(self)
        other._without = self._without | frozenset(ads)
        return other

    def prepare(self, watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Encodes the catalog, once; `watch` is called with the number of ads that are done and of all.

        Raises:
            InputError: the catalog is large, and the package faiss-cpu is not installed.
            CannotWrite: the index of a large catalog cannot be written.
        """
        if len(self.catalog) > LARGE:
            if self._index is None:
                self._index = open_or_build(self._file, len(self.catalog), self._encoded, watch)
        elif self._vectors is None:
            texts = [ad.text for ad in self.catalog]
            encoder = self.encoder
            self._vectors = encoder.remember(texts, watch) if isinstance(encoder, MiniLM) else encoder.encode(texts)

    def top(self, query: str) -> list[tuple[Ad, float]]:
        """Returns the candidates with their cosine in [-1, 1], most relevant first; ties in the catalog's order."""
        self.prepare()
        vector = self.encoder.encode([query])[0]
        wanted = min(self.n + len(self._without), len(self.catalog))
        if self._vectors is not None:
            scores = product(self._vectors, vector)
            order = np.argsort(-scores, kind="stable")[:wanted]
            return self._left((self.catalog[i], float(scores[i])) for i in order)
        assert self._index is not None  # prepare() has made one of the two
        places, scores = self._index.search(vector, wanted)
        return self._left((self.catalog[int(i)], float(score)) for i, score in zip(places, scores, strict=True))

    def _left(self, found: Iterable[tuple[Ad, float]]) -> list[tuple[Ad, float]]:
        return [(ad, score) for ad, score in found if ad.id not in self._without][: self.n]

    def _encoded(self, start: int, stop: int) -> Vectors:
        texts, encoder = [ad.text for ad in self.catalog[start:stop]], self.encoder
        return encoder.encode_once(texts) if isinstance(encoder, MiniLM) else encoder.encode(texts)

    @cached_property
    def _folder(self) -> Path:
        folder = mkdtemp(prefix="simenv-index-")
        weakref.finalize(self, shutil.rmtree, folder, True)
        return Path(folder)

    @property
    def _file(self) -> Path:
        """The file of the index: in the cache folder if catalog and encoder can be named there."""
        if not isinstance(self.encoder, MiniLM) or not isinstance(self.catalog, AdFile):
            return self._folder / "ads.faiss"
        made = [self.catalog.sha256, self.encoder.facts, version("faiss-cpu")]
        digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()
        return cache_dir() / "indexes" / f"{digest}.faiss"
