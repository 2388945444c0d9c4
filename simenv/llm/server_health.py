"""Retries of the calls of one model at one server, which share what is known of the server.

- Rate limits. A call that is told when to come back waits until then, for at most `max_wait`. If no call succeeds
  before another is told so too, or an answer says that nothing remains, the server gets no request at all until then.
  While other calls succeed, a call that is sent back with status 429 may be tried any number of times.
- Outages. After OUT failures in a row, of any calls, one call at a time probes the server and the others wait. An
  outage that lasts as long as the waits of one call together ends the retries: a call then fails with its own first
  failure, or with that of a probe that was made while it waited.
- Most calls fail. A retry that fails takes a token, a call that succeeds gives one; without tokens there is no retry.

So a server that fails everything, or most of what it is asked, holds a run for about as long as one call is retried.
"""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

from simenv.background_loop import PerLoop
from simenv.errors import LLMError
from simenv.llm.hosted_errors import headers_of, status_of
from simenv.llm.rate_limits import asked_wait

T = TypeVar("T")

OUT = 8
"""Failures in a row after which a server is taken to be out."""
_SHORTEST_OUTAGE = 1.0
"""Seconds that an outage lasts at least before retries end."""
_TOKENS = 32

_servers: weakref.WeakSet[ServerHealth] = weakref.WeakSet()


class ServerHealth:
    """What is known of a server, and the retries of the calls that it gets.

    Attributes:
        retries: Number of attempts that were not the first of their call.

    Args:
        where: The model and its server.
        concurrency: Most calls at a time.
        attempts: Most attempts of a call.
        max_wait: Longest wait, seconds; 0: none at all.
        clock: Seconds, as of `time.monotonic`.
        sleep: As `asyncio.sleep`.
    """

    def __init__(
        self,
        where: str,
        *,
        concurrency: int,
        attempts: int,
        max_wait: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.where = where
        self.retries = 0
        self._attempts = attempts
        self._max_wait = max_wait
        self._clock = clock
        self._sleep = sleep or (lambda seconds: asyncio.sleep(seconds))
        self._slots = PerLoop(partial(asyncio.Semaphore, concurrency))
        self._probing = PerLoop(asyncio.Lock)
        self._closed_until = 0.0
        self._told = 0  # calls in a row that were told when to come back
        self._successes = 0
        self._failures = 0  # in a row
        self._failing_since = 0.0
        self._probes = 0  # in this outage
        self._next_probe = 0.0
        self._last: tuple[float, LLMError] | None = None
        self._patience = max(_SHORTEST_OUTAGE, sum(min(max_wait, 2.0**k) for k in range(attempts - 1)))
        self._most_tokens = self._tokens = max(_TOKENS, concurrency)
        _servers.add(self)

    @property
    def waits(self) -> float:
        """Seconds until the next request may be sent."""
        return max(0.0, self._closed_until - self._clock())

    @property
    def is_out(self) -> bool:
        """Whether the last calls all failed."""
        return self._failures >= OUT

    @property
    def _given_up(self) -> bool:
        return self.is_out and self._clock() - self._failing_since >= self._patience

    def replied(self, headers: Mapping[str, str]) -> None:
        """Takes note of an answer's headers: if they name a limit that is used up, all calls wait."""
        if wait := self._asked(headers):
            self._close(wait)

    def _asked(self, headers: Mapping[str, str]) -> float:
        return min(self._max_wait, asked_wait(headers)) if headers else 0.0

    def _close(self, wait: float) -> None:
        self._closed_until = max(self._closed_until, self._clock() + wait)

    def _wait(self, error: LLMError, tries: int) -> float:
        """Seconds until the next try of a call. A first failure often is gone at once."""
        own = 0.25 * (1 + random.random()) if tries == 1 else 2.0 ** min(tries - 1, 30) + random.random()
        asked = self._asked(headers_of(error))
        return min(self._max_wait, max(asked, own) if tries > 1 else asked or own)

    async def call(self, call: Callable[[], Awaitable[T]], again: Callable[[LLMError], bool]) -> T:
        """Makes a call until it succeeds, or is not to be tried again.

        Args:
            call: The call.
            again: Whether an error may be gone at the next try.

        Raises:
            LLMError: that of the last attempt.
        """
        counted = tries = 0
        seen = self._successes
        while True:
            try:
                return await self._attempt(call)
            except LLMError as error:
                tries += 1
                limited = status_of(error) == 429
                counted = 1 if limited and self._successes > seen else counted + 1
                seen = self._successes
                if not again(error) or counted >= self._attempts:
                    raise
                wait = self._wait(error, tries)
                if not limited:
                    if tries > 1:
                        self._tokens = max(0, self._tokens - 1)
                    if self._given_up or not self._tokens:
                        raise
            self.retries += 1
            if self._max_wait and not self.is_out:
                await self._sleep(wait)

    async def _attempt(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            while (wait := self.waits) > 0:
                await self._sleep(wait)
            async with self._slots.get():
                if self.waits > 0:  # another call has learnt of it
                    continue
                if not self.is_out:
                    return await self._noted(call)
                asked = self._clock()
                async with self._probing.get():
                    if self.is_out:
                        return await self._probe(call, asked)

    async def _probe(self, call: Callable[[], Awaitable[T]], asked: float) -> T:
        """The call as a probe, after the wait since the last one; that one's failure, if it came after `asked`."""
        if self._given_up:
            if self._last is not None and self._last[0] > asked:
                raise type(self._last[1])(*self._last[1].args, hint=self._last[1].hint)
        elif self._max_wait and (wait := self._next_probe - self._clock()) > 0:
            await self._sleep(wait)
        try:
            return await self._noted(call)
        except LLMError:
            self._next_probe = self._clock() + min(self._max_wait, 2.0 ** min(self._probes, 30))
            self._probes += 1
            raise

    async def _noted(self, call: Callable[[], Awaitable[T]]) -> T:
        """The call; its outcome counts for all."""
        try:
            reply = await call()
        except LLMError as error:
            if wait := self._asked(headers_of(error)):
                self._told += 1
                if self._told > 1:
                    self._close(wait)
            if error.retryable and status_of(error) != 429:
                now = self._clock()
                if not self._failures:
                    self._failing_since, self._probes, self._next_probe = now, 0, 0.0
                self._failures += 1
                self._last = (now, error)
            else:
                self._failures = 0  # it answers
            raise
        self._failures = self._told = 0
        self._successes += 1
        self._tokens = min(self._most_tokens, self._tokens + 1)
        return reply


def longest_wait() -> tuple[str, float] | None:
    """The model and server that all calls wait longest for, and the seconds; None if no server asked to wait."""
    waiting = [(server.waits, server.where) for server in list(_servers)]
    seconds, where = max(waiting, default=(0.0, ""))
    return (where, seconds) if seconds > 0 else None
