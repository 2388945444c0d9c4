"""The policy as a language model: the base model with a LoRA adapter, and its exact distribution over choices.

The completion of a slim prompt has at most two labels. The prompt of length L is a shared context. All n possible first
labels are appended, each at position L, and each attends only to the prompt and itself (a tree mask). So one forward
pass of L + n tokens gives the distribution of the first ad, and of the second ad after each first one. Sampling,
log-probabilities, entropy and divergences are exact, and training changes the distribution that `LLM.complete` samples
from under the constraint.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from simenv.errors import MissingCapability
from simenv.llm import Prompt
from simenv.llm.local import LocalLLM

from . import lora
from .slim import LABELS, NONE, Offer


class AdaptedLLM(LocalLLM):
    """A local model with a LoRA adapter.

    Args:
        path: Folder of the base model.
        adapter: Folder of the adapter; None starts a new one, which has no effect before training.
        r, alpha, blocks, seed: Options of a new adapter: see `lora.inject`.
        checkpointing: Recompute activations in the backward pass, for models that otherwise do not fit in memory.
        name, follows_formats, trust_remote_code: See `LocalLLM`.

    Raises:
        InputError: the folder has no model.
        DataFileError: the folder has no adapter, a damaged one, or one of another model.
    """

    def __init__(
        self,
        path: str | Path,
        adapter: str | Path | None = None,
        *,
        r: int = 8,
        alpha: float = 16.0,
        blocks: Sequence[int] = (),
        seed: int = 0,
        checkpointing: bool = False,
        name: str = "adapted",
        follows_formats: bool = False,
        trust_remote_code: bool = False,
    ) -> None:
        super().__init__(path, name=name, follows_formats=follows_formats, trust_remote_code=trust_remote_code)
        self.base = Path(path).name
        if adapter is None:
            self.trained = lora.inject(self._model, r, alpha, seed, blocks)
        else:
            self.trained = lora.load(self._model, Path(adapter))
        if checkpointing:
            # transformers 5.23 renamed it
            enable = getattr(self._model, "activation_checkpointing_enable", self._model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
            self._model.train()  # checkpointing needs training mode; the model has no dropout

    @cached_property
    def _words(self) -> torch.Tensor:
        """Token ids of the labels and of "None": shape (labels + 1,)."""
        words = [self._tokenizer.encode(f" {word}", add_special_tokens=False) for word in [*LABELS, NONE]]
        if any(len(tokens) != 1 for tokens in words):
            raise MissingCapability(
                f"the tokenizer of {self.base} splits a label into several tokens: the slim format needs one per label"
            )
        return torch.tensor([tokens[0] for tokens in words])

    def log_probs(self, offers: Sequence[Offer]) -> list[torch.Tensor]:
        """Log-probability of every choice, differentiable.

        Returns:
            For each offer of n candidates a matrix of shape (n + 1, n + 1): row = first ad, column = second ad, n =
            none; -inf if the pair is not a valid choice. `cell` gives the place of a choice.

        Raises:
            MissingCapability: the tokenizer has no single token for a label.
        """
        prompts = [self._encode(one.prompt) for one in offers]
        width = max(len(prompt) + len(one.bids) for prompt, one in zip(prompts, offers, strict=True))
        ids = torch.zeros((len(offers), width), dtype=torch.long)
        positions = torch.zeros_like(ids)
        mask = torch.zeros((len(offers), 1, width, width), dtype=torch.bool)
        mask[:, 0].diagonal(dim1=-2, dim2=-1).fill_(True)  # padding attends to itself: an empty mask row gives nan
        for i, (prompt, one) in enumerate(zip(prompts, offers, strict=True)):
            length, n = len(prompt), len(one.bids)
            ids[i, :length] = torch.tensor(prompt)
            ids[i, length : length + n] = self._words[:n]
            positions[i, :length] = torch.arange(length)
            positions[i, length : length + n] = length
            mask[i, 0, :length, :length] = torch.ones(length, length, dtype=torch.bool).tril()
            mask[i, 0, length : length + n, :length] = True
        hidden = self._model.model(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=positions.to(self._device),
            use_cache=False,
        ).last_hidden_state
        head: Any = self._model.lm_head.weight[self._words.to(self._device)]
        return [
            _joint(torch.nn.functional.linear(row[len(prompt) - 1 : len(prompt) + len(one.bids)], head).float(), one)
            for row, prompt, one in zip(hidden, prompts, offers, strict=True)
        ]

    def text_logps(self, prompt: Prompt, texts: Sequence[str]) -> torch.Tensor:
        """Log-probability of each text as the complete answer to a prompt, including the end token: shape (texts,).

        At temperature 1 and without constraints, as preference losses require; differentiable.
        """
        start = self._encode(prompt)
        encode = partial(self._tokenizer.encode, add_special_tokens=False, split_special_tokens=True)
        rows = [[*encode(text), self._table.eos] for text in texts]
        width = max(map(len, rows))
        ids = torch.tensor([[*start, *row, *[self._table.eos] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * (len(start) + len(row)) + [0] * (width - len(row)) for row in rows])
        logits = self._model(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            use_cache=False,
            logits_to_keep=width + 1,
        ).logits[:, :-1]
        tokens = ids[:, len(start) :].to(self._device)
        logps: torch.Tensor = logits.float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return (logps * mask[:, len(start) :].to(self._device)).sum(1).cpu()


def cell(choice: Sequence[int], n: int) -> tuple[int, int]:
    """Row and column of a choice in the matrix of `log_probs`."""
    first, second = (*choice, n, n)[:2]
    return first, second


def _joint(logits: torch.Tensor, one: Offer) -> torch.Tensor:
    """The matrix of `log_probs` from logits over labels, after the prompt and after each first label.

    Args:
        logits: Shape (n + 1, all labels + 1).
        one: The offer.
    """
    n = len(one.bids)
    table = torch.cat([logits[:, :n], logits[:, -1:]], dim=1)  # the offered labels and "None"
    out = torch.full((n + 1, n + 1), -torch.inf)
    if one.places == 0:
        out[n, n] = 0.0
        return out
    first = table[0].log_softmax(0).cpu()
    closed = torch.full((n, n), -torch.inf)
    if one.places == 1:
        return torch.cat([torch.cat([closed, first[:n, None]], 1), torch.cat([closed[:1, :n], first[n:, None]], 1)])
    own = torch.eye(n, n + 1, dtype=torch.bool)
    second = table[1:].cpu().masked_fill(own, -torch.inf).log_softmax(1)
    none = torch.full((1, n), -torch.inf)
    return torch.cat([first[:n, None] + second, torch.cat([none, first[n:, None]], 1)])
