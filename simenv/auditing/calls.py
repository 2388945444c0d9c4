"""Counts what language models are asked, and stops at a bound."""

from __future__ import annotations

from simenv.errors import SimenvError
from simenv.llm.base import AnyRequest, EnsembleRequest, Meter
from simenv.records import Usage


class CallsSpent(SimenvError):
    """The next completion would be one more than allowed. The audit ends with what it has."""


class Calls(Meter):
    """Counts completions that were made; what comes from a model's memory is free.

    Args:
        most: How many may be made; None: any number.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        self.most = most
        self.made = 0

    def add(self, request: AnyRequest, usage: Usage) -> None:
        """Nothing: what was asked is counted by `admit`."""

    def admit(self, request: AnyRequest) -> None:
        """Counts one request; a text that n prompts decode jointly is n.

        Raises:
            CallsSpent: it would be more than allowed.
        """
        new = len(request.prompts) if isinstance(request, EnsembleRequest) else 1
        if self.most is not None and self.made + new > self.most:
            raise CallsSpent(f"{self.most} calls are spent")
        self.made += new
