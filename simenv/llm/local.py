"""Any causal language model that transformers can load from disk, with batching and constrained decoding.

The decoding loop is our own, in place of `model.generate`, because each row needs its own keyed noise, its own
constraint and the log-probabilities of the distribution it was really sampled from.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from simenv.errors import InputError
from simenv.llm.base import LLM, Capability, Completion, LinksOnly, OneOf, Request, Sampling, display_name
from simenv.llm.batching import Batcher
from simenv.llm.constraints import Guide, TokenTable
from simenv.records import Usage
from simenv.seeding import keyed_rng


class _Row:
    """One completion in the making."""

    def __init__(self, request: Request, table: TokenTable) -> None:
        self.request = request
        constraint = request.constraint
        self.guide = Guide(constraint, table) if isinstance(constraint, LinksOnly | OneOf) else None
        # An option is always written to its end, whatever the limit.
        self.limit = max(request.sampling.max_tokens, self.guide.needs if self.guide is not None else 0)
        # One uniform per token, from the key alone: another prompt under the same key meets the same noise.
        self.noise = keyed_rng("completion", *request.key).random(self.limit)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.finish: str | None = None


class LocalLLM(LLM):
    """A causal language model on this machine.

    Args:
        path: Folder with a transformers model and tokenizer.
        name: How results refer to it.
        capable: See `LLM`.
        dtype: "bfloat16" or "float32".
        device: A torch device; "cuda" if there is one, else "cpu".
        max_batch: Most prompts in one forward pass.

    Raises:
        InputError: no model at `path`.
    """

    capabilities = frozenset({Capability.CONSTRAINT, Capability.PREFILL, Capability.LOGPROBS})

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        capable: bool = True,
        dtype: str = "bfloat16",
        device: str | None = None,
        max_batch: int = 32,
    ) -> None:
        super().__init__()
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a local folder never needs the hub
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # the run has a progress bar of its own
        if not (Path(path) / "config.json").is_file():
            raise InputError(f"no transformers model at {path}: expected a folder with config.json and weights")
        self.name = name or display_name(f"local:{path}")
        self.capable = capable
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self._model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype))
        self._model.to(self._device).eval()
        self._table = TokenTable(self._tokenizer, self._model.config.vocab_size)
        self._batcher: Batcher[Request, Completion] = Batcher(self._run, self._order, max_batch)

    async def _generate(self, request: Request) -> Completion:
        return await self._batcher.submit(request)

    def _order(self, request: Request) -> tuple[object, ...]:
        # Prompts of like length share a batch (less padding); key and text make the order total.
        text = self.render(request)
        return (len(text) // 256, request.sampling.max_tokens, repr(request.key), text, repr(request))

    def render(self, request: Request) -> str:
        """The prompt as the model reads it: its chat template, then the prefill."""
        prompt = request.prompt
        messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
        messages.append({"role": "user", "content": prompt.user})
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text + prompt.prefill

    @torch.inference_mode()
    def _run(self, requests: Sequence[Request]) -> list[Completion]:
        from transformers import DynamicCache

        rows = [_Row(request, self._table) for request in requests]
        prompts = [self._tokenizer.encode(self.render(r), add_special_tokens=False) for r in requests]
        width = max(map(len, prompts))
        ids = torch.full((len(rows), width), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for i, prompt in enumerate(prompts):  # left padding: all rows end at the same column
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache = DynamicCache()
        active = list(rows)
        while True:
            out = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            chosen = self._sample(out.logits[:, -1].float().cpu(), active)
            keep = [i for i, row in enumerate(active) if row.finish is None]
            if not keep:
                break
            ids = torch.tensor(chosen, device=self._device)[:, None]
            positions = positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones((len(active), 1))], dim=1)
            if len(keep) < len(active):  # finished rows leave the batch
                index = torch.tensor(keep, device=self._device)
                cache.batch_select_indices(index)
                ids, positions, mask = ids[index], positions[index], mask[index]
                active = [active[i] for i in keep]
        return [self._completion(row, len(prompt)) for row, prompt in zip(rows, prompts, strict=True)]

    def _sample(self, logits: torch.Tensor, rows: list[_Row]) -> list[int]:
        """Samples one token for every row: logits of shape (rows, vocab). Marks rows that are over."""
        chosen = []
        for row, scores in zip(rows, logits, strict=True):
            if row.guide is not None:
                row.guide.mask(scores)
            token, logprob = _draw(scores, row.request.sampling, float(row.noise[len(row.tokens)]))
            chosen.append(token)
            over = row.guide.advance(token) if row.guide is not None else False
            if token == self._table.eos:
                row.finish = "stop"
                if isinstance(row.request.constraint, OneOf) and row.logprobs:
                    row.logprobs[-1] += logprob  # one option begins another: to end here was a choice too
                continue
            row.tokens.append(token)
            row.logprobs.append(logprob)
            if over or self._stopped(row):
                row.finish = "stop"
            elif len(row.tokens) >= row.limit:
                row.finish = "length"
        return chosen

    def _stopped(self, row: _Row) -> bool:
        stop = row.request.sampling.stop
        if not stop:
            return False
        tail = self._tokenizer.decode(row.tokens[-16:])
        return any(s in tail for s in stop)

    def _completion(self, row: _Row, prompt_tokens: int) -> Completion:
        used = len(row.tokens)
        if isinstance(row.request.constraint, LinksOnly) and row.guide is not None and row.guide.unfinished:
            del row.tokens[-row.guide.unfinished :], row.logprobs[-row.guide.unfinished :]  # cut within a link
        text: str = self._tokenizer.decode(row.tokens)
        for stop in row.request.sampling.stop:
            text = text.split(stop, 1)[0]
        return Completion.model_validate(
            {
                "text": text,
                "finish": row.finish,
                "tokens": tuple(self._tokenizer.convert_ids_to_tokens(row.tokens)),
                "logprobs": tuple(row.logprobs),
                "usage": Usage(calls=1, prompt_tokens=prompt_tokens, completion_tokens=used),
            }
        )


def _draw(scores: torch.Tensor, sampling: Sampling, uniform: float) -> tuple[int, float]:
    """One token and its log-probability after temperature, top-k and top-p, by inverting the CDF at `uniform`."""
    if sampling.temperature == 0:
        return int(scores.argmax()), 0.0
    k = min(sampling.top_k or scores.numel(), int(torch.isfinite(scores).sum()))
    top, ids = scores.topk(k)
    probs = torch.softmax(top.double() / sampling.temperature, dim=0)
    if sampling.top_p < 1:  # the smallest set of top tokens that reaches top_p
        keep = int((probs.cumsum(0) < sampling.top_p).sum()) + 1
        probs, ids = probs[:keep] / probs[:keep].sum(), ids[:keep]
    # In token order, not probability order: a small change of the logits then rarely changes the token.
    ids, order = ids.sort()
    cdf = np.cumsum(probs[order].numpy())
    pick = min(int(np.searchsorted(cdf, uniform * cdf[-1], side="right")), len(cdf) - 1)
    return int(ids[pick]), float(np.log(probs[order][pick].item()))
