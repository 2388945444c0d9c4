"""Randomness: every draw comes from a generator keyed by the purpose of the draw.

There is no global seed, no `hash()` (it differs between processes) and no dependence on the order of draws: the same
parts give the same stream on every machine, for any number of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np

KeyPart = str | int


def keyed_rng(*parts: KeyPart) -> np.random.Generator:
    """A generator for the stream named by `parts`, for instance `keyed_rng(seed, "bids", auction_id, ad_id)`.

    Parts are distinguished by type and length, so ("ab", "c") and ("a", "bc"), or 1 and "1", give different streams.
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(keyed_int(*parts))))


def keyed_int(*parts: KeyPart) -> int:
    """A 128-bit integer that is a stable function of `parts`."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = str(part).encode()
        digest.update(f"{type(part).__name__}:{len(encoded)}:".encode())
        digest.update(encoded)
    return int.from_bytes(digest.digest(), "big")
