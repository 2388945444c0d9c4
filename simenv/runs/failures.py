"""Answers that failed for good: which become rows of the log, and when there are too many to go on."""

from __future__ import annotations

from collections.abc import Callable

from simenv.errors import (
    LLMError,
    MechanismFailed,
    NotRecorded,
    OutcomeError,
    PlugInFailed,
    SimenvError,
    TooManyFailures,
    UnreadableReply,
)
from simenv.records import Failure

_OF_MODELS = (LLMError, UnreadableReply)
_OF_PLUG_INS = (MechanismFailed, OutcomeError, PlugInFailed)
_FEWEST = 5
"""Failed answers before a share of them counts: the first two of three say little."""


class Failures:
    """Decides on each failed answer whether the run goes on.

    A server's failure becomes a row of the log, after all retries. So does the failure of a mechanism's or judge's own
    code where `bugs_end` is false. Every other error ends the run, also a completion that a replayed cassette lacks.

    Args:
        limit: How many may fail: a share of the answers begun, below 1, of which the first five never are too many; or
            a number of answers. With 0 the first failure ends the run.
        bugs_end: Whether an error in the code of a plug-in ends the run.
        warned: Called with the first failure.
    """

    def __init__(
        self, limit: float, *, bugs_end: bool = True, warned: Callable[[str], None] = lambda text: None
    ) -> None:
        self._limit = limit
        self._kept = _OF_MODELS if bugs_end else (*_OF_MODELS, *_OF_PLUG_INS)
        self._warned = warned
        self._begun = 0
        self._failed = 0

    def begin(self, answers: int = 1) -> None:
        """Counts answers that are begun."""
        self._begun += answers

    def row(self, error: SimenvError) -> Failure:
        """What the log holds of a failed answer.

        Raises:
            SimenvError: the error itself, if it ends the run.
            TooManyFailures: more answers failed than `limit` allows.
        """
        if not self._limit or not isinstance(error, self._kept) or isinstance(error, NotRecorded):
            raise error
        self.keep(str(error), error)
        return Failure(kind=type(error).__name__, text=str(error))

    def keep(self, text: str, error: SimenvError | None = None) -> None:
        """Counts an answer that failed and was kept.

        Raises:
            TooManyFailures: as in `row`.
        """
        self._failed += 1
        if self._failed == 1:
            self._warned(f"an answer failed, and is kept as an error: {text}")
        if too_many(self._failed, self._begun, self._limit) and (self._limit >= 1 or self._failed >= _FEWEST):
            raise TooManyFailures(
                f"{self._failed} of {self._begun} answers failed, more than fail_on_error={self._limit:g} allows; "
                f"the last: {text}"
            ) from error


def too_many(count: int, of: int, limit: float) -> bool:
    """Whether `count` of `of` is above a limit: a share below 1, or a number."""
    return count > (limit if limit >= 1 else limit * of)
