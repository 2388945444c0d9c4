"""Detects duplicates, near-duplicates (by cosine) and templates (texts with a repeated beginning)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from simenv.encoder import Encoder, MiniLM, Vectors
from simenv.one_thread import product

NEAR = 0.85
"""Two texts with a higher cosine are near-duplicates: the embedded packs contain no such pair."""
_MAX_SAME_BEGINNING = 2
"""At most so many texts of a pack start with the same four words."""

Texts = Mapping[str, Sequence[str]]
"""Field -> texts. Only texts of the same field are compared."""


class KnownTexts:
    """All texts so far.

    Args:
        encoder: Computes cosines.
        texts: Records of the pack that new ones are compared with. They are not checked themselves.
        by_cosine: Fields that are also checked for near-duplicates. Other fields, such as names, are compared only by
            their letters and digits.
    """

    def __init__(self, encoder: Encoder, texts: Iterable[Texts], by_cosine: Collection[str]) -> None:
        self._encoder = encoder
        self._by_cosine = frozenset(by_cosine)
        self._texts: set[tuple[str, str]] = set()
        self._beginnings: Counter[tuple[str, ...]] = Counter()
        self._vectors: dict[str, list[Vectors]] = {}
        fields: dict[str, list[str]] = {}
        for record in texts:
            for field, values in record.items():
                fields.setdefault(field, []).extend(values)
        if isinstance(encoder, MiniLM):  # encoding 300 personas takes half a minute, so cache the embeddings
            encoder.remember([text for field in sorted(self._by_cosine) for text in fields.get(field, ())])
        self.add(fields)

    def add(self, texts: Texts) -> None:
        """Adds the texts of a record."""
        for field, values in texts.items():
            if values:
                self._texts.update((field, _plain(text)) for text in values)
                self._beginnings.update(_beginning(field, text) for text in values)
                if field in self._by_cosine:
                    self._vectors.setdefault(field, []).append(self._encoder.encode(values))

    def reason(self, texts: Texts) -> str | None:
        """Returns why a record is not new: "duplicate", "template" or "near-duplicate"; None if it is new.

        The texts are compared with all known texts and with each other.
        """
        for field, values in texts.items():
            plain = [_plain(text) for text in values]
            if len(set(plain)) < len(plain) or any((field, text) in self._texts for text in plain):
                return "duplicate"
            beginnings = Counter(_beginning(field, text) for text in values)
            if any(count + self._beginnings[key] > _MAX_SAME_BEGINNING for key, count in beginnings.items()):
                return "template"
        return "near-duplicate" if any(self._near(field, values) for field, values in texts.items()) else None

    def _near(self, field: str, values: Sequence[str]) -> bool:
        if field not in self._by_cosine or not values:
            return False
        vectors = self._encoder.encode(values)
        known = np.concatenate(self._vectors.get(field, [vectors[:0]]))
        self._vectors[field] = [known]
        inside = np.triu(product(vectors, vectors.T), k=1)
        return bool((inside > NEAR).any() or (product(vectors, known.T) > NEAR).any())


def _plain(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _beginning(field: str, text: str) -> tuple[str, ...]:
    return (field, *text.casefold().split()[:4])
