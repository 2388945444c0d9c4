"""Counts language model calls and stops at a limit."""

from __future__ import annotations

from simenv.errors import SimenvError
from simenv.llm.base import AnyRequest, EnsembleRequest, Meter
from simenv.records import Usage


class CallsSpent(SimenvError):
    """The next completion would exceed the limit. The audit then reports the parts that are finished."""


class Calls(Meter):
    """Counts completions. Replies from a model's cache do not count.

    Args:
        most: Maximum number of completions; None: no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.most = most
        self.completions = 0

    def add(self, request: AnyRequest, usage: Usage) -> None:
        """Does nothing, because `admit` counts the requests."""

    def admit(self, request: AnyRequest) -> None:
        """Counts one request. A joint decoding of n prompts counts as n.

        Raises:
            CallsSpent: the request would exceed the limit.
        """
        new = len(request.prompts) if isinstance(request, EnsembleRequest) else 1
        if self.most is not None and self.completions + new > self.most:
            raise CallsSpent(f"at most {self.most} calls are allowed, got {self.completions} and a request for {new}")
        self.completions += new
