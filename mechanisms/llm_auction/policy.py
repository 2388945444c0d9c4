"""The policy as a language model: the base model with a LoRA adapter, and its exact distribution over choices.

The completion of a slim prompt has at most two labels. The prompt of length L is a shared context. All n possible first
labels are appended, each at position L, and each attends only to the prompt and itself (a tree mask). So one forward
pass of L + n tokens gives the distribution of the first ad, and of the second ad after each first one. Sampling,
log-probabilities, entropy and divergences are exact, and training changes the distribution that `LLM.complete` samples
from under the constraint.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from simenv.errors import MissingCapability
from simenv.llm import Prompt
from simenv.llm.constraints import TokenTable
from simenv.llm.local import LocalLLM

from . import lora
from .slim import LABELS, NONE, Offer
from .written import Page, Written


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
        self._onnx: tuple[int, LocalLLM] | None = None
        if adapter is None:
            self.trained = lora.inject(self._model, r, alpha, seed, blocks)
        else:
            self.trained = lora.load(self._model, Path(adapter))
        if checkpointing:
            # transformers 5.23 renamed it
            enable = getattr(self._model, "activation_checkpointing_enable", self._model.gradient_checkpointing_enable)
            enable({"use_reentrant": False})
            self._model.train()  # checkpointing needs training mode; the model has no dropout

    @property
    def version(self) -> int:
        """A number that changes whenever the adapter does."""
        return sum(parameter._version for parameter in self.trained.values())

    def on_onnx(self) -> LocalLLM:
        """The present policy on onnxruntime: built again when the adapter has changed."""
        version = self.version
        if self._onnx is None or self._onnx[0] != version:
            self._onnx = None
            gc.collect()  # frees its weights first: a model and its stream refer to each other
            scale = next(layer.scale for layer in self._model.modules() if isinstance(layer, lora.LoRALinear))
            llm = LocalLLM(
                self.folder,
                name=f"{self.name} {version}",
                follows_formats=False,
                runtime="onnx",
                changes=lora.changes(self.trained, scale),
            )
            self._onnx = version, llm
        return self._onnx[1]

    @property
    def model(self) -> Any:
        """The transformers model, with the adapter's layers."""
        return self._model

    @property
    def device(self) -> str:
        """The torch device that holds it."""
        return self._device

    @property
    def token_table(self) -> TokenTable:
        """Facts on the tokenizer."""
        return self._table

    def prompt_tokens(self, prompt: Prompt) -> list[int]:
        """The tokens of a prompt."""
        return self._encode(prompt)

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        text: str = self._tokenizer.decode(tokens)
        return text

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

    def written_logps(self, asked: Page, texts: Sequence[Written]) -> torch.Tensor:
        """Log-probability of each text as the policy writes it under `asked.links()`: shape (texts,).

        At temperature 1, of the tokens that are sampled: those of a link are given, and the choice of its label counts
        in their place. Differentiable. The prompt is read once for all texts.
        """
        return self._written_logps([(asked, texts)])[0]

    def written_logps_of(
        self, batch: Sequence[tuple[Page, Sequence[Written]]], *, choices: bool = True
    ) -> list[torch.Tensor]:
        """`written_logps` of several pages. On a GPU all texts share one pass, which costs as much as a single one.

        Args:
            batch: Pages with their texts.
            choices: Whether the choices of labels count.
        """
        if self._device == "cpu" or self._model.training:
            return [self._written_logps([one], choices)[0] for one in batch]
        return self._written_logps(batch, choices)

    def _written_logps(
        self, batch: Sequence[tuple[Page, Sequence[Written]]], choices: bool = True
    ) -> list[torch.Tensor]:
        """`written_logps_of` in one pass. All prompts are read side by side, each once."""
        owners = [place for place, (_, texts) in enumerate(batch) for _ in texts]
        rows = [self._sampled(asked, text) for asked, texts in batch for text in texts]
        rows = rows if choices else [row._replace(labels=[]) for row in rows]
        hidden = self._hidden([self._encode(asked.prompt) for asked, _ in batch], owners, [row.ids for row in rows])
        logps = self._logps(list(hidden), rows, [len(batch[place][0].ads) for place in owners])
        return list(torch.split(logps, [len(texts) for _, texts in batch]))

    def label_logps(self, batch: Sequence[tuple[Page, Sequence[str]]]) -> list[torch.Tensor]:
        """The choice of an ad behind each text of a page: shape (texts, ads + 1) for each page.

        The log-probability of each ad if a link opens there, -inf for the ads that the text has; in the last column
        that of the opening, -inf behind a blank text. A page is read once for all its texts. On a GPU all pages share a
        pass. Differentiable.
        """
        if self._device == "cpu" and len(batch) > 1:
            return [self.label_logps([one])[0] for one in batch]
        owners = [place for place, (_, texts) in enumerate(batch) for _ in texts]
        rows = [self._sampled(asked, Written(text, ended=False)) for asked, texts in batch for text in texts]
        tokens = [[*row.ids, self.opener, self._table.eos] for row in rows]  # a state stands before each token
        hidden = self._hidden([self._encode(asked.prompt) for asked, _ in batch], owners, tokens)
        before = torch.stack([one[len(row.ids)] for one, row in zip(hidden, rows, strict=True)])
        logits = self._model.lm_head(before).float().masked_fill(self.closed, -torch.inf)
        logits[[i for i, row in enumerate(rows) if len(row.ids) < row.first_open], self.opener] = -torch.inf
        opened = logits.log_softmax(-1)[:, self.opener]
        scores = self._label_scores(torch.stack([one[len(row.ids) + 1] for one, row in zip(hidden, rows, strict=True)]))
        result = []
        for place, (asked, _) in enumerate(batch):
            own = [i for i, owner in enumerate(owners) if owner == place]
            used = torch.zeros((len(own), len(asked.ads)), dtype=torch.bool, device=scores.device)
            for line, i in enumerate(own):
                full = len(rows[i].labels) >= asked.most
                used[line, slice(None) if full else [label for _, label in rows[i].labels]] = True
            labels = scores[own, : len(asked.ads)].masked_fill(used, -torch.inf).log_softmax(-1)
            result.append(torch.cat([labels, opened[own, None]], dim=1).cpu())
        return result

    def written_tokens(self, asked: Page, text: Written) -> list[int]:
        """The tokens of a text as `written_logps` reads it, without its end."""
        ids = self._sampled(asked, text).ids
        return ids[:-1] if text.ended else ids

    def free_tokens(self, asked: Page, text: Written) -> int:
        """How many tokens of a text the policy samples, without the labels."""
        return len(self._sampled(asked, text).free)

    def _hidden(self, prompts: list[list[int]], owners: list[int], texts: list[list[int]]) -> torch.Tensor:
        """Hidden states before each token of texts: shape (texts, width, hidden size).

        Args:
            prompts: Tokens of prompts. They are padded on the left.
            owners: The prompt that each text follows.
            texts: Tokens of texts. They are padded on the right, where padding changes nothing before it.
        """
        eos, device = self._table.eos, self._device
        wide = max(map(len, prompts))
        starts = torch.tensor([[eos] * (wide - len(one)) + one for one in prompts], device=device)
        mask = torch.tensor([[0] * (wide - len(one)) + [1] * len(one) for one in prompts], device=device)
        wide = max(map(len, texts))
        ids = torch.tensor([[*one, *[eos] * (wide - len(one))] for one in texts], device=device)
        both = torch.cat([mask[owners], torch.ones_like(ids)], dim=1)
        padded = not bool(mask.all())
        if self._model.training:  # recomputed activations exclude a cache
            whole: torch.Tensor = self._model.model(
                input_ids=torch.cat([starts[owners], ids], dim=1),
                attention_mask=both if padded else None,
                position_ids=positions_of(both),
                use_cache=False,
            ).last_hidden_state
            return whole[:, starts.shape[1] - 1 : -1]
        from transformers import DynamicCache

        cache = DynamicCache()
        model = partial(self._model.model, past_key_values=cache, use_cache=True)
        first = model(
            input_ids=starts, attention_mask=mask if padded else None, position_ids=positions_of(mask)
        ).last_hidden_state[:, -1:]
        cache.batch_select_indices(torch.tensor(owners, device=device))
        after = model(
            input_ids=ids,
            attention_mask=both if padded else None,
            position_ids=positions_of(both)[:, starts.shape[1] :],
        ).last_hidden_state
        return torch.cat([first[owners], after[:, :-1]], dim=1)

    def _logps(self, hidden: Sequence[torch.Tensor], rows: Sequence[_Sampled], ads: Sequence[int]) -> torch.Tensor:
        """The log-probabilities of texts: shape (texts,).

        Args:
            hidden: For each text, the states before each of its tokens, and more where it was padded.
            rows: Their tokens.
            ads: For each text, the number of ads that it could insert.
        """
        device = hidden[0].device
        states = torch.cat([one[row.free] for one, row in zip(hidden, rows, strict=True)])
        logits = self._model.lm_head(states).float().masked_fill(self.closed, -torch.inf)
        shut = [not row.first_open <= place <= row.last_open for row in rows for place in row.free]
        logits[torch.tensor(shut, dtype=torch.bool, device=device), self.opener] = -torch.inf
        targets = torch.tensor([row.ids[place] for row in rows for place in row.free], device=device)
        owners = torch.tensor([i for i, row in enumerate(rows) for _ in row.free], device=device)
        logps = logits.log_softmax(-1).gather(-1, targets[:, None])[:, 0]
        total = torch.zeros(len(rows), device=device).index_add(0, owners, logps)
        chosen = [(i, place, label) for i, row in enumerate(rows) for place, label in row.labels]
        if chosen:
            scores = self._label_scores(torch.stack([hidden[i][place] for i, place, _ in chosen]))
            barred = torch.tensor([[label >= ads[i] for label in range(scores.shape[1])] for i, _, _ in chosen])
            for line, (i, place, _) in enumerate(chosen):  # an ad is inserted once
                barred[line, [label for before, label in rows[i].labels if before < place]] = True
            scores = scores.masked_fill(barred.to(device), -torch.inf)
            labels = torch.tensor([label for _, _, label in chosen], device=device)
            owners = torch.tensor([i for i, _, _ in chosen], device=device)
            total = total.index_add(0, owners, scores.log_softmax(-1).gather(-1, labels[:, None])[:, 0])
        return total.cpu()

    def _label_scores(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of all labels: shape (states, labels)."""
        words = self._words[:-1].to(states.device)
        return torch.nn.functional.linear(states, self._model.lm_head.weight[words]).float()

    @cached_property
    def opener(self) -> int:
        """The token that opens a link in the written format."""
        return self._table.link("@")[0]

    @cached_property
    def closed(self) -> torch.Tensor:
        """Whether a token is mark-up that the written format never samples: all but the opener. Shape (vocabulary,)."""
        with torch.inference_mode(False):  # may be read first while sampling; a loss keeps it for its backward pass
            closed = torch.tensor(self._table.markup, device=self._device)
            closed[self.opener] = False
        return closed

    def _sampled(self, asked: Page, text: Written) -> _Sampled:
        """The tokens of a text, and which of them the policy sampled."""
        links = [f" {ad.link}" for ad in asked.ads]
        ids: list[int] = []
        free: list[int] = []
        labels: list[tuple[int, int]] = []
        for piece in re.split(rf"({'|'.join(map(re.escape, links))})", text.text) if links else [text.text]:
            if piece in links:
                free.append(len(ids))  # the opener
                labels.append((len(ids) + 1, links.index(piece)))
                ids += self._table.link(piece[1:])
            else:
                tokens = self._table.encode(piece)
                free += range(len(ids), len(ids) + len(tokens))
                ids += tokens
        if text.ended:
            free.append(len(ids))
            ids.append(self._table.eos)
        most = min(asked.most, len(links))
        last_open = labels[most - 1][0] if 0 < most <= len(labels) else len(ids) if most else -1
        begun = (i for i, token in enumerate(ids) if not self._table.blank[token])
        return _Sampled(ids, free, labels, next(begun, len(ids)) + 1, last_open)


class _Sampled(NamedTuple):
    """A text as the policy samples it."""

    ids: list[int]
    free: list[int]
    """Places of the tokens that were sampled freely."""
    labels: list[tuple[int, int]]
    """Place of the first token in a label's stead, and the label's index among the offered ads."""
    first_open: int
    """The first place at which a link may be opened: after a token that is not white space."""
    last_open: int
    """The last place at which a link may be opened."""


def positions_of(mask: torch.Tensor) -> torch.Tensor:
    """The positions of tokens: padding on the left does not count."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


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
