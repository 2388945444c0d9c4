"""Linear algebra has the same bits for any number of threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from simenv.judges.cues import Cue, Examples
from simenv.one_thread import one_thread, product
from simenv.testing import FakeEncoder


def blas_threads() -> int:
    return next(int(pool["num_threads"]) for pool in threadpool_info() if pool["user_api"] == "blas")


def test_products_and_fits_do_not_depend_on_the_number_of_threads() -> None:
    """The product of these sizes differs between one and four threads where NumPy computes it as it likes."""
    vectors = np.random.default_rng(0).normal(size=(300, 384)).astype(np.float32)
    words = [f"word{i} of sentence{j}" for i in range(10) for j in range(10)]

    def results() -> list[bytes]:
        cue = Cue(FakeEncoder(384), Examples(yes=tuple(words[:60]), no=tuple(words[60:])))
        return [it.tobytes() for it in (product(vectors, vectors[0]), product(vectors, vectors.T), cue(words))]

    found = []
    for threads in (1, 2, 4):
        with threadpool_limits(threads, user_api="blas"), ThreadPoolExecutor(1) as another_thread:
            found += [results(), another_thread.submit(results).result()]
    assert all(one == found[0] for one in found)


def test_the_limit_ends_when_the_last_thread_has_left() -> None:
    with threadpool_limits(3, user_api="blas"):
        with one_thread():
            assert blas_threads() == 1
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda _: product(np.ones((9, 9)), np.ones(9)), range(50)))
            assert blas_threads() == 1, "another thread that leaves changes nothing here"
        assert blas_threads() == 3
