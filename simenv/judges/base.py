"""The judge protocol: a judge reads an answer as the persona and decides which ads are clicked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from simenv.records import Auction, Feedback, Outcome, Persona
from simenv.registry import Kind


class Judge(Protocol):
    """Gives click feedback.

    Optional protocols: `HasVariants`, and from `simenv.abilities` `AsksModels` (lists its language models) and `Hashed`
    (a hash of the data that its verdicts depend on).
    """

    name: str

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        """Returns one Click per placement, in the same order. `clicked` is None where the judge cannot decide."""
        ...


@runtime_checkable
class HasVariants(Protocol):
    """A judge with variants. A variant is the same judge with a change that must not matter.

    `simenv validate-judge` gives all variants the same cases and reports how far their click probabilities differ.
    """

    @property
    def variants(self) -> Mapping[str, Judge]:
        """Name of the change, for instance "wording2" or "order2" -> variant."""
        ...


JUDGE: Kind[Judge] = Kind("judge", "simenv.judges", ("judge",), "reads an answer as a persona and decides clicks")
