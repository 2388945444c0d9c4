"""The sessions of a run: each is created when the first of its auctions is needed, and stored once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

from simenv.background_loop import as_task, gather
from simenv.world import Session, World


class Sessions:
    """The sessions of a run.

    Args:
        known: Existing sessions, by number.
        save: Called with new sessions, in the order in which they were asked for. A run's folder stores them, so that a
            User-LLM writes each session's queries once.
    """

    def __init__(
        self,
        known: Mapping[int, Session] | None = None,
        save: Callable[[Mapping[int, Session]], None] = lambda fresh: None,
    ) -> None:
        self.encoded = True
        """Whether this process answers, and so needs the vectors of the queries."""
        self._known = dict(known or {})
        self._pass_on = save
        self._begun: dict[int, asyncio.Task[Session]] = {}
        """Sessions that are not saved yet, in the order in which they were asked for."""

    async def begin(self, world: World, seed: int, number: int) -> None:
        """Begins the session with this number. One that asks no model is there when this returns."""
        if number not in self._known and number not in self._begun:
            self._begun[number] = as_task(world.session(seed, number, encoded=self.encoded))
            await asyncio.sleep(0)

    async def get(self, world: World, seed: int, number: int) -> Session:
        """Returns the session with this number. Several answers may wait for it at once."""
        await self.begin(world, seed, number)
        if number in self._known:
            return self._known[number]
        return await asyncio.shield(self._begun[number])

    async def get_all(self, world: World, seed: int, numbers: Sequence[int]) -> dict[int, Session]:
        """Returns the sessions with these numbers, and saves them."""
        sessions = await gather(self.get(world, seed, number) for number in numbers)
        self.save()
        return dict(zip(numbers, sessions, strict=True))

    def save(self) -> None:
        """Saves the new sessions, up to the first that is still being written.

        Raises:
            CannotWrite: `save` cannot write them.
        """
        fresh: dict[int, Session] = {}
        for number, task in self._begun.items():
            if not task.done() or task.cancelled() or task.exception() is not None:
                break
            fresh[number] = task.result()
        if fresh:
            self._pass_on(fresh)
        self._known |= fresh
        for number in fresh:
            del self._begun[number]

    def forget(self, below: int) -> None:
        """Drops saved sessions with numbers below this one: no later auction needs them."""
        self._known = {number: session for number, session in self._known.items() if number >= below}

    async def close(self) -> None:
        """Saves what is there and cancels what is still being written."""
        try:
            self.save()
        finally:
            for task in self._begun.values():
                task.cancel()
            await asyncio.gather(*self._begun.values(), return_exceptions=True)
            self._begun.clear()
