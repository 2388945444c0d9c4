"""What a judge is: anything that reads an answer as a persona and says what is clicked."""

from __future__ import annotations

from typing import Protocol

from simenv.records import Auction, Feedback, Outcome, Persona


class Judge(Protocol):
    """Gives click feedback.

    A judge may also have `variants: Mapping[str, Judge]`: the same judge with something changed that must not matter,
    under the name of what was changed, for instance "prompt wording" or "example order". `simenv validate-judge` asks
    each the same questions and reports how far its click probabilities move.
    """

    name: str

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        """One Click per placement, in the same order. What cannot be decided is None, never False."""
        ...
