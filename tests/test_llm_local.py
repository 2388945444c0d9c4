"""The embedded model: constraints hold by construction, draws are keyed, batches are real.

What is stochastic here is keyed, so it comes out the same in every run on one machine. Another machine's arithmetic
may change a text; the false-alarm probabilities given are for such a fresh set of draws.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from simenv import markup
from simenv.llm import Completion, LinksOnly, OneOf, Prompt, Request, Sampling, make_llm
from simenv.llm.base import Constraint, Key
from simenv.llm.constraints import TokenTable
from simenv.llm.local import LocalLLM
from simenv.records import Auction, Bid, Query

from .fakes import ADS

pytestmark = pytest.mark.weights

PLAIN = Sampling(temperature=1.0, top_p=1.0, top_k=None, max_tokens=12)
"""The model's own distribution."""


@pytest.fixture(scope="module")
def embedded() -> LocalLLM:
    llm = make_llm("embedded")
    assert isinstance(llm, LocalLLM)
    return llm


@pytest.fixture
def llm(embedded: LocalLLM) -> Iterator[LocalLLM]:
    """The one model, with nothing in its memory."""
    embedded._done.clear()
    yield embedded
    embedded._done.clear()


def run(
    llm: LocalLLM,
    prompts: Sequence[Prompt | str],
    keys: Sequence[Key],
    sampling: Sampling = PLAIN,
    constraint: Constraint | None = None,
) -> list[Completion]:
    async def go() -> list[Completion]:
        jobs = zip(prompts, keys, strict=True)
        return await asyncio.gather(
            *(llm.complete(p, key=key, sampling=sampling, constraint=constraint) for p, key in jobs)
        )

    return asyncio.run(go())


def repeat(llm: LocalLLM, prompt: Prompt | str, n: int, sampling: Sampling, c: Constraint) -> list[Completion]:
    return run(llm, [prompt] * n, [("repeat", i) for i in range(n)], sampling, c)


def test_one_of_always_gives_an_option_with_its_probability(llm: LocalLLM) -> None:
    """One option begins another, so that ending there is a choice of its own."""
    options = ("red", "red wine", "blue", "green tea with lemon")
    flat = PLAIN.model_copy(update={"temperature": 4.0, "max_tokens": 1})  # too short for most options, on purpose
    replies = repeat(llm, "Name something.", 64, flat, OneOf(options=options))
    assert {reply.text for reply in replies} <= set(options)
    assert {reply.finish for reply in replies} == {"stop"}
    probs: dict[str, float] = {}
    for reply in replies:
        assert reply.logprobs is not None
        assert len(reply.logprobs) == len(reply.tokens)
        prob = math.exp(sum(reply.logprobs))
        assert prob == pytest.approx(probs.setdefault(reply.text, prob), rel=0.05)  # bfloat16, two batch shapes
    # Exact in the model's arithmetic once every option has been drawn. The rarest has probability 0.1 at this
    # temperature: fresh draws miss it with probability 0.9^64 = 0.0012.
    assert set(probs) == set(options)
    assert min(probs.values()) > 0.09
    assert sum(probs.values()) == pytest.approx(1, abs=0.02)
    for option, prob in probs.items():  # five sd: false alarm below 1e-6 an option
        count = sum(reply.text == option for reply in replies)
        assert abs(count - 64 * prob) < 5 * math.sqrt(64 * prob * (1 - prob))


def test_the_probability_of_an_option_is_the_models_own(llm: LocalLLM) -> None:
    """Against one forward pass by hand: softmax over the logits of the two options."""
    prompt = Prompt(user="Is the sky blue? Answer true or false.", prefill="The answer is")
    request = Request(prompt=prompt, sampling=PLAIN, key=("x",))
    ids = llm._tokenizer(llm.render(request), return_tensors="pt", add_special_tokens=False).input_ids
    with torch.inference_mode():
        logits = llm._model(ids.to(llm._device)).logits[0, -1].float().cpu()
    options = (" true", " false")
    firsts = [llm._tokenizer.encode(option, add_special_tokens=False) for option in options]
    assert [len(tokens) for tokens in firsts] == [1, 1]
    expected = torch.softmax(logits[[tokens[0] for tokens in firsts]] / 2.0, dim=0).tolist()
    sampling = PLAIN.model_copy(update={"temperature": 2.0})
    for reply in repeat(llm, prompt, 8, sampling, OneOf(options=options)):
        assert reply.logprobs is not None
        assert math.exp(reply.logprobs[0]) == pytest.approx(expected[options.index(reply.text)], abs=0.03)


_AUCTION = Auction(id="a", query=Query(id="a", text="?"), bids=tuple(Bid(ad=ad, amount=1) for ad in ADS))
_BEGGING = (
    f"Repeat this ten times, changing a word each time: {ADS[0].link}",
    "Write only ads such as @Some Title@[ad-99] and [ad-1] and @@[[]] and @TrailFox@.",
    f"Which of these do you like? {' '.join(ad.link for ad in ADS)}",
    "Give me ten e-mail addresses, each with an @ in it, and a Python list in brackets.",
)


@pytest.mark.parametrize("temperature", [0.7, 1.5])
def test_links_only_never_breaks_the_markup(llm: LocalLLM, temperature: float) -> None:
    links = tuple(ad.link for ad in ADS)
    sampling = PLAIN.model_copy(update={"temperature": temperature, "max_tokens": 40})
    prompts = [Prompt(user=text, prefill=start) for text in _BEGGING for start in ("", "You could try") for _ in "12"]
    replies = run(llm, prompts, [("links", i) for i in range(len(prompts))], sampling, LinksOnly(links=links))
    opened = 0
    for reply in replies:
        found, faults = markup.parse(reply.text, _AUCTION)
        opened += len(found)
        assert [fault for fault in faults if fault.kind not in ("repeated_ad", "leaked_process")] == []
        assert not set(markup.LINK.sub("", reply.text)) & set("@[]")
    assert opened > 0, "the prompts beg for links: without one this test says nothing"


def test_without_links_there_is_no_markup_at_all(llm: LocalLLM) -> None:
    for reply in run(llm, _BEGGING, [("none", i) for i in range(4)], PLAIN, LinksOnly()):
        assert not set(reply.text) & set("@[]")


def test_a_link_that_does_not_fit_is_left_out_whole(llm: LocalLLM) -> None:
    """The limit may fall anywhere within a link: its beginning is no text of the answer."""
    prompt = Prompt(user=f"Say exactly: Try {ADS[0].link} today.", prefill="Try")
    constraint = LinksOnly(links=(ADS[0].link,))
    cut = set()
    for limit in range(1, 16):
        sampling = Sampling(temperature=0, max_tokens=limit)
        reply = run(llm, [prompt], [("cut",)], sampling, constraint)[0]
        assert not set(markup.LINK.sub("", reply.text)) & set("@[]")
        assert reply.logprobs is not None
        assert len(reply.logprobs) == len(reply.tokens) <= reply.usage.completion_tokens <= limit
        if len(reply.tokens) < reply.usage.completion_tokens:
            cut.add(limit)
            assert reply.finish == "length"
    assert len(cut) > 3, "greedy, the model writes the link it is told to"
    assert max(cut) < 15, "and has room for it in the end"


def test_bytes_of_markup_are_banned_too() -> None:
    """Tokenizers with byte fallback can spell @ as the token <0x40>."""
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "</s>", "a", "@b", "<0x40>", "<0x41>", "<0x5B>"])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    core.decoder = decoders.ByteFallback()
    table = TokenTable(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"), vocab_size=8)
    assert table.markup.tolist() == [False, False, False, True, True, False, True, False]


def test_the_same_keys_give_the_same_texts_to_the_bit(llm: LocalLLM) -> None:
    prompts = [f"Tell me about {topic}." for topic in ("boots", "loans", "a very long walk along the coast")]
    keys: list[Key] = [("same", i) for i in range(3)]
    first = run(llm, prompts, keys)
    llm._done.clear()
    shuffled = run(llm, prompts[::-1], keys[::-1])[::-1]  # the order of asking does not matter either
    assert shuffled == first, "text, tokens and log-probabilities"
    llm._done.clear()
    others = run(llm, prompts, [("same", i + 3) for i in range(3)])
    # Twelve tokens of three texts at the model's own entropy: equal by chance below 1e-9.
    assert all(a.text != b.text for a, b in zip(first, others, strict=True))


def test_two_prompts_under_one_key_do_not_depend_on_who_asks_first(llm: LocalLLM) -> None:
    batches: list[list[str]] = []
    for prompts in (["Describe tea.", "Describe rum."], ["Describe rum.", "Describe tea."]):
        requests = [Request(prompt=Prompt(user=p), sampling=PLAIN, key=("shared",)) for p in prompts]
        batches.append([request.prompt.user for request in sorted(requests, key=llm._order)])
    assert batches[0] == batches[1]


def test_temperature_zero_is_greedy(llm: LocalLLM) -> None:
    """Against the generate loop of transformers."""
    sampling = Sampling(temperature=0, max_tokens=12)
    one, two = (run(llm, ["Name three colours."], [key], sampling)[0] for key in [("a",), ("b",)])
    assert (one.text, one.logprobs) == (two.text, (0.0,) * len(two.tokens))
    request = Request(prompt=Prompt(user="Name three colours."), sampling=sampling, key=("a",))
    inputs = llm._tokenizer(llm.render(request), return_tensors="pt", add_special_tokens=False).to(llm._device)
    output = llm._model.generate(**inputs, do_sample=False, max_new_tokens=12, pad_token_id=0)
    assert one.text == llm._tokenizer.decode(output[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def test_a_stop_string_ends_the_text_before_it(llm: LocalLLM) -> None:
    prompt = Prompt(user="Count from one to ten.", prefill="one, two, three,")
    long = run(llm, [prompt], [("s",)], Sampling(temperature=0, max_tokens=12))[0].text
    assert " five" in long
    reply = run(llm, [prompt], [("s",)], Sampling(temperature=0, max_tokens=12, stop=(" seven", " five,")))[0]
    assert reply.text == long.split(" five,")[0]
    assert reply.finish == "stop"
    assert reply.usage.completion_tokens < 12, "it stopped writing, too"


def test_max_tokens_ends_a_text_with_length(llm: LocalLLM) -> None:
    reply = run(llm, ["Write a long story."], [("m",)], PLAIN.model_copy(update={"max_tokens": 5}))[0]
    assert (reply.finish, len(reply.tokens), reply.usage.completion_tokens) == ("length", 5, 5)
    rendered = llm.render(Request(prompt=Prompt(user="Write a long story."), sampling=PLAIN, key=("m",)))
    assert reply.usage.prompt_tokens == len(llm._tokenizer.encode(rendered, add_special_tokens=False))


def test_concurrent_requests_share_forward_passes(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = llm._batcher._run

    def counting(requests: Sequence[Request]) -> list[Completion]:
        sizes.append(len(requests))
        return real(requests)

    monkeypatch.setattr(llm._batcher, "_run", counting)
    few = PLAIN.model_copy(update={"max_tokens": 2})
    run(llm, ["Hi."] * 40, [("many", i) for i in range(40)], few)
    assert sizes == [32, 8], "max_batch is 32"
    for i in range(3):
        run(llm, ["Hi."], [("single", i)], few)
    assert sizes == [32, 8, 1, 1, 1]
