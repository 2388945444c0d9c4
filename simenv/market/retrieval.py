"""Retrieval: selects the ads of a catalog that are candidates for a query."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simenv.encoder import Encoder, MiniLM, Vectors
from simenv.errors import InputError
from simenv.one_thread import product
from simenv.records import Ad


class Retriever:
    """Selects the n ads whose title and copy are most similar to the query, by cosine.

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
        ids = [ad.id for ad in catalog]
        if len(set(ids)) < len(ids):
            raise InputError(f"duplicate ad ids in the catalog: {sorted({i for i in ids if ids.count(i) > 1})}")
        self.catalog = tuple(catalog)
        self.n = min(n, len(catalog))
        self.encoder = encoder
        self._vectors: Vectors | None = None

    def prepare(self, watch: Callable[[int, int], None] = lambda done, total: None) -> Vectors:
        """Encodes the catalog, once; `watch` is called with the number of ads that are done and of all.

        Returns:
            The vectors: shape (len(catalog), dimension).
        """
        if self._vectors is None:
            texts = [ad.text for ad in self.catalog]
            encoder = self.encoder
            self._vectors = encoder.remember(texts, watch) if isinstance(encoder, MiniLM) else encoder.encode(texts)
        return self._vectors

    def top(self, query: str) -> list[tuple[Ad, float]]:
        """Returns the candidates with their cosine in [-1, 1], most relevant first; ties in the catalog's order."""
        scores = product(self.prepare(), self.encoder.encode([query])[0])
        order = np.argsort(-scores, kind="stable")[: self.n]
        return [(self.catalog[i], float(scores[i])) for i in order]
