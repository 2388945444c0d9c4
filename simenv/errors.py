"""All errors that simenv raises deliberately.

SimenvError
├── InputError            an argument or an input file is wrong; the command line exits with code 2
│   ├── DataFileError     a file, or a row or column of it (catalog, personas, queries, run folder)
│   │   └── CannotWrite   a file cannot be written: full disk, read-only folder; the command line exits with code 1
│   ├── UnknownName       a name that is not registered; the message lists the nearest ones
│   ├── PartsMissing      parts of a run that are to be merged are missing or not finished
│   ├── OutcomeError      a mechanism's outcome breaks the rules of its auction
│   └── MissingCapability a mechanism or judge needs a capability that the language model's backend lacks
├── MechanismFailed       a mechanism's own code raised
├── PlugInFailed          the code of another plug-in (judge, bidder, ...) raised, or returned something else
├── PartsFailed          some environments of a vector environment raised; it holds what the others returned
├── MissingWeights        the embedded model's weight packages are not installed
├── LLMError              a language model did not give a usable completion
│   ├── LLMUnavailable    unreachable, overloaded or timed out: a retry may succeed (`retryable`)
│   └── LLMRefused        wrong key, unknown model, bad request, no answer: a retry would fail again
│       ├── LLMCutShort   max_tokens was used up before the answer, for instance by reasoning
│       └── NotRecorded   a cassette that is replayed does not have the completion
├── CeilingReached        a run reached one of its ceilings before its first chunk; the command line exits with code 3
├── TooManyFailures       more answers of a run failed than it allows
├── UnreadableReply       a language model's reply does not have the requested strict format
└── ClaimViolated         `check_mechanism`: a mechanism breaks a rule of the interface or one of its claims

A message states what was received and what is allowed. `hint`, if given, states the next step. Secrets are masked.

SimenvWarning             nothing is wrong enough to stop; the command line prints it
└── DataFileWarning       something in a data file is not used
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from simenv.secrets import masked


class SimenvError(Exception):
    """Base class of all errors of simenv."""

    retryable: bool = False
    """Whether a retry of the same call may succeed."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return masked(f"{message} ({self.hint})" if self.hint else message)


class InputError(SimenvError):
    """An argument or an input file is wrong."""


class DataFileError(InputError):
    """A data file, or one row or column of it, is missing or invalid."""


class CannotWrite(DataFileError):
    """A file cannot be written: the disk is full, the folder is read-only, a limit is reached. What was written before
    is complete."""


class UnknownName(InputError):
    """A name is not registered. The message lists the nearest known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, hint: str | None = None) -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        super().__init__(f"unknown {kind} {name!r}: {guess}known are {', '.join(names)}", hint=hint)


class PartsMissing(InputError):
    """Parts of a run that are to be merged are missing, or not finished.

    Args:
        message: What is missing.
        missing: The shards without a part, such as "2/4".
        unfinished: The folders of the parts that are not finished, as text.
    """

    def __init__(self, message: str, *, missing: Iterable[str] = (), unfinished: Iterable[str] = ()) -> None:
        self.missing = tuple(missing)
        self.unfinished = tuple(unfinished)
        super().__init__(message)


class OutcomeError(InputError):
    """A mechanism's outcome breaks the rules of its auction."""


class MissingCapability(InputError):
    """The language model's backend lacks a required capability."""


class PlugInFailed(SimenvError):
    """The code of a judge, bidder or other plug-in raised, or returned something that it may not return."""


class MechanismFailed(SimenvError):
    """A mechanism's own code raised; the cause is chained."""


class PartsFailed(SimenvError):
    """Some environments of a vector environment raised in a step.

    Args:
        errors: Number of the environment -> what it raised.
        result: What `step` would have returned: observations, rewards, terminations, truncations and infos, with the
            transitions of the environments that answered. One that raised did not move: its observation is the auction
            that it still has to answer, its reward is NaN and it has no transition.
    """

    def __init__(self, errors: Mapping[int, Exception], result: Any) -> None:
        self.errors = dict(errors)
        self.result = result
        told = "; ".join(f"{number}: {error}" for number, error in self.errors.items())
        super().__init__(f"{len(self.errors)} of {len(result[1])} environments raised: {told}")
        self.retryable = all(isinstance(error, SimenvError) and error.retryable for error in self.errors.values())


class MissingWeights(SimenvError):
    """The embedded model's weight packages are not installed."""


class LLMError(SimenvError):
    """A language model did not give a usable completion."""


class LLMUnavailable(LLMError):
    """Unreachable, overloaded or timed out."""

    retryable = True


class LLMRefused(LLMError):
    """Wrong key, unknown model, bad request or an answer that is withheld."""


class LLMCutShort(LLMRefused):
    """max_tokens was used up before the answer, for instance by reasoning."""


class TooManyFailures(SimenvError):
    """More answers of a run failed than it allows; the last error is chained."""


class CeilingReached(SimenvError):
    """A run reached one of its ceilings (max_cost, max_calls, max_hours) before its first chunk was finished."""


class NotRecorded(LLMRefused):
    """A cassette that is replayed does not have the completion."""


class UnreadableReply(SimenvError):
    """A language model's reply does not have the requested strict format."""


class ClaimViolated(SimenvError):
    """A mechanism breaks a rule of the interface or one of its own claims."""


class SimenvWarning(UserWarning):
    """Something that the caller should know, although the call goes on."""


class DataFileWarning(SimenvWarning):
    """Something in a data file is not used."""
