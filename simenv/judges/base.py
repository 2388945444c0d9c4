"""What a judge is: anything that reads an answer as a persona and says what is clicked."""

from __future__ import annotations

from typing import Protocol

from simenv.records import Auction, Feedback, Outcome, Persona


class Judge(Protocol):
    """Gives click feedback.

    A judge may also have

    - `variants: Mapping[str, Judge]`: the same judge with something changed that must not matter, under the name of
      what was changed, for instance "wording2" or "order2". `simenv validate-judge` asks each the same questions and
      reports how far its click probabilities move.
    - `llms: Sequence[LLM]`: the language models that it asks, for warnings, retries and preflight.
    - `sha256: str`: of whatever its verdicts depend on beside its models, for manifests.
    """

    name: str

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        """One Click per placement, in the same order. What cannot be decided is None, never False."""
        ...
