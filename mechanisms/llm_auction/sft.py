"""Supervised fine-tuning: examples of answers with ads, from which the policy starts in the written format.

The examples use the questions, personas and ads of the training part alone. Each is a plain answer of the base model
with the sentences of `ADS` ads, put at random places behind its first sentence. A sentence about an ad is one of
`SENTENCES` with the advertiser's own words. Half of them (`TAKEN_UP`) first take up words of the question: "For a trip
to Lisbon, @Harbour Inn@[A1] may help". Such a beginning names no ad, so the choice of the ad stays that of one token.
The other half begins with the link. Which of the two brings more clicks is for IRPO to find out. Four kinds of prompts
teach four things:

    auction     candidates with their bids: the ads are drawn by the retriever's score, not by bid
    no bids     the same without bids
    winners     only the ads that the answer shows: the writer of other mechanisms
    plain       a question without commercial intent, with candidates: the answer has no ad

The choice of ads is no part of the loss. Where bids are shown it would teach that they do not matter, and where the
winners are shown, that the first ad of a list comes first.

An example is kept if its answer is well-formed, does more than repeat the question and keeps to the ads' copy, and if
what precedes the sentences about ads makes them more likely for the base model than it does in most examples
(`COHERENT`). No judge is asked.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from simenv import Writer, markup
from simenv.background_loop import gather, run_sync
from simenv.errors import DataFileError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.limits import read_bytes
from simenv.llm import LLM, Prompt
from simenv.records import Ad, Auction
from simenv.seeding import keyed_rng
from simenv.text import sentences_with_space
from simenv.writer.claims import content_words
from simenv.writer.copy_check import own_words
from simenv.writer.guards import loops

from .irpo import Config, cosine
from .levels import Episode
from .written import Page, Written, answers, page, read, winners_page

if TYPE_CHECKING:
    from .policy import AdaptedLLM

ADS = 2
"""Ads of an example, if it has any."""
ANCHORED = 4
"""Examples of an update of IRPO."""
COHERENT = 0.8
"""Share of the sentences that count as coherent."""
SENTENCES = (
    "{link}: {words}",
    "{link} may help: {words}",
    "{link} can help with this: {words}",
    "{link} is made for this: {words}",
    "{link} is one option: {words}",
    "{link} is an option here: {words}",
    "{link} is worth a look: {words}",
)
TAKEN_UP = 0.5
"""Share of the sentences that take up words of the question."""
BEGINNINGS = (
    "For {topic}, ",
    "As for {topic}, ",
    "When it comes to {topic}, ",
    "Since you ask about {topic}, ",
    "If it is about {topic}, ",
)
_TOPIC = (2, 6)
"""Fewest and most words of the question that are taken up."""
_KINDS = {"auction": 0.5, "no bids": 0.15, "winners": 0.35}
"""Shares of the kinds of prompts for questions that ads may suit."""
_CLAUSE = re.compile(r"[^.,;:!?()\"\n]+")
_SHARPNESS = 8.0
"""How strongly the retriever's score decides which ads an example shows: weights are exp(_SHARPNESS * cosine)."""


class Example(NamedTuple):
    """A prompt and an answer to learn."""

    kind: str
    asked: Page
    text: Written


class _Draft(NamedTuple):
    example: Example
    context: tuple[tuple[str, str], ...]
    """Of each ad: the text before its sentence, and the sentence."""


def examples(llm: LLM, episodes: Sequence[Episode], plain: Sequence[Episode], *, profile: bool) -> list[Example]:
    """Makes examples: at most one of each auction.

    Args:
        llm: The base model.
        episodes: Auctions of the training part.
        plain: Auctions of the training part for questions without commercial intent.
        profile: Whether prompts show the user's profile.
    """
    writer = Writer(llm)

    async def all_drafts() -> list[_Draft | None]:
        return await gather(
            [
                *(_draft(writer, episode, profile) for episode in episodes),
                *(_plain(writer, episode, profile) for episode in plain),
            ]
        )

    auctions = [episode.auction for episode in (*episodes, *plain)]
    made = [
        (draft, auction) for draft, auction in zip(run_sync(all_drafts), auctions, strict=True) if draft is not None
    ]
    drafts = [draft for draft, _ in made]
    scores = run_sync(lambda: _coherence(llm, drafts))
    known = [score for one in scores for score in one]
    least = float(np.quantile(known, 1 - COHERENT)) if known else 0.0
    return [
        draft.example
        for (draft, at), one in zip(made, scores, strict=True)
        if all(score >= least for score in one) and answers(at, draft.example.text.text)
    ]


def summary(made: Sequence[Example]) -> str:
    """What the examples are, in a line."""
    kinds = Counter(example.kind for example in made)
    ads = Counter(sum(ad.link in example.text.text for ad in example.asked.ads) for example in made)
    words = np.mean([len(markup.strip_markup(example.text.text).split()) for example in made]) if made else 0.0
    return (
        f"{len(made)} examples ({', '.join(f'{kind} {n}' for kind, n in sorted(kinds.items()))}; with "
        f"{', '.join(f'{k} ads {n}' for k, n in sorted(ads.items()))}), {words:.0f} words on average"
    )


async def _draft(writer: Writer, episode: Episode, profile: bool) -> _Draft | None:
    auction = episode.auction
    rng = keyed_rng("sft", auction.id)
    offered = [bid for bid in auction.bids if bid.amount > 0]
    weights = np.exp(_SHARPNESS * np.array([bid.relevance for bid in offered]))
    chosen = rng.choice(len(offered), size=min(ADS, len(offered)), replace=False, p=weights / weights.sum())
    ads = [offered[i].ad for i in chosen]
    answer = await writer.answer(auction)
    pieces = sentences_with_space(answer)
    if not answer or not pieces:
        return None
    said = []
    for ad in ads:
        beginning = _beginning(auction.query.text, rng) if rng.random() < TAKEN_UP else ""
        sentence = SENTENCES[rng.integers(len(SENTENCES))].format(link=ad.link, words=own_words(ad))
        said.append(f"{beginning}{sentence}")
    places = sorted(int(rng.integers(1, len(pieces) + 1)) for _ in ads)
    text, context = woven(pieces, said, places)
    kind = str(rng.choice(list(_KINDS), p=list(_KINDS.values())))
    if kind == "winners":
        asked = winners_page(auction, ads, profile=profile)
    else:
        asked = page(auction, show_bids=kind == "auction", shown=episode.offer.digits, profile=profile)
    example = Example(kind, asked, Written(text))
    if any(ad.link not in asked.links().links for ad in ads) or not _sound(auction, text, ads):
        return None
    return _Draft(example, context)


def _beginning(question: str, rng: np.random.Generator) -> str:
    """One of `BEGINNINGS` with neighbouring words of the question, the first and the last of them content words.

    "" if the question has no such words.
    """
    fewest, most = _TOPIC
    topics = []
    for clause in _CLAUSE.findall(question):
        words = clause.split()
        heavy = [i for i, word in enumerate(words) if content_words(word)]
        topics += [words[i : j + 1] for i in heavy for j in heavy if fewest <= j + 1 - i <= most]
    if not topics:
        return ""
    topic = " ".join(topics[rng.integers(len(topics))])
    return BEGINNINGS[rng.integers(len(BEGINNINGS))].format(topic=topic)


def woven(pieces: Sequence[str], said: Sequence[str], places: Sequence[int]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Puts sentences into an answer.

    Args:
        pieces: The answer's sentences with their white space.
        said: Sentences about ads.
        places: For each of them, how many of `pieces` come before it: at least one, rising.

    Returns:
        The text; and of each of the sentences, what comes before it, and itself.
    """
    text, context = "", []
    for place, piece in enumerate([*pieces, ""]):
        for sentence in (s for s, at in zip(said, places, strict=True) if at == place):
            context.append((text, sentence))
            text = f"{text.rstrip()} {sentence}"
        gap = " " if text[-1:].strip() and piece[:1].strip() else ""
        text += gap + piece
    return text.rstrip(), tuple(context)


async def _plain(writer: Writer, episode: Episode, profile: bool) -> _Draft | None:
    auction = episode.auction
    answer = await writer.answer(auction)
    if not answer:
        return None
    return _Draft(Example("plain", page(auction, shown=episode.offer.digits, profile=profile), Written(answer)), ())


def _sound(auction: Auction, text: str, ads: Sequence[Ad]) -> bool:
    """Whether the answer has these ads, no fault of mark-up, no loop, and nothing that is corrected when it is read."""
    found, violations = markup.parse(text.strip(), auction)
    return (
        set(found) == {ad.id for ad in ads}
        and not violations
        and not loops(text)
        and read(auction, Written(text)) == text.strip()
    )


async def _coherence(llm: LLM, drafts: Sequence[_Draft]) -> list[list[float]]:
    """Of each ad's sentence: mean log-probability of its tokens, after what precedes it less after nothing."""

    async def score(before: str, sentence: str) -> float:
        plain = markup.strip_markup(sentence)
        rows = await gather([llm.logprob(text[-400:] or "Answer:", [f" {plain}"]) for text in (before, "Answer:")])
        after, alone = (float(np.mean(row[0])) for row in rows)
        return after - alone

    return await gather([gather([score(*one) for one in draft.context]) for draft in drafts])


def save(made: Sequence[Example], file: Path) -> None:
    """Writes examples as JSON lines: kind, prompt, ads, the most that an answer may show, and text."""
    lines = [
        json.dumps(
            {
                "kind": example.kind,
                "prompt": example.asked.prompt.model_dump(),
                "ads": [ad.model_dump() for ad in example.asked.ads],
                "most": example.asked.most,
                "text": example.text.text,
            },
            ensure_ascii=False,
        )
        for example in made
    ]
    write_bytes_atomically(file, ("\n".join(lines) + "\n").encode())


def _example(row: Mapping[str, Any]) -> Example:
    ads = tuple(Ad(**ad) for ad in row["ads"])
    return Example(row["kind"], Page(Prompt(**row["prompt"]), ads, row.get("most", len(ads))), Written(row["text"]))


def load(file: Path) -> list[Example]:
    """Reads what `save` wrote.

    Raises:
        DataFileError: the file is damaged, or an answer begins with an ad.
    """
    try:
        rows = [json.loads(line) for line in read_bytes(file).decode().splitlines()]
        made = [_example(row) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise DataFileError(f"{file}: not examples for fine-tuning, or damaged: {error!r:.200}") from None
    for line, one in enumerate(made, start=1):
        if any(one.text.text.lstrip().startswith(ad.link) for ad in one.asked.ads):
            raise DataFileError(f"{file}: line {line}: the answer begins with an ad, which the format does not allow")
    return made


def _logps(policy: AdaptedLLM, made: Sequence[Example]) -> torch.Tensor:
    """Log-probabilities of examples, shape (examples,), without the choice of ads: see above."""
    batch = [(one.asked, [one.text]) for one in made]
    return torch.cat(policy.written_logps_of(batch, choices=False))


def anchor(policy: AdaptedLLM, made: Sequence[Example], config: Config, step: int) -> torch.Tensor:
    """The loss that keeps update `step` of IRPO near the examples: `Config.anchor` times their mean -log pi."""
    places = keyed_rng("sft anchor", config.seed, step).choice(len(made), min(ANCHORED, len(made)), replace=False)
    return -config.anchor * _logps(policy, [made[i] for i in places]).mean()


def fine_tune(
    policy: AdaptedLLM,
    made: Sequence[Example],
    optimizer: torch.optim.Optimizer,
    config: Config,
    say: Callable[[str], None],
) -> list[float]:
    """Trains on examples with cross-entropy, in random order.

    Returns:
        The loss of each update: nats per sampled token, labels apart.
    """
    losses = []
    steps = math.ceil(len(made) / config.sft_batch)
    for epoch in range(config.sft_epochs):
        order = keyed_rng("sft order", config.seed, epoch).permutation(len(made))
        for step in range(steps):
            batch = [made[i] for i in order[step * config.sft_batch :][: config.sft_batch]]
            optimizer.zero_grad()
            sizes = [policy.free_tokens(one.asked, one.text) for one in batch]
            total = 0.0
            parts = [batch] if policy.device != "cpu" else [[one] for one in batch]
            for part in parts:
                loss = -_logps(policy, part).sum() / sum(sizes)
                loss.backward()  # type: ignore[no-untyped-call]
                total += float(loss.detach())
            done = epoch * steps + step
            for rates in optimizer.param_groups:
                rates["lr"] = cosine(done, config.sft_epochs * steps, config.sft_rate, config.warmup)
            torch.nn.utils.clip_grad_norm_(list(policy.trained.values()), 1.0)
            optimizer.step()
            losses.append(total)
            if (done + 1) % 10 == 0:
                say(f"update {done + 1}/{config.sft_epochs * steps}, loss {np.mean(losses[-10:]):.3f}")
    return losses
