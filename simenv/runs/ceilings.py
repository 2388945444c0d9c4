"""What a run may cost: ceilings, and a record of what was spent that goes over all its resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from simenv.errors import CeilingReached, InputError
from simenv.files.atomic import append_bytes, write_bytes_atomically
from simenv.llm.base import LLM, AnyRequest, Meter
from simenv.records import Usage
from simenv.runs.log import LOG, auctions_in, sound_chunks
from simenv.runs.options import BenchOptions
from simenv.runs.rows import to_lines, whole_rows

SPENT = "spent.jsonl"
_HOUR = 3600.0


class Stopped(NamedTuple):
    """A run that stopped at one of its ceilings."""

    ceiling: str
    """The option: max_cost, max_calls or max_hours."""
    text: str
    """Which ceiling, and what was spent."""


class Spending(Meter):
    """Counts what the models of a run are asked and cost, and keeps it in spent.jsonl of the run's folder.

    A call is counted when it is made; a retry is not counted again, and what memory or a cassette has is none. Its cost
    is known when the reply comes.

    Args:
        folder: The run's folder. What earlier parts of the run spent is read from it.
        options: The run's ceilings.
        clock: Seconds, as of `time.monotonic`.

    Raises:
        CannotWrite: the end of spent.jsonl was cut off, and the rest cannot be written again.
    """

    def __init__(self, folder: Path, options: BenchOptions, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._file = folder / SPENT
        self._options = options
        self._clock = clock
        before, whole = whole_rows(self._file)
        if not whole:
            write_bytes_atomically(self._file, to_lines(before))
        self.calls: int = sum(row["calls"] for row in before)
        self.cost_usd: float = sum(row["cost_usd"] for row in before)
        self._seconds: float = sum(row["seconds"] for row in before)
        self._since = clock()
        self._saved = (self.calls, self.cost_usd, self._seconds)

    @property
    def seconds(self) -> float:
        """Seconds in which the run, with its earlier parts, was answering."""
        return self._seconds + self._clock() - self._since

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

    def stopped(self) -> Stopped | None:
        """The ceiling that is reached, if one is."""
        options, hours = self._options, self.seconds / _HOUR
        if options.max_calls is not None and self.calls >= options.max_calls:
            return Stopped("max_calls", f"max_calls={options.max_calls} is reached: {self.calls} calls were made")
        if options.max_cost is not None and self.cost_usd >= options.max_cost:
            return Stopped(
                "max_cost", f"max_cost={options.max_cost:g} is reached: {self.cost_usd:.4g} dollars were spent"
            )
        if options.max_hours is not None and hours >= options.max_hours:
            return Stopped("max_hours", f"max_hours={options.max_hours:g} is reached: {hours:.4g} hours were used")
        return None

    def kept_from_end(self, folder: Path, auctions: int) -> Stopped | None:
        """The ceiling that kept a run of so many auctions from its end, if one did."""
        reached = self.stopped()
        finished = auctions if reached is None else auctions_in(sound_chunks(folder)[0])
        if reached is None or finished == auctions:
            return None
        return reached._replace(text=f"{reached.text}, {finished} of {auctions} auctions are finished")

    def save(self) -> None:
        """Appends what was spent since the last row.

        Raises:
            CannotWrite: the file cannot be written.
        """
        now = (self.calls, self.cost_usd, self.seconds)
        calls, cost, seconds = (new - old for new, old in zip(now, self._saved, strict=True))
        append_bytes(
            self._file, to_lines([{"calls": calls, "cost_usd": cost, "seconds": round(seconds, 3)}]), flush=False
        )
        self._saved = now


def refuse_empty(spending: Spending, folder: Path) -> None:
    """Raises CeilingReached if the run stopped at a ceiling before its first chunk was written."""
    reached = spending.stopped()
    if reached is not None and not (folder / LOG).is_file():
        raise CeilingReached(f"{reached.text} before the first chunk was finished", hint="a smaller chunk ends sooner")


def refuse_unpriced(llms: Iterable[LLM]) -> None:
    """Raises InputError if the cost of a model's replies is unknown, so that no ceiling of the cost can hold."""
    for llm in llms:
        if not llm.priced:
            raise InputError(
                f"max_cost: LiteLLM lists no price for {llm.name}, so the cost of its calls is unknown",
                hint="limit max_calls or max_hours instead",
            )
