"""The 16 nearest of 10^6 ads: seconds a query of the index and of an exact search, recall, size and time to build.

    python -m benchmarks.speed.index --ads 1000000

The vectors are realistic but cheap: those of 4,000 real texts (the ads of the pack in ten places each), every one 250
times with noise, so that a copy has a cosine of about 0.9 with its text. To encode 10^6 texts takes hours. The queries
are those of the personas.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.speed.measure import Aim, compare
from simenv.encoder import Vectors, default_encoder
from simenv.market.catalog import load_catalog
from simenv.market.index import VectorIndex, open_or_build
from simenv.one_thread import one_thread, product
from simenv.users.personas import load_personas

N = 16
PLACES = ("Lisbon", "Leeds", "Osaka", "Austin", "Graz", "Lyon", "Porto", "Cork", "Turin", "Gdansk")
NOISE = 0.48
"""Length of the noise that is added to a vector of length 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ads", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    encoder = default_encoder()
    texts = [f"{ad.title}, {place}. {ad.body}" for ad in load_catalog() for place in PLACES]
    encoder.remember(texts)
    base = encoder.encode(texts)
    queries = encoder.encode([query for persona in load_personas() for query in persona.queries][: given.queries])

    def vectors(start: int, stop: int) -> Vectors:
        rows = [_vector(base, number) for number in range(start, stop)]
        return np.stack(rows)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ads.faiss"
        began = time.perf_counter()
        index = open_or_build(file, given.ads, vectors, lambda done, total: None)
        built, size = time.perf_counter() - began, file.stat().st_size
        exact = np.memmap(Path(folder) / "exact", np.float32, "w+", shape=(given.ads, base.shape[1]))
        for start in range(0, given.ads, 10_000):
            exact[start : start + 10_000] = vectors(start, min(given.ads, start + 10_000))
        recall = _recall(index, exact, queries)
        told = (
            f"Recall at {N}: {recall:.4f}. Index: {size / 1e6:,.0f} MB on disk, built in {built:,.0f} s on one thread; "
            f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB, with the exact vectors. "
            f"Vectors of {len(base)} real texts with noise."
        )
        print(told)
        compare(
            f"Top {N} of {given.ads:,} ads: one query, one thread",
            "ms",
            {
                "index": lambda: _milliseconds(lambda query: index.search(query, N), queries),
                "exact": lambda: _milliseconds(lambda query: np.argpartition(-product(exact, query), N), queries[:10]),
            },
            aim=Aim(5.0, of="number", at="most"),
            rounds=given.rounds,
            note=told,
        )


def _vector(base: Vectors, number: int) -> Vectors:
    noise = np.random.default_rng(number).standard_normal(base.shape[1], np.float32)
    vector = base[number % len(base)] + NOISE * noise / np.linalg.norm(noise)
    unit: Vectors = vector / np.linalg.norm(vector)
    return unit


def _recall(index: VectorIndex, exact: Vectors, queries: Vectors) -> float:
    hits = 0
    with one_thread():
        for query in queries:
            best = np.argpartition(-(exact @ query), N)[:N]
            hits += len(set(best.tolist()) & set(index.search(query, N).places.tolist()))
    return hits / N / len(queries)


def _milliseconds(search: object, queries: Vectors) -> float:
    began = time.perf_counter()
    for query in queries:
        search(query)  # type: ignore[operator]
    return (time.perf_counter() - began) * 1000 / len(queries)


if __name__ == "__main__":
    main()
