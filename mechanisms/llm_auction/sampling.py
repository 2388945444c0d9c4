"""Samples answers in the written format, for training and experiments.

On a CPU they are keyed draws of `LLM.complete` on onnxruntime, which decodes at twice the speed of PyTorch there, as a
mechanism's own answers are. A GPU samples many at once, by the same rules as under `simenv.llm.LabelledLinks`; then the
draws come from one generator, so a text depends on what else is sampled with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from simenv.background_loop import gather, run_sync
from simenv.llm import Sampling
from simenv.llm.constraints import LabelGuide
from simenv.seeding import keyed_rng

from .policy import AdaptedLLM, positions_of
from .written import Page, Written

ROWS = 1024
"""Texts that are sampled together."""


def sample(
    policy: AdaptedLLM,
    pages: Sequence[tuple[str, Page]],
    count: int,
    sampling: Sampling,
    key: str,
    *,
    required: bool = False,
) -> list[list[Written]]:
    """`count` independent texts for each page.

    Args:
        policy: The model with its adapter.
        pages: What it is asked, each with the id of its auction.
        count: Texts a page.
        sampling: Temperature, top-p, top-k and limit of tokens.
        key: Names the draw.
        required: Whether a text may end only when it has all ads.
    """
    if policy.device != "cpu":
        asked = [one for _, one in pages]
        return sample_pages(policy, asked, count, sampling, f"{pages[0][0]} {key}", required=required)
    llm = policy.on_onnx()

    async def one(auction: str, asked: Page, j: int) -> Written:
        reply = await llm.complete(
            asked.prompt,
            key=(auction, "llm-auction", key, j),
            sampling=sampling,
            constraint=asked.links(required=required) if asked.ads else None,
        )
        return Written(reply.text, reply.finish == "stop")

    return run_sync(lambda: gather([gather([one(*pair, j) for j in range(count)]) for pair in pages]))


def sample_pages(
    policy: AdaptedLLM, pages: Sequence[Page], count: int, sampling: Sampling, key: str, *, required: bool = False
) -> list[list[Written]]:
    """`sample` on PyTorch, on any device."""
    step = max(1, ROWS // count)
    texts: list[list[Written]] = []
    order = sorted(range(len(pages)), key=lambda i: len(pages[i].prompt.user))  # less padding
    for start in range(0, len(order), step):
        part = [pages[i] for i in order[start : start + step]]
        seed = int(keyed_rng("written sample", key, start).integers(2**62))
        texts += _sample(policy, part, count, sampling, seed, required)
    back = dict(zip(order, texts, strict=True))
    return [back[i] for i in range(len(pages))]


class _Row:
    """One text that is being written."""

    def __init__(self, guide: LabelGuide) -> None:
        self.guide = guide
        self.given: list[int] = []
        self.tokens: list[int] = []
        self.done = False
        self.ended = False

    def take(self, token: int, eos: int, limit: int) -> int:
        """Takes a sampled token, or the next one that is given in its place. Returns what is fed to the model."""
        if self.done:
            return eos
        if self.given:
            token = self.given.pop(0)
        elif self.guide.unfinished:
            token, *self.given = self.guide.written_for(token)
        elif token == eos:
            self.done = self.ended = True
            return eos
        else:
            self.guide.advance(token)
        self.tokens.append(token)
        self.done = len(self.tokens) >= limit and not self.given
        return token


@torch.inference_mode()
def _sample(
    policy: AdaptedLLM, pages: Sequence[Page], count: int, sampling: Sampling, seed: int, required: bool
) -> list[list[Written]]:
    from transformers import DynamicCache

    table, model, device, opener = policy.token_table, policy.model, policy.device, policy.opener
    prompts = [policy.prompt_tokens(one.prompt) for one in pages]
    width = max(map(len, prompts))
    ids = torch.tensor([[table.eos] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    cache = DynamicCache()
    out = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_of(mask),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_repeat_interleave(count)
    logits = out.logits[:, -1].repeat_interleave(count, 0)
    mask = mask.repeat_interleave(count, 0)
    positions = mask.sum(-1, keepdim=True)
    rows = [
        _Row(LabelGuide(one.links(required=required), table, one.prompt.prefill)) for one in pages for _ in range(count)
    ]
    generator = torch.Generator(device=device).manual_seed(seed)
    while True:
        drawn = _draw(logits.float(), rows, policy.closed, opener, table.eos, required, sampling, generator).tolist()
        fed = [row.take(token, table.eos, sampling.max_tokens) for row, token in zip(rows, drawn, strict=True)]
        if all(row.done for row in rows):
            break
        mask = torch.cat([mask, mask.new_ones(len(rows), 1)], 1)
        out = model(
            input_ids=torch.tensor(fed, device=device)[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        )
        positions = positions + 1
        logits = out.logits[:, -1]
    written = [_text(policy, row) for row in rows]
    return [written[start : start + count] for start in range(0, len(written), count)]


def _draw(
    logits: torch.Tensor,
    rows: Sequence[_Row],
    closed: torch.Tensor,
    opener: int,
    eos: int,
    required: bool,
    sampling: Sampling,
    generator: torch.Generator,
) -> torch.Tensor:
    """One token for each row, under its constraint: shape (rows,)."""
    choosing = {i: row.guide.left for i, row in enumerate(rows) if row.guide.unfinished}
    label_logits = {i: logits[i, list(left)] for i, left in choosing.items()}
    logits = logits.masked_fill(closed, -torch.inf)
    barred = [i for i, row in enumerate(rows) if not (row.guide.left and row.guide.begun)]
    logits[barred, opener] = -torch.inf
    if required:
        logits[[i for i, row in enumerate(rows) if row.guide.left], eos] = -torch.inf
    for i, scores in label_logits.items():
        logits[i] = -torch.inf
        logits[i, list(choosing[i])] = scores
    if sampling.temperature == 0:
        return logits.argmax(-1)
    scores, ids = logits.topk(min(sampling.top_k or 200, logits.shape[-1]))
    probs = (scores / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:  # the smallest set of top tokens that reaches top_p
        probs = probs.masked_fill(probs.cumsum(-1) - probs >= sampling.top_p, 0.0)
    return ids.gather(1, torch.multinomial(probs, 1, generator=generator))[:, 0]


def _text(policy: Any, row: _Row) -> Written:
    tokens = row.tokens[:-1] if row.guide.unfinished else row.tokens  # a link that was opened at the limit
    return Written(policy.text_of(tokens), row.ended)
