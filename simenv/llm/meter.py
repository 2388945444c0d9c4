"""Meters: what the models were asked in a block of code, and what that used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from simenv.llm.requests import AnyRequest
from simenv.records import Usage


class Meter:
    """Adds up the usage of all completions while it is active, and forwards them to the enclosing meter."""

    def __init__(self, around: Meter | None = None) -> None:
        self.requests: list[AnyRequest] = []
        self.admitted = 0
        """Requests that were not in memory."""
        self.recalled = 0
        """Those of them that a cassette answered."""
        self._around = around
        self._usage = Usage()
        self._added: list[Usage] = []  # since the last look: few meters are read after every completion

    @property
    def usage(self) -> Usage:
        """The sum so far."""
        self._usage = sum(self._added, self._usage)
        self._added.clear()
        return self._usage

    def add(self, request: AnyRequest, usage: Usage) -> None:
        self._added.append(usage)
        self.requests.append(request)
        if self._around is not None:
            self._around.add(request, usage)

    def admit(self, request: AnyRequest) -> None:
        """Called before a request that is not in memory goes to the model. A subclass may raise to reject it."""
        self.admitted += 1
        if self._around is not None:
            self._around.admit(request)

    def recall(self) -> None:
        """Called when a cassette answers a request."""
        self.recalled += 1
        if self._around is not None:
            self._around.recall()

    def paid(self, usage: Usage) -> None:
        """Called with the usage of a reply that neither memory nor a cassette had."""
        if self._around is not None:
            self._around.paid(usage)

    def elsewhere(self, calls: int, cost_usd: float) -> None:
        """Called with what another process asked models for, on behalf of the block."""
        if self._around is not None:
            self._around.elsewhere(calls, cost_usd)


class Spent(Meter):
    """Counts calls, without retries and without what memory or a cassette had, and their cost; keeps no requests."""

    def __init__(self, calls: int = 0, cost_usd: float = 0.0) -> None:
        super().__init__()
        self.calls = calls
        self.cost_usd = cost_usd

    def add(self, request: AnyRequest, usage: Usage) -> None:
        """Nothing: each answer has the usage of what memory gave it too."""

    def admit(self, request: AnyRequest) -> None:
        self.calls += 1

    def recall(self) -> None:
        self.calls -= 1

    def paid(self, usage: Usage) -> None:
        self.cost_usd += usage.cost_usd

    def elsewhere(self, calls: int, cost_usd: float) -> None:
        self.calls += calls
        self.cost_usd += cost_usd


def active_meter() -> Meter | None:
    """The meter of the block that the present request comes from."""
    return _active_meter.get()


_active_meter: ContextVar[Meter | None] = ContextVar("simenv_meter", default=None)


@contextmanager
def metered(meter: Meter | None = None) -> Iterator[Meter]:
    """Meters the completions of the block, including those of tasks started in it; with `meter` if one is given."""
    meter = meter or Meter(_active_meter.get())
    token = _active_meter.set(meter)
    try:
        yield meter
    finally:
        _active_meter.reset(token)
