"""A Llama model on onnxruntime, in float32 on the CPU; it needs no torch.

A row gets the same bits alone and in any batch, with any number of threads, and whether its prompt is read whole or in
parts (of two tokens or more: a single new token takes another kernel of attention, and so does the last one of a pass
that leaves it alone in a block of attention). So a beginning that several prompts share is read once, and no text
depends on what else was asked for at the same time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt

from simenv.llm.llama_graph import LlamaShape, llama_graph, read_weights, rotary_tables
from simenv.llm.prefixes import Memory, Prefixes
from simenv.llm.runtime import Logits
from simenv.onnx_session import open_session

_ROOM = 64
"""Tokens by which the memory of a batch grows."""
_LEAST_PART = 2
"""Tokens that a part of a prompt has at least."""


Changes = Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]
"""Name of a weight -> two matrices whose product is added to it: shape (fan out, r) and (r, fan in)."""

_loaded: WeakValueDictionary[tuple[Path, str], OnnxRuntime] = WeakValueDictionary()


def loaded(folder: Path) -> OnnxRuntime:
    """The model of a folder; the same object as long as one is in use, because its weights take 0.7 GB.

    Raises:
        InputError: the folder has a model that the graph cannot compute.
    """
    key = folder.resolve(), os.environ.get("OMP_NUM_THREADS", "")
    runtime = _loaded.get(key)
    if runtime is None:
        runtime = _loaded[key] = OnnxRuntime(folder)
    return runtime


def _threads() -> int:
    """As torch chooses: OMP_NUM_THREADS, else the processor's cores."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else len(os.sched_getaffinity(0))


class OnnxRuntime:
    """A loaded model.

    Args:
        folder: A transformers folder with a Llama model in one safetensors file.
        threads: Threads of one pass; by default OMP_NUM_THREADS or the number of cores.
        changes: Name of a weight -> two matrices whose product is added to it.

    Raises:
        InputError: the folder has a model that the graph cannot compute.
    """

    arithmetic = "onnxruntime float32"
    independent_rows = True

    def __init__(
        self,
        folder: Path,
        threads: int | None = None,
        changes: Changes | None = None,
    ) -> None:
        self._shape = shape = LlamaShape.read(folder)
        weights = read_weights(folder / "model.safetensors")
        graph = llama_graph(shape, weights, changes or ())
        for name, (up, down) in (changes or {}).items():
            weights |= {f"{name}.up": up, f"{name}.down": down}
        self._session = open_session(graph, {**weights, **rotary_tables(shape)}, threads=threads or _threads())
        self.vocab_size = shape.vocab_size
        self.prefixes = Prefixes()
        self._scored: tuple[tuple[int, ...], Memory] = (), []

    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[OnnxBatch, Logits]:
        batch = OnnxBatch(self)
        return batch, batch.add(prompts)

    def score(self, prompt: Sequence[int], rows: Sequence[Sequence[int]]) -> Iterator[Logits]:
        begun = len(prompt) - _LEAST_PART  # the rest is read again with every row, which then has enough tokens
        tokens_needed = len(prompt) + max(map(len, rows))
        (before, memory), self._scored = self._scored, ((), [])  # another thread may score at the same time
        if before != tuple(prompt) or memory[0].shape[2] < tokens_needed:
            memory = self.memory(1, tokens_needed)
            known = self.prefixes.recall(prompt, memory, 0, begun - _LEAST_PART)
            self.run(memory, [prompt[known:begun]], known)
            self.prefixes.remember(prompt[:begun], memory, 0)
        for row in rows:
            tokens = [*prompt[begun:], *row]
            yield self.run(memory, [tokens], begun, range(_LEAST_PART - 1, len(tokens)))
        self._scored = tuple(prompt), memory

    def memory(self, rows: int, tokens: int) -> Memory:
        """Room for the keys and values of at least this many tokens a row."""
        return [self.part(rows, tokens) for _ in range(2 * self._shape.layers)]

    def part(self, rows: int, tokens: int) -> npt.NDArray[np.float32]:
        """Room for the keys or the values of one layer."""
        sizes = (rows, self._shape.kv_heads, -(-tokens // _ROOM) * _ROOM, self._shape.head_size)
        return np.zeros(sizes, dtype=np.float32)

    def run(
        self,
        memory: Memory,
        tokens: Sequence[Sequence[int]],
        before: int | Sequence[int],
        asked: Sequence[int] | None = None,
        binding: Any = None,
    ) -> Logits:
        """One pass: writes the tokens' keys and values into `memory`.

        Args:
            memory: Of as many rows as `tokens` has.
            tokens: New tokens, as many in every row.
            before: Number of tokens before them, in all rows or in each.
            asked: Places among the new tokens of all rows whose logits are returned; the last of each row by default.
            binding: What `bind(memory)` returned, to save that time.

        Returns:
            The logits: shape (asked, vocab).
        """
        ids = np.array(tokens, dtype=np.int64)
        rows, new = ids.shape
        if new > 1 and new % (2 * self._shape.head_size) == 1:
            return self._in_two_passes(memory, ids, before, asked)
        ends = np.broadcast_to(np.asarray(before, dtype=np.int32) + np.int32(new - 1), rows)
        last = np.arange(new - 1, rows * new, new) if asked is None else np.array(asked, dtype=np.int64)
        shape = self._shape
        feeds = {
            "ids": ids.ravel(),
            "shape": np.array([rows, new, (shape.heads + 2 * shape.kv_heads) * shape.head_size]),
            "last": last,
            "ends": np.ascontiguousarray(ends),
            "total": np.array([ends.max() + 1], dtype=np.int32),
        }
        binding = binding or self.bind(memory)
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        logits: Logits = np.empty((len(last), self.vocab_size), dtype=np.float32)
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._session.run_with_iobinding(binding)
        return logits

    def _in_two_passes(
        self, memory: Memory, ids: npt.NDArray[np.int64], before: int | Sequence[int], asked: Sequence[int] | None
    ) -> Logits:
        """`run` for a number of new tokens of which the last would be alone in a block of onnxruntime's attention.

        A block has as many tokens as keys and values of a head have numbers.
        """
        (row,) = ids.tolist()  # several rows never have more than one new token each
        cut = len(row) - _LEAST_PART
        asked = [len(row) - 1] if asked is None else asked
        early = [place for place in asked if place < cut]
        first = self.run(memory, [row[:cut]], before, early or [0])[: len(early)]
        start = before if isinstance(before, int) else before[0]
        rest = self.run(memory, [row[cut:]], start + cut, [place - cut for place in asked if place >= cut])
        return np.concatenate([first, rest])

    def bind(self, memory: Memory) -> Any:
        """A binding whose keys and values are read from `memory` and written there."""
        from onnxruntime import OrtValue

        binding = self._session.io_binding()
        for place, part in enumerate(memory):
            name = f"{'kv'[place % 2]}.{place // 2}"
            value = OrtValue.ortvalue_from_numpy(part)
            binding.bind_ortvalue_input(f"past_{name}", value)
            binding.bind_ortvalue_output(f"new_{name}", value)
        return binding


class OnnxBatch:
    """Texts that are being written.

    Args:
        runtime: The model.
    """

    def __init__(self, runtime: OnnxRuntime) -> None:
        self._runtime = runtime
        self._lengths: list[int] = []
        self._slots: list[int] = []  # of each row, its place in memory: together always the first places
        self._memory: Memory = runtime.memory(0, 0)
        self._binding: Any = None

    def add(self, prompts: Sequence[Sequence[int]]) -> Logits:
        """Adds a row for each prompt; what others began with is not read again.

        Returns:
            The logits after each prompt: shape (prompts, vocab).
        """
        first = len(self._slots)
        self._slots += range(first, first + len(prompts))
        self._lengths += map(len, prompts)
        self._make_room(0)
        self._binding = None
        logits: Logits = np.empty((len(prompts), self._runtime.vocab_size), dtype=np.float32)
        prefixes = self._runtime.prefixes
        for place, prompt in enumerate(prompts):
            row = first + place
            after = prefixes.recall_whole(prompt, self._memory, row)
            if after is None:
                known = prefixes.recall(prompt, self._memory, row, len(prompt) - _LEAST_PART)
                after = self._extend(row, prompt[known:], known)
                prefixes.remember_whole(prompt, self._memory, row, after)
            logits[place] = after
        return logits

    def _extend(self, slot: int, tokens: Sequence[int], before: int) -> Logits:
        logits: Logits = self._runtime.run([part[slot : slot + 1] for part in self._memory], [tokens], before)[0]
        return logits

    def step(self, tokens: Sequence[Sequence[int]]) -> Logits:
        new = len(tokens[0])
        self._make_room(new)
        before = self._lengths
        self._lengths = [length + new for length in before]
        if new > 1:
            return np.stack([self._extend(*row) for row in zip(self._slots, tokens, before, strict=True)])
        rows = len(self._slots)
        views = [part[:rows] for part in self._memory]
        self._binding = self._binding or self._runtime.bind(views)
        order = np.argsort(self._slots)
        lengths = [before[row] for row in order]
        logits = self._runtime.run(views, [tokens[row] for row in order], lengths, binding=self._binding)
        return logits[self._slots]

    def keep(self, rows: Sequence[int]) -> None:
        slots = [self._slots[row] for row in rows]
        free = sorted(set(range(len(slots))) - set(slots))
        for place, slot in enumerate(slots):
            if slot >= len(slots):  # beyond the places that remain
                slots[place] = free.pop()
                copy_beginning(self._memory, slot, self._memory, slots[place], self._lengths[rows[place]])
        self._slots, self._lengths = slots, [self._lengths[row] for row in rows]
        self._binding = None

    def _make_room(self, new: int) -> None:
        """Makes room for all rows, with this many tokens more in each."""
        rows, tokens = len(self._slots), max(self._lengths) + new
        old_rows, _, old_tokens, _ = self._memory[0].shape
        if rows <= old_rows and tokens <= old_tokens:
            return
        sizes = max(rows, old_rows), tokens
        for place, old in enumerate(self._memory):  # one after the other: each old one is freed before the next is made
            larger = self._runtime.part(*sizes)
            used = min(old_tokens, larger.shape[2])
            larger[:old_rows, :, :used] = old[:, :, :used]
            self._memory[place] = larger
        self._binding = None


def copy_beginning(source: Memory, row: int, target: Memory, to: int, tokens: int) -> None:
    """Copies keys and values of the first tokens of a row."""
    for old, new in zip(source, target, strict=True):
        new[to, :, :tokens] = old[row, :, :tokens]
