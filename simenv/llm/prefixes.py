"""The keys and values of beginnings that prompts share, in blocks of a few tokens.

A block is known by all tokens up to its end. It holds the same bits whichever prompt it was read for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Memory = list[npt.NDArray[np.float32]]
"""Keys and values of every layer in turn: shape (rows, kv heads, room, head size) each."""

_BLOCK = 16
"""Tokens of a block."""
_BLOCKS = 128
"""Blocks that are kept, those that were used last: 94 MB for the embedded model."""


class Prefixes:
    """Beginnings of the prompts that were read last."""

    def __init__(self) -> None:
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
            block = self._blocks.get(key)
            if block is None:
                break
            self._blocks.move_to_end(key)
            for part, values in zip(memory, block, strict=True):
                part[row, :, done : done + _BLOCK] = values
            done += _BLOCK
        return done

    def remember(self, prompt: Sequence[int], memory: Memory, row: int) -> None:
        """Keeps the keys and values of a prompt that was read into a row of `memory`."""
        for end in range(_BLOCK, len(prompt) + 1, _BLOCK):
            key = tuple(prompt[:end])
            if key not in self._blocks:
                self._blocks[key] = [part[row, :, end - _BLOCK : end].copy() for part in memory]
            self._blocks.move_to_end(key)
        while len(self._blocks) > _BLOCKS:
            self._blocks.popitem(last=False)
