"""The nearest of many vectors: an inverted file of faiss, on disk.

The vectors are divided into cells by k-means on a sample, and a query is compared with the vectors of the cells nearest
to it. They are 16-bit floats. Everything runs on one thread with fixed seeds, so the same vectors give the same bytes
and the same results. The file is mapped into memory: processes share its pages, and the operating system may drop them.

faiss rather than usearch: an index of usearch that two threads build has other bytes each time, and one thread takes
hours for 10^6 vectors. Its wheel is larger (19 MB against 2 MB).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import filelock
import numpy as np
import numpy.typing as npt

from simenv.encoder import Vectors
from simenv.errors import InputError
from simenv.files.atomic import PART, write_bytes_atomically, writing
from simenv.one_thread import product

_SAMPLE = 40
"""Vectors of the sample per cell; faiss advises 39 or more."""
_ROUNDS = 10
"""Of k-means."""
_PART = 4096
"""Vectors that are encoded, written or added together."""
_PROBED = 1 / 32
"""Share of the cells that a query is compared with: measured for a recall of 0.99, see docs/scale-catalogs.md."""
_MORE = 16
"""Vectors that are compared once more than were asked for, with all bits of the query."""


class Found(NamedTuple):
    """The nearest vectors, nearest first."""

    places: npt.NDArray[np.int64]
    scores: Vectors


class VectorIndex:
    """An index that `build` has written.

    Args:
        file: Its file.

    Raises:
        OSError, ValueError, RuntimeError: there is none, or not as it was written.
        InputError: faiss is not installed.
    """

    def __init__(self, file: Path) -> None:
        about = json.loads(file.with_suffix(".json").read_bytes())
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != about["sha256"]:
                raise ValueError(f"{file} is not as it was written")
        faiss = _faiss()
        self._lock = threading.Lock()
        self._index: Any = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)

    def search(self, query: Vectors, n: int) -> Found:
        """The n vectors with the largest dot product.

        Args:
            query: Shape (dimension,), of length 1.
            n: How many, at most as many as there are.
        """
        places, vectors = self._near(query, n + _MORE, max(1, round(self._index.nlist * _PROBED)))
        if len(places) < n:  # the cells near the query have fewer
            places, vectors = self._near(query, n, self._index.nlist)
        scores = np.clip(product(vectors, query), -1, 1)
        best = np.lexsort((places, -scores))[:n]
        return Found(places[best], scores[best])

    def _near(self, query: Vectors, n: int, probed: int) -> tuple[npt.NDArray[np.int64], Vectors]:
        """The places and the vectors of at most n that are near."""
        with _one_thread(), self._lock:
            self._index.nprobe = probed
            _, places, vectors = self._index.search_and_reconstruct(query[None], n)
        known = places[0] >= 0
        return places[0][known], vectors[0][known]


def open_or_build(
    file: Path, n: int, encode: Callable[[int, int], Vectors], watch: Callable[[int, int], None]
) -> VectorIndex:
    """Opens an index, or builds it if there is none or it is damaged. Other processes that need it wait.

    The vectors are computed part by part and kept: if the process ends, the next one goes on after them.

    Args:
        file: Its file, ending in .faiss.
        n: Number of vectors.
        encode: Gives the vectors from one number to another: shape (stop - start, dimension).
        watch: Called with the number of vectors that are done and of all.

    Raises:
        CannotWrite: the file cannot be written.
        InputError: faiss is not installed.
    """
    _faiss()
    with suppress(OSError, ValueError, KeyError, RuntimeError):
        return VectorIndex(file)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(file.with_suffix(".lock")):
            with suppress(OSError, ValueError, KeyError, RuntimeError):
                return VectorIndex(file)  # of a process that was first
            vectors = file.with_suffix(f".f16{PART}")
            _write_vectors(vectors, n, encode, watch)
            _build(file, np.memmap(vectors, np.float16, "r").reshape(n, -1))
            vectors.unlink()
    return VectorIndex(file)


def _write_vectors(
    file: Path, n: int, encode: Callable[[int, int], Vectors], watch: Callable[[int, int], None]
) -> None:
    """Writes all vectors as 16-bit floats, after those that are there."""
    first = encode(0, min(n, _PART)).astype(np.float16)
    bytes_of_row = first[0].nbytes
    done = file.stat().st_size // bytes_of_row // _PART * _PART if file.exists() else 0
    with file.open("r+b" if file.exists() else "wb") as out:
        out.truncate(done * bytes_of_row)
        out.seek(done * bytes_of_row)
        for start in range(done, n, _PART):
            watch(start, n)
            part = encode(start, min(n, start + _PART)).astype(np.float16) if start else first
            out.write(part.tobytes())
    watch(n, n)


def _build(file: Path, vectors: npt.NDArray[np.float16]) -> None:
    """Builds the index of vectors: shape (n, dimension). Its checksum, without which it does not count, comes last."""
    faiss = _faiss()
    n, dimension = vectors.shape
    cells = 1 << int(np.log2(max(1.0, min(3 * np.sqrt(n), n / _SAMPLE))))
    sample = vectors[np.unique(np.linspace(0, n - 1, min(n, _SAMPLE * cells)).astype(np.int64))].astype(np.float32)
    with _one_thread():
        centres = faiss.IndexFlatIP(dimension)
        kind = faiss.ScalarQuantizer.QT_fp16
        index = faiss.IndexIVFScalarQuantizer(centres, dimension, cells, kind, faiss.METRIC_INNER_PRODUCT, False)
        index.cp.niter, index.cp.seed, index.cp.spherical = _ROUNDS, 1, True
        index.train(sample)
        for start in range(0, n, _PART):
            index.add(vectors[start : start + _PART].astype(np.float32))
        part = file.with_name(f"{file.name}{PART}")
        faiss.write_index(index, str(part))
    with part.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    part.replace(file)
    write_bytes_atomically(file.with_suffix(".json"), json.dumps({"sha256": digest, "vectors": n}).encode())


@contextmanager
def _one_thread() -> Iterator[None]:
    faiss = _faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError(
            "large catalogs need the package faiss-cpu", hint="pip install 'simenv-ads[catalogs]', or fewer ads"
        ) from None
    return faiss
