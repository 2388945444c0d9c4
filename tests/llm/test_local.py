"""The embedded model: constraints hold by construction, draws are keyed, batches are real.

What is stochastic here is keyed, so it comes out the same in every run on one machine. Another machine's arithmetic
may change a text; the false-alarm probabilities given are for such a fresh set of draws.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from simenv import markup
from simenv.llm import Completion, LinksOnly, OneOf, Prompt, Request, Sampling
from simenv.llm.base import Constraint
from simenv.llm.constraints import TokenTable
from simenv.llm.local import LocalLLM
from simenv.llm.onnx_runtime import OnnxRuntime
from simenv.records import Auction, Bid, Query
from simenv.testing import ADS

pytestmark = pytest.mark.weights

PLAIN = Sampling(temperature=1.0, top_p=1.0, top_k=None, max_tokens=12)
"""The model's own distribution."""


@pytest.fixture
def llm(embedded: LocalLLM) -> Iterator[LocalLLM]:
    """The one model, with nothing in its memory."""
    embedded._done.clear()
    yield embedded
    embedded._done.clear()


def ask(key: str | int, prompt: Prompt | str, sampling: Sampling, constraint: Constraint | None = None) -> Request:
    prompt = Prompt(user=prompt) if isinstance(prompt, str) else prompt
    return Request(prompt=prompt, sampling=sampling, key=("test", key), constraint=constraint)


def run(llm: LocalLLM, *requests: Request) -> list[Completion]:
    """Asks for all of them at once."""

    async def go() -> list[Completion]:
        return await asyncio.gather(
            *(llm.complete(r.prompt, key=r.key, sampling=r.sampling, constraint=r.constraint) for r in requests)
        )

    return asyncio.run(go())


def hotter(temperature: float, **changes: int) -> Sampling:
    return PLAIN.model_copy(update={"temperature": temperature, **changes})


def test_one_of_always_gives_an_option_with_its_probability(llm: LocalLLM) -> None:
    """One option begins another, so that ending there is a choice of its own."""
    options = ("red", "red wine", "blue", "green tea")
    sampling = hotter(8.0, max_tokens=1)  # too short for most options, on purpose
    prompt = "Which is it: blue, red or red wine?"
    n = 96
    replies = run(llm, *(ask(i, prompt, sampling, OneOf(options=options)) for i in range(n)))
    assert {reply.text for reply in replies} <= set(options)
    assert {reply.finish for reply in replies} == {"stop"}
    probs: dict[str, float] = {}
    for reply in replies:
        assert reply.logprobs is not None
        assert len(reply.logprobs) == len(reply.tokens)
        prob = math.exp(sum(reply.logprobs))
        assert prob == probs.setdefault(reply.text, prob)
    # Exact once every option is drawn. The rarest has probability 0.096: fresh draws miss it with 0.904^96 < 1e-4.
    assert set(probs) == set(options)
    assert sum(probs.values()) == pytest.approx(1, abs=1e-5)
    for option, prob in probs.items():  # five sd: false alarm about 1e-6 an option
        count = sum(reply.text == option for reply in replies)
        assert abs(count - n * prob) < 5 * math.sqrt(n * prob * (1 - prob))


def test_the_probability_of_an_option_is_the_models_own(llm: LocalLLM, on_torch: LocalLLM) -> None:
    """Against one forward pass by hand: softmax over the logits of the two options."""
    prompt = Prompt(user="Is the sky blue? Answer true or false.", prefill="The answer is")
    options = (" true", " false")
    requests = [ask(i, prompt, hotter(2.0), OneOf(options=options)) for i in range(8)]
    ids = torch.tensor([llm._encode(prompt)])
    with torch.inference_mode():
        logits = on_torch._model(ids).logits[0, -1]
    tokens = [llm._tokenizer.encode(option, add_special_tokens=False) for option in options]
    assert [len(ids) for ids in tokens] == [1, 1]
    expected = torch.softmax(logits[[ids[0] for ids in tokens]] / 2.0, dim=0).tolist()
    for reply in run(llm, *requests):
        assert reply.logprobs is not None
        assert math.exp(reply.logprobs[0]) == pytest.approx(expected[options.index(reply.text)], abs=1e-4)


_AUCTION = Auction(id="a", query=Query(text="?"), bids=tuple(Bid(ad=ad, amount=1) for ad in ADS))
_BEGGING = (
    f"Say exactly: Try {ADS[0].link} and {ADS[1].link} today.",
    "Say exactly: Try @Some Title@[ad-99] and [ad-1] and @@[[]] and @TrailFox@ today.",
    f"Repeat these ten times, with a word changed: {ADS[0].link} {ADS[1].link}",
    "Give me ten e-mail addresses with an @ in each, then a Python list in brackets.",
)


def test_links_only_never_breaks_the_markup(llm: LocalLLM) -> None:
    constraint = LinksOnly(links=tuple(ad.link for ad in ADS))
    replies = run(
        llm,
        *(
            ask(f"{i} {temperature}", Prompt(user=text, prefill="Try"), hotter(temperature, max_tokens=25), constraint)
            for i, text in enumerate(_BEGGING)
            for temperature in (0.7, 1.0, 1.3, 2.0)
        ),
    )
    opened = 0
    for reply in replies:
        found, faults = markup.parse(reply.text, _AUCTION)
        opened += len(found)
        assert [fault for fault in faults if fault.kind not in ("repeated_ad", "leaked_process")] == []
        assert not set(markup.LINK.sub("", reply.text)) & set("@[]")
    # Of the eight cooler replies more than half hold a link; without any, this test would say nothing.
    assert opened > 0


def test_without_links_there_is_no_markup_at_all(llm: LocalLLM) -> None:
    for reply in run(llm, *(ask(i, text, PLAIN, LinksOnly()) for i, text in enumerate(_BEGGING))):
        assert not set(reply.text) & set("@[]")


def test_a_link_that_does_not_fit_is_left_out_whole(llm: LocalLLM) -> None:
    """The limit may fall anywhere within a link: its beginning is no text of the answer."""
    prompt = Prompt(user=f"Say exactly: Try {ADS[0].link} today.", prefill="Try")
    constraint = LinksOnly(links=(ADS[0].link,))
    limits = range(1, 16)
    replies = run(llm, *(ask(0, prompt, Sampling(temperature=0, max_tokens=n), constraint) for n in limits))
    cut = []
    for limit, reply in zip(limits, replies, strict=True):
        assert not set(markup.LINK.sub("", reply.text)) & set("@[]")
        assert reply.logprobs is not None
        assert len(reply.logprobs) == len(reply.tokens) <= reply.usage.completion_tokens <= limit
        if len(reply.tokens) < reply.usage.completion_tokens:
            cut.append(limit)
            assert reply.finish == "length"
    assert len(cut) > 3, "greedy, the model writes the link it is told to"
    assert ADS[0].link in replies[-1].text, "and has room for it in the end"


def test_bytes_of_markup_are_banned_too() -> None:
    """Tokenizers with byte fallback can spell @ as the token <0x40>."""
    vocabulary = {piece: i for i, piece in enumerate(["<unk>", "</s>", "a", "@b", "<0x40>", "<0x41>", "<0x5B>"])}
    core = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    core.decoder = decoders.ByteFallback()
    table = TokenTable(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"), vocab_size=8)
    assert table.markup.tolist() == [False, False, False, True, True, False, True, False]


def test_the_same_keys_give_the_same_texts_to_the_bit(llm: LocalLLM) -> None:
    prompts = [f"Tell me about {topic}." for topic in ("boots", "loans", "a very long walk along the coast")]
    requests = [ask(i, prompt, hotter(1.0, max_tokens=10)) for i, prompt in enumerate(prompts)]
    first = run(llm, *requests)
    llm._done.clear()
    again = run(llm, *requests[::-1])[::-1]  # the order of asking does not matter either
    assert again == first, "text, tokens and log-probabilities"
    others = run(llm, *(ask(i + 3, prompt, hotter(1.0, max_tokens=10)) for i, prompt in enumerate(prompts)))
    # Each text was less than 1% likely (checked), so that fresh draws agree on one with probability below 3%.
    assert all(sum(reply.logprobs or ()) < math.log(0.01) for reply in first)
    assert all(a.text != b.text for a, b in zip(first, others, strict=True))


def test_two_prompts_under_one_key_stand_in_the_same_order_whoever_asks_first(llm: LocalLLM) -> None:
    tea, rum = (ask(0, f"Describe {drink}.", PLAIN) for drink in ("tea", "rum"))
    assert sorted([tea, rum], key=llm._order) == sorted([rum, tea], key=llm._order)


def test_temperature_zero_is_greedy(llm: LocalLLM, on_torch: LocalLLM) -> None:
    """Against the generate loop of transformers, beside a longer neighbour that must change nothing."""
    sampling = Sampling(temperature=0, max_tokens=12)
    prompt = Prompt(user="Count from one to ten.", prefill="one, two, three,")
    request = ask(0, prompt, sampling)
    one = run(llm, request)[0]
    two, _ = run(llm, ask(1, prompt, sampling), ask(2, "Say no to " + "red, " * 30, sampling))
    assert (one.text, one.logprobs) == (two.text, (0.0,) * len(two.tokens))
    inputs = torch.tensor([llm._encode(prompt)])
    output = on_torch._model.generate(
        inputs, attention_mask=torch.ones_like(inputs), do_sample=False, max_new_tokens=12, pad_token_id=0
    )
    assert one.text == on_torch._tokenizer.decode(output[0, inputs.shape[1] :], skip_special_tokens=True)


def test_a_stop_string_ends_the_text_before_it(llm: LocalLLM) -> None:
    prompt = Prompt(user="Count from one to ten.", prefill="one, two, three,")
    long = run(llm, ask(0, prompt, Sampling(temperature=0, max_tokens=12)))[0].text
    assert " five," in long
    stopped = run(llm, ask(0, prompt, Sampling(temperature=0, max_tokens=12, stop=(" seven", " five,"))))[0]
    assert stopped.text == long.split(" five,")[0]
    assert stopped.finish == "stop"
    assert stopped.usage.completion_tokens < 12, "it stopped writing, too"


def test_max_tokens_ends_a_text_with_length(llm: LocalLLM) -> None:
    request = ask(0, "Write a long story.", hotter(1.0, max_tokens=5))
    reply = run(llm, request)[0]
    assert (reply.finish, len(reply.tokens), reply.usage.completion_tokens) == ("length", 5, 5)
    assert reply.usage.prompt_tokens == len(llm._tokenizer.encode(llm.render(request.prompt), add_special_tokens=False))


def test_concurrent_requests_share_forward_passes(llm: LocalLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request joins the batch as soon as a row leaves it."""
    sizes: list[int] = []
    run_pass = OnnxRuntime.run

    def counting(self: OnnxRuntime, memory: Any, tokens: Any, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(tokens))
        return run_pass(self, memory, tokens, *args, **kwargs)

    monkeypatch.setattr(OnnxRuntime, "run", counting)
    run(llm, *(ask(i, "How many share a pass?", hotter(1.0, max_tokens=2 if i else 4)) for i in range(40)))
    assert sizes == [1, 32, 1, 9], "max_batch is 32; equal prompts are read once"


def test_both_runtimes_write_the_same_texts(llm: LocalLLM, on_torch: LocalLLM) -> None:
    """Fresh draws would differ in a token only where a uniform falls within 1e-5 of a step of the CDF."""
    requests = [
        ask(0, "Name a colour.", hotter(1.0)),
        ask(1, "Which boots?", hotter(0.7, top_k=20), LinksOnly(links=(ADS[0].link,))),
        ask(2, "Which boots are best for a long walk?", Sampling(max_tokens=8, stop=(".",))),
        ask(3, "Which?", hotter(4.0), OneOf(options=("red", "red wine", "blue"))),
    ]
    on_torch._done.clear()
    for here, there in zip(run(llm, *requests), run(on_torch, *requests), strict=True):
        assert here.logprobs == pytest.approx(there.logprobs, abs=1e-3)
        assert here.model_copy(update={"logprobs": there.logprobs}) == there


def test_an_error_in_a_pass_reaches_every_caller_and_the_next_request_is_answered(
    llm: LocalLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no pass")

    with monkeypatch.context() as patch:
        patch.setattr(OnnxRuntime, "run", failing)
        with pytest.raises(RuntimeError, match="no pass"):
            run(llm, ask(0, "Hi.", PLAIN), ask(1, "Ho.", PLAIN))
    assert run(llm, ask(0, "Hi.", PLAIN))[0].text


def test_a_cancelled_request_leaves_the_batch(llm: LocalLLM) -> None:
    """Its neighbour's text stays the same."""
    (alone,) = run(llm, ask(1, "Say something.", PLAIN))
    llm._done.clear()

    async def go() -> str:
        short = asyncio.ensure_future(llm.complete("Hi.", key=("test", 0), sampling=hotter(1.0, max_tokens=2)))
        dropped = asyncio.ensure_future(llm.complete("Ho.", key=("test", 2), sampling=PLAIN))
        kept = asyncio.ensure_future(llm.complete("Say something.", key=("test", 1), sampling=PLAIN))
        await short
        dropped.cancel()
        return (await kept).text

    assert asyncio.run(go()) == alone.text
