"""What a judge is: anything that reads an answer as a persona and says what is clicked."""

from __future__ import annotations

from typing import Protocol

from simenv.records import Auction, Feedback, Outcome, Persona


class Judge(Protocol):
    """Gives click feedback."""

    name: str

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        """One Click per placement, in the same order. What cannot be decided is None, never False."""
        ...
