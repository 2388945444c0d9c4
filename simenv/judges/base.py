"""The judge protocol: a judge reads an answer as the persona and decides which ads are clicked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

from simenv.deadlines import limited
from simenv.errors import InputError, PlugInFailed, SimenvError
from simenv.importing import reason
from simenv.records import Auction, Choice, Feedback, Outcome, Persona, Suggestion
from simenv.registry import Kind

T = TypeVar("T")


class Judge(Protocol):
    """Gives click feedback.

    Optional protocols: `HasVariants`, `ChoosesQuestion`, and from `simenv.abilities` `AsksModels` (lists its language
    models) and `Hashed` (a hash of the data that its verdicts depend on).
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


@runtime_checkable
class Remembers(Protocol):
    """A judge whose users may remember ads: `auction.shown` then changes its verdicts."""

    @property
    def remembers(self) -> bool:
        """Whether they do."""
        ...


@runtime_checkable
class ChoosesQuestion(Protocol):
    """A judge that also chooses among follow-up questions, for mechanisms with `simenv.mechanism.Suggests`."""

    async def choose(self, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
        """Which of these questions the persona would go on with after the auction's query, if any.

        One with an `ad_id` is labelled as sponsored. A user sees neither `price` nor `prob`.
        """
        ...


async def ask_choice(judge: Judge, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
    """Asks `judge` which question the persona chooses, and checks the reply.

    Raises:
        InputError: the judge cannot choose.
        PlugInFailed: its own code raised, it is late, or it returned no choice among these questions.
    """
    if not isinstance(judge, ChoosesQuestion):
        raise InputError(
            f"judge {judge.name!r} cannot choose among follow-up questions",
            hint="give it a method choose(persona, auction, questions) that returns a simenv.records.Choice",
        )

    def ask() -> Choice | Awaitable[Choice]:
        return judge.choose(persona, auction, questions)

    choice = await _asked(judge.name, auction, ask)
    if not isinstance(choice, Choice):
        raise PlugInFailed(f"judge {judge.name!r} returned {type(choice).__name__}, expected a Choice")
    n, probs = len(questions), choice.probs
    if choice.place is not None and choice.place >= n:
        raise PlugInFailed(f"judge {judge.name!r} chooses question {choice.place}, there are 0 to {n - 1}")
    if probs is not None and (len(probs) != n or min(probs) < 0 or sum(probs) > 1 + 1e-9):
        got = f"judge {judge.name!r} gives the questions the probabilities {list(probs)}"
        raise PlugInFailed(f"{got}: expected {n} numbers of at least 0 that sum to at most 1")
    return choice


async def run_judge(judge: Judge, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
    """`ask_judge`, and checks that the reply has one click per shown ad in the same order.

    Raises:
        PlugInFailed: as `ask_judge`, or other clicks.
    """
    feedback = await ask_judge(judge, persona, auction, outcome)
    shown = [placement.ad_id for placement in outcome.placements]
    clicks = [click.ad_id for click in feedback.clicks]
    if clicks != shown:
        got = f"judge {judge.name!r} gives clicks of {clicks} for an answer that shows {shown}"
        raise PlugInFailed(f"{got}: expected one click per ad shown, in the same order")
    return feedback


async def ask_judge(judge: Judge, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
    """Asks `judge` about one answer. `judge.judge` may be a plain `def` too.

    After a choice among follow-up questions, the judge sees the chosen one in place of the query.

    Raises:
        PlugInFailed: its own code raised, it took longer than `simenv.deadlines.time_limit` allows, or it returned
            something else than a Feedback.
    """

    def ask() -> Feedback | Awaitable[Feedback]:
        return judge.judge(persona, auction.answered(outcome), outcome)

    feedback = await _asked(judge.name, auction, ask)
    if not isinstance(feedback, Feedback):
        raise PlugInFailed(f"judge {judge.name!r} returned {type(feedback).__name__}, expected a Feedback")
    return feedback


async def _asked(name: str, auction: Auction, ask: Callable[[], T | Awaitable[T]]) -> T:
    try:
        return await limited(
            ask,
            late=lambda when: PlugInFailed(f"judge {name!r} gave no verdict on auction {auction.id} {when}"),
        )
    except SimenvError:
        raise
    except Exception as error:
        raise PlugInFailed(f"judge {name!r} raised {reason(error)} on auction {auction.id}") from error


JUDGE: Kind[Judge] = Kind("judge", "simenv.judges", ("judge",), "reads an answer as a persona and decides clicks")


def reader_fields(persona: Persona) -> dict[str, str]:
    """The fields of a judge's prompt that describe its reader: info, interests and attitude."""
    return {
        "info": persona.info,
        "interests": ", ".join(persona.interests) or "not stated",
        "attitude": persona.attitude or "not stated",
    }
