"""The seam that all backends share: memory, metering, capabilities; and the scripted model."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path

import pytest

from simenv.errors import InputError, LLMRefused, LLMUnavailable, MissingCapability
from simenv.llm import (
    Capability,
    Completion,
    JSONSchema,
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    Sampling,
    ScriptedLLM,
    make_llm,
    metered,
)
from simenv.llm.base import LLM, Constraint
from simenv.records import Usage


class CountingLLM(LLM):
    """Ten prompt tokens and one completion token a call; waits until it is let go, fails where it is told to."""

    name = "counting"

    def __init__(self, *, memory: int = 8192) -> None:
        super().__init__(memory=memory)
        self.generated: list[Request] = []
        self.failures = 0
        self.gate: asyncio.Event | None = None

    async def _generate(self, request: Request) -> Completion:
        self.generated.append(request)
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise LLMUnavailable("down")
        return Completion(
            text=f"answer {len(self.generated)}", usage=Usage(calls=1, prompt_tokens=10, completion_tokens=1)
        )


def test_a_script_of_replies_is_handed_out_in_order_and_ends() -> None:
    llm = ScriptedLLM(["one", "two words"])
    first = asyncio.run(llm.complete(Prompt(system="be brief", user="hi"), key=("a",)))
    second = asyncio.run(llm.complete("hi", key=("b",)))
    assert (first.text, second.text) == ("one", "two words")
    assert first.usage == Usage(calls=1, prompt_tokens=3, completion_tokens=1)
    assert second.usage.completion_tokens == 2
    with pytest.raises(LLMRefused, match="2 replies, got request 3"):
        asyncio.run(llm.complete("hi", key=("c",)))
    assert [request.key for request in llm.requests] == [("a",), ("b",), ("c",)]


def test_a_script_may_be_a_function_plain_or_async() -> None:
    async def slow(request: Request) -> str:
        return request.prompt.user.upper()

    assert asyncio.run(ScriptedLLM(slow).complete("hi", key=("a",))).text == "HI"
    assert asyncio.run(ScriptedLLM(lambda r: f"{r.key[0]}!").complete("hi", key=("a",))).text == "a!"


def test_filler_depends_on_the_key_alone() -> None:
    def filler(user: str, *key: str | int) -> str:
        return asyncio.run(ScriptedLLM().complete(user, key=key)).text

    assert filler("one", "a", 0) == filler("quite another", "a", 0)
    assert len({filler("one", "a", i) for i in range(20)}) > 1


def test_filler_keeps_to_the_options_and_knows_their_probability() -> None:
    options = ("yes", "no", "maybe", "never")
    replies = [
        asyncio.run(ScriptedLLM().complete("?", key=("a", i), constraint=OneOf(options=options))) for i in range(200)
    ]
    assert {reply.logprobs for reply in replies} == {(-math.log(4),)}
    counts = Counter(reply.text for reply in replies)
    assert set(counts) == set(options)
    # Keyed draws, so the same in every run. Each count is binomial(200, 1/4), sd 6.1; five sd.
    assert all(abs(count - 50) < 31 for count in counts.values())


def test_the_same_request_is_answered_once_and_metered_each_time() -> None:
    async def go() -> None:
        with metered() as meter:
            first = await llm.complete("hi", key=("a",))
            again = await llm.complete(Prompt(user="hi"), key=("a",), sampling=Sampling())
        assert again == first
        assert len(llm.generated) == 1
        assert meter.usage == Usage(calls=2, prompt_tokens=20, completion_tokens=2)
        assert meter.requests == [llm.generated[0]] * 2

    llm = CountingLLM()
    asyncio.run(go())


def test_whatever_differs_in_a_request_makes_it_another() -> None:
    async def go() -> None:
        await llm.complete("hi", key=("a",))
        await llm.complete("ho", key=("a",))
        await llm.complete("hi", key=("b",))
        await llm.complete(Prompt(user="hi", system="be brief"), key=("a",))
        await llm.complete("hi", key=("a",), sampling=Sampling(temperature=0))
        await llm.complete("hi", key=("a",), constraint=LinksOnly())

    llm = CountingLLM()
    llm.capabilities = frozenset(Capability)
    asyncio.run(go())
    assert len(llm.generated) == 6


def test_memory_is_bounded_and_forgets_what_was_not_asked_for_longest() -> None:
    async def go(*keys: str) -> list[int]:
        counts = []
        for key in keys:
            await llm.complete("hi", key=(key,))
            counts.append(len(llm.generated))
        return counts

    llm = CountingLLM(memory=2)
    # c takes the place of b, because a was asked for since; b then takes that of a, and a that of b.
    assert asyncio.run(go("a", "b", "b", "a", "c", "a", "c", "b", "c", "a")) == [1, 2, 2, 2, 3, 3, 3, 4, 4, 5]
    llm = CountingLLM(memory=0)
    assert asyncio.run(go("a", "a")) == [1, 2]


def test_equal_requests_in_flight_share_one_generation() -> None:
    async def go() -> None:
        llm.gate = asyncio.Event()
        with metered() as meter:
            waiting = [asyncio.ensure_future(llm.complete("hi", key=("a",))) for _ in range(3)]
            await asyncio.sleep(0.01)
            waiting[0].cancel()  # whoever asked first may leave: the others still get the answer
            await asyncio.sleep(0)
            llm.gate.set()
            left, *texts = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(left, asyncio.CancelledError)
        assert [completion.text for completion in texts] == ["answer 1", "answer 1"]
        assert len(llm.generated) == 1
        assert meter.usage.calls == 2

    llm = CountingLLM()
    asyncio.run(go())


def test_a_failure_reaches_all_who_wait_and_is_not_remembered() -> None:
    async def go() -> None:
        with metered() as meter:
            results = await asyncio.gather(*(llm.complete("hi", key=("a",)) for _ in range(2)), return_exceptions=True)
            assert [type(result) for result in results] == [LLMUnavailable, LLMUnavailable]
            assert (len(llm.generated), meter.usage.calls) == (1, 0)
            assert (await llm.complete("hi", key=("a",))).text == "answer 2"
            assert meter.usage.calls == 1

    llm = CountingLLM()
    llm.failures = 1
    asyncio.run(go())


def test_meters_nest_and_siblings_do_not_mix() -> None:
    async def branch(name: str, calls: int) -> int:
        with metered() as meter:
            await asyncio.gather(*(llm.complete("hi", key=(name, i)) for i in range(calls)))
        await llm.complete("hi", key=(name, "after"))  # the outer meter's alone
        return meter.usage.calls

    async def go() -> None:
        with metered() as outer:
            inner = await asyncio.gather(branch("a", 2), branch("b", 3))
        await llm.complete("hi", key=("unmetered",))
        assert inner == [2, 3]
        assert outer.usage == Usage(calls=7, prompt_tokens=70, completion_tokens=7)
        assert len(outer.requests) == 7

    llm = CountingLLM()
    asyncio.run(go())


@pytest.mark.parametrize(
    ("constraint", "lacks"),
    [(LinksOnly(), "constraint"), (OneOf(options=("a",)), "constraint"), (JSONSchema(text="{}"), "json_schema")],
)
def test_a_missing_capability_is_named(constraint: Constraint, lacks: str) -> None:
    few = ScriptedLLM(capabilities=frozenset({Capability.PREFILL, Capability.LOGPROBS}))
    with pytest.raises(MissingCapability, match=f"'scripted' lacks '{lacks}'; it has logprobs, prefill"):
        asyncio.run(few.complete("hi", key=("a",), constraint=constraint))
    assert few.requests == []
    with pytest.raises(MissingCapability, match="lacks 'prefill'; it has none"):
        asyncio.run(CountingLLM().complete(Prompt(user="hi", prefill="Well,"), key=("a",)))


def test_names_that_make_no_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown language model 'gpt'.*PROVIDER/MODEL"):
        make_llm("gpt")
    with pytest.raises(InputError, match=r"no transformers model at .*: expected a folder with config\.json"):
        make_llm(f"local:{tmp_path}")


def test_a_completion_that_nobody_waits_for_any_more_is_cancelled() -> None:
    cancelled: list[str] = []

    async def slow(request: Request) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(request.prompt.user)
            raise
        return "late"

    async def go() -> None:
        llm = ScriptedLLM(slow)
        waiters = [asyncio.ensure_future(llm.complete("same", key=("k",))) for _ in range(2)]
        await asyncio.sleep(0.01)
        waiters[0].cancel()
        await asyncio.sleep(0.01)
        assert cancelled == []  # somebody still waits
        waiters[1].cancel()
        await asyncio.gather(*waiters, return_exceptions=True)
        await asyncio.sleep(0.01)
        assert cancelled == ["same"]

    asyncio.run(go())
