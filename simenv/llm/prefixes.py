"""The keys and values of beginnings that prompts share, in blocks of a few tokens.

A block is known by all tokens up to its end. It holds the same bits whichever prompt it was read for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

import numpy as np
import numpy.typing as npt

from simenv.llm.runtime import Logits

Memory = list[npt.NDArray[np.float32]]
"""Keys and values of every layer in turn: shape (rows, kv heads, room, head size) each."""

_BLOCK = 16
"""Tokens of a block."""
_BLOCKS = 256
"""Blocks that are kept, those that were used last: 190 MB for the embedded model. 16 judges of one answer need 170."""


_WHOLE = 64
"""Whole prompts that are kept, with the logits after them: at most 50 MB for the embedded model."""


class Prefixes:
    """Beginnings of the prompts that were read last. Threads may share them."""

    def __init__(self) -> None:
        self._whole: OrderedDict[tuple[int, ...], tuple[Memory, Logits]] = OrderedDict()
        self._lock = Lock()
        self._blocks: OrderedDict[tuple[int, ...], Memory] = OrderedDict()

    def recall(self, prompt: Sequence[int], memory: Memory, row: int, most: int) -> int:
        """Copies what is known of a prompt's beginning into a row of `memory`.

        Args:
            prompt: Token ids.
            memory: Where to.
            row: The row.
            most: Maximum number of tokens.

        Returns:
            Number of tokens that were copied.
        """
        done = 0
        while done + _BLOCK <= most:
            key = tuple(prompt[: done + _BLOCK])
            with self._lock:
                block = self._blocks.get(key)
                if block is None:
                    break
                self._blocks.move_to_end(key)
            for part, values in zip(memory, block, strict=True):
                part[row, :, done : done + _BLOCK] = values
            done += _BLOCK
        return done

    def recall_whole(self, prompt: Sequence[int], memory: Memory, row: int) -> Logits | None:
        """Copies what is known of a prompt into a row of `memory`; the logits after it, or None if it is not known."""
        begun = len(prompt) // _BLOCK * _BLOCK
        with self._lock:
            known = self._whole.get(tuple(prompt))
            if known is not None:
                self._whole.move_to_end(tuple(prompt))
        if known is None or self.recall(prompt, memory, row, begun) < begun:
            return None
        for part, values in zip(memory, known[0], strict=True):
            part[row, :, begun : len(prompt)] = values
        return known[1]

    def remember_whole(self, prompt: Sequence[int], memory: Memory, row: int, logits: Logits) -> None:
        """Keeps a prompt that was read into a row of `memory`, and the logits after it."""
        self.remember(prompt, memory, row)
        begun = len(prompt) // _BLOCK * _BLOCK
        end = [part[row, :, begun : len(prompt)].copy() for part in memory]
        with self._lock:
            self._whole[tuple(prompt)] = end, logits.copy()
            if len(self._whole) > _WHOLE:
                self._whole.popitem(last=False)

    def remember(self, prompt: Sequence[int], memory: Memory, row: int) -> None:
        """Keeps the keys and values of a prompt that was read into a row of `memory`."""
        for end in range(_BLOCK, len(prompt) + 1, _BLOCK):
            key = tuple(prompt[:end])
            with self._lock:
                if key not in self._blocks:
                    self._blocks[key] = [part[row, :, end - _BLOCK : end].copy() for part in memory]
                self._blocks.move_to_end(key)
                if len(self._blocks) > _BLOCKS:
                    self._blocks.popitem(last=False)
