"""What a judge is: it reads an answer as the persona and says which ads are clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from simenv.records import Auction, Feedback, Outcome, Persona
from simenv.registry import Kind


class Judge(Protocol):
    """Gives click feedback.

    Optional abilities: `HasVariants`, and of `simenv.abilities` `AsksModels` (its language models) and `Hashed` (names
    what its verdicts depend on).
    """

    name: str

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        """One Click per placement, in the same order. A verdict that cannot be decided is None, never False."""
        ...


@runtime_checkable
class HasVariants(Protocol):
    """A judge that exists in variants: the same judge with a change that must not matter.

    `simenv validate-judge` asks every variant the same questions and reports how far its click probabilities move.
    """

    @property
    def variants(self) -> Mapping[str, Judge]:
        """By the name of the change, for instance "wording2" or "order2"."""
        ...


JUDGE: Kind[Judge] = Kind("judge", "simenv.judges", ("judge",), "reads an answer as a persona and clicks")
