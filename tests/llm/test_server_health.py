"""Retries that know of each other, on a clock of the tests' own: rate limits, outages, and most calls failing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from simenv.errors import LLMError, LLMUnavailable
from simenv.llm.chat import ServerError
from simenv.llm.hosted_errors import translated
from simenv.llm.server_health import OUT, ServerHealth, longest_wait


class Clock:
    """Time that passes while all wait."""

    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            await asyncio.sleep(0)

    async def run(self, *jobs: Awaitable[object]) -> list[object]:
        async def passes() -> None:
            while True:
                self.now += 0.05
                for _ in range(5):
                    await asyncio.sleep(0)

        passing = asyncio.ensure_future(passes())
        try:
            return list(await asyncio.gather(*jobs, return_exceptions=True))
        finally:
            passing.cancel()


class Server:
    """A server that answers in 0.1 s what `reply` says: None is an answer, a number the status of a failure."""

    def __init__(self, clock: Clock, reply: Callable[[int], int | None], headers: Mapping[str, str] | None = None):
        self.clock = clock
        self.times: list[float] = []
        self.in_flight: list[int] = []
        self._reply = reply
        self._headers = headers or {}
        self._now_in_flight = 0

    async def __call__(self) -> float:
        number = len(self.times)
        self.times.append(self.clock.now)
        self._now_in_flight += 1
        self.in_flight.append(self._now_in_flight)
        await self.clock.sleep(0.1)
        self._now_in_flight -= 1
        status = self._reply(number)
        if status is None:
            return self.clock.now
        try:
            raise ServerError("no", status, {}, self._headers)
        except ServerError as error:
            raise translated(error, "a server") from None


def health(clock: Clock, *, concurrency: int = 16, attempts: int = 6, max_wait: float = 20.0) -> ServerHealth:
    return ServerHealth(
        "a server",
        concurrency=concurrency,
        attempts=attempts,
        max_wait=max_wait,
        clock=lambda: clock.now,
        sleep=clock.sleep,
    )


def retryable(error: LLMError) -> bool:
    return error.retryable


def run(clock: Clock, of: ServerHealth, server: Server, calls: int) -> list[object]:
    return asyncio.run(clock.run(*(of.call(server, retryable) for _ in range(calls))))


def test_when_calls_are_asked_to_wait_all_wait() -> None:
    clock = Clock()
    server = Server(clock, lambda number: 429 if number < 2 else None, {"retry-after": "5"})
    of = health(clock, concurrency=2)
    replies = run(clock, of, server, 8)
    assert not any(isinstance(reply, Exception) for reply in replies)
    answered = server.times[1] + 0.1
    assert of.retries == 2
    assert len([at for at in server.times if answered + 0.1 < at < answered + 4.8]) == 0
    assert len([at for at in server.times if at >= answered + 4.8]) == 8, "six that had to wait, and two retries"


def test_while_others_succeed_only_the_call_that_is_asked_to_waits() -> None:
    clock = Clock()
    server = Server(clock, lambda number: 429 if number == 3 else None, {"retry-after": "5"})
    of = health(clock, concurrency=2)
    run(clock, of, server, 40)
    assert (of.retries, of.waits) == (1, 0)
    assert len([at for at in server.times if at < 104]) == 40
    assert 4.9 < server.times[-1] - server.times[3] < 5.5


def test_a_wait_is_cut_at_the_longest_one_and_shown() -> None:
    clock = Clock()
    server = Server(clock, lambda number: 429 if number < 2 else None, {"retry-after": "3600"})
    of = health(clock, max_wait=7.0)
    seen: list[tuple[str, float] | None] = []

    async def look() -> None:
        await clock.sleep(1.0)
        seen.append(longest_wait())

    asyncio.run(clock.run(of.call(server, retryable), of.call(server, retryable), look()))
    assert 7.0 <= server.times[2] - server.times[1] <= 7.4
    assert seen[0] is not None
    assert seen[0][0] == "a server"
    assert 5.5 < seen[0][1] < 6.5
    assert of.waits == 0


def test_headers_of_an_answer_close_the_gate_before_anything_fails() -> None:
    clock = Clock()
    server = Server(clock, lambda _: None)
    of = health(clock)
    of.replied({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "3s"})
    run(clock, of, server, 1)
    assert server.times[0] >= 103


def test_while_others_succeed_a_call_may_be_sent_back_any_number_of_times() -> None:
    """Of each five requests, one is answered: with six attempts a call, a quarter of the calls would fail."""
    clock = Clock()
    server = Server(clock, lambda number: None if number % 5 == 4 else 429)
    replies = run(clock, health(clock, max_wait=1.0), server, 40)
    assert not any(isinstance(reply, Exception) for reply in replies)


def test_a_server_that_is_out_is_probed_by_one_call_at_a_time_and_all_go_on_when_it_is_back() -> None:
    clock = Clock()
    server = Server(clock, lambda _: 500 if clock.now < 112 else None)
    of = health(clock)
    replies = run(clock, of, server, 30)
    assert not any(isinstance(reply, Exception) for reply in replies)
    down = [n for at, n in zip(server.times, server.in_flight, strict=True) if 101 < at < 112]
    assert 2 <= len(down) <= 6, "probes at growing distances"
    assert set(down) == {1}
    assert max(at for at in server.times) < 124
    assert not of.is_out


def test_an_outage_ends_all_calls_in_the_time_of_one_calls_retries() -> None:
    for concurrency, calls in ((1, 5), (16, 40)):
        clock = Clock()
        server = Server(clock, lambda _: 500)
        replies = run(clock, health(clock, concurrency=concurrency), server, calls)
        assert all(isinstance(reply, LLMUnavailable) for reply in replies)
        assert clock.now - 100 < 50, "six attempts of one call wait 31 to 36 seconds"
        assert len(server.times) < 3 * OUT + calls


def test_a_server_that_fails_most_calls_ends_retries() -> None:
    """Of five requests, four fail: without an end of retries most calls would succeed, after minutes."""
    clock = Clock()
    server = Server(clock, lambda number: 500 if number % 5 else None)
    replies = run(clock, health(clock, concurrency=4), server, 100)
    failed = sum(isinstance(reply, LLMUnavailable) for reply in replies)
    assert failed > 50
    assert clock.now - 100 < 100


def test_a_server_that_fails_now_and_then_answers_everything() -> None:
    clock = Clock()
    server = Server(clock, lambda number: 500 if number % 3 == 0 else None)
    of = health(clock)
    replies = run(clock, of, server, 200)
    assert not any(isinstance(reply, Exception) for reply in replies)
    assert of.retries == len(server.times) - 200


def test_what_must_not_be_tried_again_is_not() -> None:
    clock = Clock()
    server = Server(clock, lambda _: 400)
    (reply,) = run(clock, health(clock), server, 1)
    assert isinstance(reply, LLMError)
    assert len(server.times) == 1
