"""A model on transformers: any architecture, on a CPU or a GPU, also for training."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from simenv.llm.runtime import Logits
from simenv.llm.torch_env import set_torch_defaults

_SCORED_LOGITS = 1024
"""Maximum number of logit rows in one scoring pass: 200 MB of float32 for the embedded model's vocabulary."""


def cpu_has_bfloat16() -> bool:
    """Whether this machine's processor multiplies bfloat16 in hardware.

    Without such instructions a model in bfloat16 reads prompts 5 to 8 times slower than in float32.
    """
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def dtype_for(device: str, dtype: str = "auto") -> str:
    """The precision of a model: `dtype` itself, or what is fastest where it is "auto".

    Args:
        device: A torch device.
        dtype: "auto", "bfloat16" or "float32".
    """
    if dtype != "auto":
        return dtype
    return "bfloat16" if not device.startswith("cpu") or cpu_has_bfloat16() else "float32"


def load_tokenizer(path: Path, trust: dict[str, bool]) -> Any:
    """The tokenizer of a folder.

    Args:
        path: The folder.
        trust: Keyword arguments for transformers about code in the folder.
    """
    set_torch_defaults()
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # a run shows its own progress bar
    return AutoTokenizer.from_pretrained(path, **trust)


class TorchRuntime:
    """A causal language model of transformers.

    Args:
        path: Folder with its weights.
        dtype: See `dtype_for`.
        device: A torch device; "cuda" if there is one, else "cpu".
        max_batch: Maximum number of continuations in one pass of `score`.
        trust: Keyword arguments for transformers about code in the folder.

    Attributes:
        model: The transformers model.
        device: Where it is.
    """

    independent_rows = False  # kernels of another shape add in another order

    def __init__(self, path: Path, dtype: str, device: str | None, max_batch: int, trust: dict[str, bool]) -> None:
        set_torch_defaults()
        from transformers import AutoModelForCausalLM

        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        chosen = dtype_for(self.device, dtype)
        self.arithmetic = f"torch {chosen}"
        self.model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, chosen), **trust)
        self.model.to(self.device).eval()
        self.vocab_size: int = self.model.config.vocab_size
        self._max_batch = max_batch

    @torch.inference_mode()
    def read(self, prompts: Sequence[Sequence[int]]) -> tuple[_TorchBatch, Logits]:
        width = max(map(len, prompts))
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, prompt in enumerate(prompts):  # padding on the left: the last logits are those after the prompt
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        ids, mask = ids.to(self.device), mask.to(self.device)
        batch = _TorchBatch(self, mask, (mask.cumsum(-1) - 1).clamp(min=0))
        return batch, batch.feed(ids)

    @torch.inference_mode()
    def score(self, prompt: Sequence[int], rows: Sequence[Sequence[int]]) -> Iterator[Logits]:
        from transformers import DynamicCache

        shared = DynamicCache()
        ids = torch.tensor([prompt], device=self.device)
        first = self.model(input_ids=ids, past_key_values=shared, use_cache=True, logits_to_keep=1).logits[0]
        width = max(1, *map(len, rows))
        step = max(1, min(self._max_batch, _SCORED_LOGITS // width))
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            ids = torch.zeros((len(part), width), dtype=torch.long)
            for row, tokens in zip(ids, part, strict=True):  # padding on the right: causal attention ignores it
                row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(part))
            logits = self.model(input_ids=ids.to(self.device), past_key_values=cache, use_cache=True).logits
            for tokens, after in zip(part, logits, strict=True):
                yield torch.cat([first, after[: len(tokens)]]).float().cpu().numpy()


class _TorchBatch:
    """Rows of equal width, padded on the left.

    Args:
        runtime: The model.
        mask: Which tokens of the prompts are not padding: shape (rows, width).
        positions: Of the same tokens.
    """

    def __init__(self, runtime: TorchRuntime, mask: torch.Tensor, positions: torch.Tensor) -> None:
        from transformers import DynamicCache

        self._runtime = runtime
        self._mask = mask
        self._positions = positions
        self._cache = DynamicCache()

    def feed(self, ids: torch.Tensor) -> Logits:
        """The logits after these tokens, which `mask` and `positions` cover already."""
        out = self._runtime.model(
            input_ids=ids,
            attention_mask=self._mask,
            position_ids=self._positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Logits = out.logits[:, -1].float().cpu().numpy()
        return logits

    @torch.inference_mode()
    def step(self, tokens: Sequence[Sequence[int]]) -> Logits:
        ids = torch.tensor(tokens, device=self._runtime.device)
        self._positions = self._positions[:, -1:] + torch.arange(1, ids.shape[1] + 1, device=ids.device)
        self._mask = torch.cat([self._mask, self._mask.new_ones(ids.shape)], dim=1)
        return self.feed(ids)

    @torch.inference_mode()
    def keep(self, rows: Sequence[int]) -> None:
        index = torch.tensor(rows, device=self._runtime.device)
        self._cache.batch_select_indices(index)
        self._positions, self._mask = self._positions[index], self._mask[index]
