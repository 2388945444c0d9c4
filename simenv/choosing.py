"""Answers of mechanisms whose user chooses a follow-up question in between: offer, choice, answer."""

from __future__ import annotations

from typing import NamedTuple

from simenv.judges.base import Judge, ask_choice
from simenv.llm.base import metered
from simenv.mechanism import Suggests, answer_choice, offer_questions
from simenv.records import Auction, Choice, Outcome, Persona, Usage


class Answered(NamedTuple):
    """An answer after the user's choice."""

    outcome: Outcome
    choice: Choice | None
    """None: no question was offered."""
    usage: Usage
    """The judge's use of language models for the choice."""


async def answer_with_user(mechanism: Suggests, auction: Auction, judge: Judge, persona: Persona) -> Answered:
    """Lets `mechanism` offer its questions, `judge` choose as the persona, and `mechanism` answer the choice.

    Raises:
        OutcomeError, MechanismFailed: as `simenv.mechanism.run_mechanism`.
        InputError, PlugInFailed: as `simenv.judges.base.ask_choice`.
    """
    offer = await offer_questions(mechanism, auction)
    choice = None
    with metered() as meter:
        if offer.suggestions:
            choice = await ask_choice(judge, persona, auction, offer.suggestions)
    outcome = await answer_choice(mechanism, auction, offer, None if choice is None else choice.place)
    return Answered(outcome, choice, meter.usage)
