"""Scoring and joint decoding: the embedded model against plain forward passes, the scripted model by arithmetic."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from simenv import Auction, Outcome, make_mechanism, run_mechanism
from simenv.check import with_bid
from simenv.errors import LLMRefused, MissingCapability
from simenv.llm import Capability, LinksOnly, OneOf, Prompt, Sampling, ScriptedLLM, metered
from simenv.llm.base import LLM, PLAIN, Combined, Constraint, EnsembleCompletion
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.llm.local import LocalLLM
from simenv.records import Record, Usage
from simenv.testing import ADS
from tests.support.auctions import small_auction

Scores = tuple[tuple[float, ...], ...]
LINKS = tuple(ad.link for ad in ADS[:3])


class Average(Record):
    """The mean of all distributions, drawn by inverse CDF; notes the rows' own probabilities of the token."""

    def __call__(self, logprobs: npt.NDArray[np.float64], rng: np.random.Generator) -> Combined:
        probs = np.exp(logprobs).mean(0)
        token = int(np.searchsorted(np.cumsum(probs), rng.random() * probs.sum()))
        return Combined(token, math.log(probs[token]), tuple(np.exp(logprobs[:, token])))


def score(
    llm: LLM,
    prompt: Prompt | str,
    texts: Sequence[str],
    sampling: Sampling | None = None,
    constraint: Constraint | None = None,
) -> Scores:
    return asyncio.run(llm.logprob(prompt, texts, sampling=sampling, constraint=constraint))


def decode(llm: LLM, prompts: Sequence[Prompt | str], key: int = 0, **options: object) -> EnsembleCompletion:
    return asyncio.run(llm.ensemble_decode(prompts, Average(), key=("test", key), **options))


@pytest.fixture(params=["torch", "onnx"])
def exact(request: pytest.FixtureRequest, on_torch: LocalLLM, embedded: LocalLLM) -> LocalLLM:
    """The embedded model in float32 on each runtime: bfloat16 moves a log-probability by up to 0.4."""
    return on_torch if request.param == "torch" else embedded


@pytest.fixture
def llm(embedded: LocalLLM) -> LocalLLM:
    return embedded


def plain_logits(llm: LocalLLM, prompt: Prompt, tokens: Sequence[int]) -> torch.Tensor:
    """Logits before each token and after the last, from one pass without a cache: shape (tokens + 1, vocab)."""
    before = llm._tokenizer.encode(llm.render(prompt), add_special_tokens=False)
    with torch.inference_mode():
        logits = llm._model(torch.tensor([[*before, *tokens]], device=llm._device)).logits[0].double().cpu()
    return logits[len(before) - 1 :]


CLOSE = 2e-3
"""float32 sums in another order."""


@pytest.mark.weights
def test_scores_are_those_of_a_plain_forward_pass(exact: LocalLLM, on_torch: LocalLLM) -> None:
    prompt = Prompt(user="Name colours.", prefill="Sure:")
    texts = (" red and green.", " zebra")
    tokens = [exact._table.encode(text) for text in texts]
    logits = [plain_logits(on_torch, prompt, row) for row in tokens]
    for sampling in (PLAIN, PLAIN.model_copy(update={"temperature": 2.0})):
        scores = score(exact, prompt, texts, sampling)
        for row, ids, plain in zip(scores, tokens, logits, strict=True):
            logs = torch.log_softmax(plain / sampling.temperature, dim=-1)
            assert row == pytest.approx([float(logs[i, t]) for i, t in enumerate(ids)], abs=CLOSE)


@pytest.mark.weights
def test_options_have_the_probability_with_which_they_are_drawn_and_sum_to_one(exact: LocalLLM) -> None:
    """One option begins another; temperature acts on what the constraint leaves."""
    options = ("red", "red wine", "blue", "green tea")
    constraint = OneOf(options=options)
    sampling = Sampling(temperature=8.0, top_p=1.0, top_k=None)
    scores = score(exact, "Which?", options, sampling, constraint)
    assert sum(math.exp(sum(row)) for row in scores) == pytest.approx(1, abs=CLOSE)

    async def draw() -> list[tuple[str, float]]:
        made = await asyncio.gather(
            *(exact.complete("Which?", key=("d", i), sampling=sampling, constraint=constraint) for i in range(8))
        )
        return [(reply.text, sum(reply.logprobs or ())) for reply in made]

    for text, logprob in asyncio.run(draw()):
        assert logprob == pytest.approx(sum(scores[options.index(text)]), abs=CLOSE)


@pytest.mark.weights
def test_what_is_no_option_cannot_be(llm: LocalLLM) -> None:
    options = OneOf(options=("red", "red wine", "blue"))
    greedy = score(llm, "Which?", options.options, Sampling(temperature=0), options)
    assert sorted(sum(row) for row in greedy) == [-math.inf, -math.inf, 0.0]
    for beginning in ("red w", "mauve"):
        assert score(llm, "Which?", (beginning,), PLAIN, options)[0][-1] == -math.inf


@pytest.mark.weights
def test_links_are_forced_or_forbidden(llm: LocalLLM) -> None:
    """After the token that opens it, a link that no other shares its beginning with costs nothing."""
    prompt = Prompt(user="Which boots?", prefill="Try")
    constraint = LinksOnly(links=LINKS)
    good, bad = score(llm, prompt, (f" {LINKS[0]}, they are", " @Some Title@[ad-99]"), PLAIN, constraint)
    link = llm._table.encode(f" {LINKS[0]}")
    assert all(math.isfinite(value) for value in good)
    opened = next(i for i, token in enumerate(link) if llm._table.markup[token])
    paid = [i for i in range(len(link)) if good[i] != 0]
    assert paid
    assert max(paid) <= opened + 2, "the titles part within two tokens of the @"
    assert bad[-1] == -math.inf


@pytest.mark.weights
def test_truncated_sampling_excludes_tokens(llm: LocalLLM, on_torch: LocalLLM) -> None:
    prompt = Prompt(user="Name a colour.", prefill="My favourite is")
    first = plain_logits(on_torch, prompt, ())[0]
    likeliest = llm._tokenizer.decode([int(first.argmax())])
    alone = float(torch.log_softmax(first, dim=-1).max())
    for sampling in (PLAIN.model_copy(update={"top_k": 3}), PLAIN.model_copy(update={"top_p": 0.8})):
        odd, kept = score(llm, prompt, (" zebra", likeliest), sampling)
        assert odd == (-math.inf,) * len(odd)
        assert 0 > kept[0] > alone + 0.1, "what is kept is scaled up"


@pytest.mark.weights
def test_scores_are_one_call_whose_prompt_counts_once_and_are_remembered(llm: LocalLLM) -> None:
    prompt = Prompt(user="Name a colour.")
    texts = (" red", " green and blue", " red again")

    async def go() -> tuple[Scores, Usage]:
        with metered() as meter:
            first = await llm.logprob(prompt, texts)
            assert await llm.logprob(prompt, texts) == first
        return first, meter.usage

    scores, usage = asyncio.run(go())
    read = len(llm._tokenizer.encode(llm.render(prompt), add_special_tokens=False)) + sum(map(len, scores))
    assert usage == Usage(calls=2, prompt_tokens=2 * read)
    assert scores[2][0] == pytest.approx(scores[0][0])


@pytest.mark.weights
def test_an_ensemble_follows_every_members_own_forward_pass(exact: LocalLLM, on_torch: LocalLLM) -> None:
    """At each token the rule meets what each prompt alone would give, the text so far included."""
    prompts = [Prompt(user="Name colours.", prefill="First,"), Prompt(user="List animals that live at sea.")]
    made = decode(exact, prompts, sampling=PLAIN.model_copy(update={"max_tokens": 4}))
    tokens = exact._tokenizer.convert_tokens_to_ids(list(made.tokens))
    assert len(made.log) == 4
    for i, prompt in enumerate(prompts):
        logs = torch.log_softmax(plain_logits(on_torch, prompt, tokens), dim=-1)
        noted = [math.log(row[i]) for row in made.log]
        assert noted == pytest.approx([float(logs[place, token]) for place, token in enumerate(tokens)], abs=CLOSE)
    read = sum(len(exact._tokenizer.encode(exact.render(p), add_special_tokens=False)) for p in prompts)
    assert made.usage == Usage(calls=2, prompt_tokens=read, completion_tokens=8)
    assert made.logprobs == pytest.approx([math.log(sum(row) / 2) for row in made.log])


@pytest.mark.weights
def test_an_ensemble_goes_on_after_forced_tokens_as_if_it_had_decoded_them(exact: LocalLLM, on_torch: LocalLLM) -> None:
    """Two links that part at their ids: what lies between is forced, and skipping its passes changes nothing."""
    prompts = [Prompt(user="Which?", prefill="Try"), Prompt(user="What else?", prefill="Or")]
    options = (" @Some Boots@[ad-1], red", " @Some Boots@[ad-2], red", " @Some Boots@[ad-2], blue")
    made = decode(exact, prompts, constraint=OneOf(options=options))
    tokens = exact._tokenizer.convert_tokens_to_ids(list(made.tokens))
    assert made.text in options
    assert len(made.log) < len(tokens)
    for i, prompt in enumerate(prompts):
        logits = plain_logits(on_torch, prompt, tokens)
        drawn = iter(made.log)
        for place, token in enumerate(tokens):
            beside = {
                row[place]
                for row in (exact._table.encode(option) for option in options)
                if row[:place] == tokens[:place] and len(row) > place
            }
            if len(beside) > 1:
                ids = sorted(beside)
                probs = torch.softmax(logits[place, ids], dim=0)
                assert next(drawn)[i] == pytest.approx(float(probs[ids.index(token)]), abs=CLOSE)


@pytest.mark.weights
def test_an_ensemble_keeps_to_the_constraint_and_to_its_key(llm: LocalLLM) -> None:
    prompts = [Prompt(user=f"Say: {link}", prefill="Try") for link in LINKS[:2]]
    options = tuple(f" {link}" for link in LINKS)
    texts = [decode(llm, prompts, key, constraint=OneOf(options=options)).text for key in range(3)]
    assert set(texts) <= set(options)
    llm._done.clear()
    assert [decode(llm, prompts, key, constraint=OneOf(options=options)).text for key in range(3)] == texts
    short = PLAIN.model_copy(update={"max_tokens": 4})
    assert not set(decode(llm, prompts, sampling=short, constraint=LinksOnly()).text) & set("@[]")


def test_the_scripted_model_scores_its_own_filler() -> None:
    llm = ScriptedLLM()
    made = asyncio.run(llm.complete("Which boots?", key=("a",)))
    (own, other), (option, foreign) = (
        score(llm, "Which boots?", (made.text, "Something else.")),
        score(llm, "Which boots?", ("a", "c"), PLAIN, OneOf(options=("a", "b"))),
    )
    assert own == made.logprobs == pytest.approx((-math.log(6), -math.log(6), -math.log(5)))
    assert (option, foreign) == ((-math.log(2),), (-math.inf,))
    assert sum(other) == -math.inf


def test_the_scripted_ensemble_mixes_small_models_of_its_prompts() -> None:
    llm = ScriptedLLM()
    options = OneOf(options=("a", "b", "c"))
    made = [decode(llm, ["one", "two"], key, constraint=options) for key in range(40)]
    assert {reply.text for reply in made} == {"a", "b", "c"}
    alone = {reply.text: reply.log[0] for reply in made}
    for member in range(2):
        assert sum(probs[member] for probs in alone.values()) == pytest.approx(1)
    assert made[0].usage == Usage(calls=2, prompt_tokens=2, completion_tokens=2)
    free = decode(llm, ["one", "two"], sampling=PLAIN.model_copy(update={"max_tokens": 60}), constraint=LinksOnly())
    assert len(free.log) in (len(free.tokens), len(free.tokens) + 1)
    assert len(free.tokens) > 3


@pytest.mark.parametrize("capability", [Capability.LOGPROBS, Capability.ENSEMBLE])
def test_what_a_backend_lacks_is_named(capability: Capability) -> None:
    llm = ScriptedLLM(capabilities=frozenset(Capability) - {capability})
    ask = {Capability.LOGPROBS: lambda: score(llm, "?", ("a",)), Capability.ENSEMBLE: lambda: decode(llm, ["?"])}
    with pytest.raises(MissingCapability, match=f"lacks '{capability.value}'"):
        ask[capability]()


def test_cassettes_keep_scores_and_ensembles(tmp_path: Path) -> None:
    """An impossible continuation too: JSON has no -inf of its own."""
    tape = tmp_path / "tape.jsonl"

    def play(llm: LLM) -> tuple[Scores, EnsembleCompletion]:
        return score(llm, "?", ("a", "z"), PLAIN, OneOf(options=("a", "b"))), decode(llm, ["one", "two"])

    first = play(CassetteLLM(Cassette(tape, "record"), ScriptedLLM()))
    replay = CassetteLLM(Cassette(tape, "replay"), name="scripted")
    assert play(replay) == first == play(ScriptedLLM())
    with pytest.raises(LLMRefused, match="other values: continuations"):
        score(replay, "?", ("b",), PLAIN, OneOf(options=("a", "b")))
    with pytest.raises(LLMRefused, match="the nearest prompt has 'one"):
        decode(replay, ["three"])


@pytest.mark.parametrize("name", ["mosaic", "tilted_optimum", "token_auction"])
def test_mechanisms_that_need_probabilities_replay_from_a_cassette(tmp_path: Path, name: str) -> None:
    """Under other bids too where texts do not depend on them; a token auction's text is made by its bids."""
    tape = tmp_path / "tape.jsonl"
    auction = small_auction(3)

    def play(llm: LLM, auction: Auction) -> Outcome:
        return asyncio.run(run_mechanism(make_mechanism(name, context={"llm": llm}), auction))

    first = play(CassetteLLM(Cassette(tape, "record"), ScriptedLLM()), auction)
    replay = CassetteLLM(Cassette(tape, "replay"), name="scripted")
    assert play(replay, auction) == first
    other = with_bid(auction, "ad-2", 90.0)
    if name == "token_auction":
        with pytest.raises(LLMRefused, match=r"other values: rule .Linear\(weights="):
            play(replay, other)
    else:
        assert play(replay, other) == play(ScriptedLLM(), other)
