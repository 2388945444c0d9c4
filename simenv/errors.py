"""Every error that simenv raises on purpose.

SimenvError
├── InputError            something the caller gave is wrong; the command line exits with code 2
│   ├── DataFileError     a file, a row or a column of it (catalog, personas, queries, run folder)
│   ├── UnknownName       a name that is not registered; lists the nearest ones
│   ├── OutcomeError      a mechanism's outcome that breaks the rules of the auction it answers
│   └── MissingCapability a mechanism or judge asks a language model for what its backend cannot do
├── MechanismFailed       a mechanism's own code raised
├── MissingWeights        the embedded model's weight packages are not installed
├── LLMError              a language model did not give a usable completion
│   ├── LLMUnavailable    unreachable, overloaded or timed out: worth another try (`retryable`)
│   └── LLMRefused        wrong key, unknown model, bad request: another try would fail alike
├── UnreadableReply       a reply that the reader asked for in a strict format and did not get
└── ClaimViolated         `check_mechanism` found a mechanism to break a rule or a claim of its own

A message says what was got and what is allowed. `hint`, where there is one, is the next thing to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SimenvError(Exception):
    """Root of the tree."""

    retryable: bool = False
    """Whether the same call may succeed if it is made again."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class InputError(SimenvError):
    """Something the caller gave is wrong."""


class DataFileError(InputError):
    """A data file, or one row of it, is not what it should be."""


class UnknownName(InputError):
    """A name that is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str | None = None) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {guess}known are {', '.join(names)}", hint=hint)


class OutcomeError(InputError):
    """A mechanism's outcome breaks the rules of the auction it answers."""


class MissingCapability(InputError):
    """The language model's backend cannot do what is asked of it."""


class MechanismFailed(SimenvError):
    """A mechanism's own code raised; the cause is chained."""


class MissingWeights(SimenvError):
    """The embedded model's weight packages are not installed."""


class LLMError(SimenvError):
    """A language model did not give a usable completion."""


class LLMUnavailable(LLMError):
    """Unreachable, overloaded or timed out."""

    retryable = True


class LLMRefused(LLMError):
    """Wrong key, unknown model or bad request."""


class UnreadableReply(SimenvError):
    """A reply that was asked for in a strict format and did not come in it."""


class ClaimViolated(SimenvError):
    """A mechanism breaks a rule of the interface or a claim it makes of itself."""
