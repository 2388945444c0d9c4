"""Linear algebra on one thread: NumPy's BLAS adds in another order with another number of threads.

A product of vectors then differs in its last bits, and so do click probabilities and payments. The bytes of a run must
not depend on the number of processors or on OMP_NUM_THREADS. So every product whose result reaches a run is computed
here. Products of a few hundred vectors of an encoder are not slower on one thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy.typing as npt
from threadpoolctl import LibController, ThreadpoolController

_lock = threading.Lock()
_inside = 0
_outside: list[tuple[LibController, int]] = []
"""The caller's limits, while any thread is inside."""


class _ThisThread(threading.local):
    inside = 0
    """How many blocks this thread is in."""


_this_thread = _ThisThread()


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits NumPy's BLAS to one thread, in the whole process: other threads may be inside at the same time.

    Setting the limit takes longer than a small product: code with several products is inside around all of them.
    """
    global _inside, _outside
    with _lock:
        if _inside == 0:
            _outside = [(library, library.get_num_threads()) for library in _blas().lib_controllers]
            for library, _ in _outside:
                _set(library, 1)
        _inside += 1
    _this_thread.inside += 1
    try:
        yield
    finally:
        _this_thread.inside -= 1
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore()


def product(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Any:
    """`a @ b`, with the same bits for any number of threads. Any, because it is a number for two vectors."""
    if _this_thread.inside:
        return a @ b
    with one_thread():
        return a @ b


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")  # numpy, imported above, has loaded its own


def _set(library: LibController, threads: int) -> None:
    """Sets the number of threads. threadpoolctl 3.8 lets only the first thread that asks set it, and ignores others."""
    getattr(library, "_real_set_num_threads", library.set_num_threads)(threads)


def _restore() -> None:
    for library, threads in _outside:
        _set(library, threads)


def _forget_other_threads() -> None:
    """In a forked child: the parent's other threads, which may have been inside, do not exist."""
    global _lock, _inside
    _lock = threading.Lock()
    if _inside:
        _inside = 0
        _restore()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_other_threads)
