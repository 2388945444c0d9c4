"""The judge protocol: a judge reads an answer as the persona and decides which ads are clicked."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Protocol, runtime_checkable

from simenv.deadlines import limited
from simenv.errors import PlugInFailed, SimenvError
from simenv.importing import reason
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


@runtime_checkable
class Remembers(Protocol):
    """A judge whose users may remember ads: `auction.shown` then changes its verdicts."""

    @property
    def remembers(self) -> bool:
        """Whether they do."""
        ...


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

    Raises:
        PlugInFailed: its own code raised, it took longer than `simenv.deadlines.time_limit` allows, or it returned
            something else than a Feedback.
    """

    def ask() -> Feedback | Awaitable[Feedback]:
        return judge.judge(persona, auction, outcome)

    try:
        feedback = await limited(
            ask,
            late=lambda when: PlugInFailed(f"judge {judge.name!r} gave no verdict on auction {auction.id} {when}"),
        )
    except SimenvError:
        raise
    except Exception as error:
        raise PlugInFailed(f"judge {judge.name!r} raised {reason(error)} on auction {auction.id}") from error
    if not isinstance(feedback, Feedback):
        raise PlugInFailed(f"judge {judge.name!r} returned {type(feedback).__name__}, expected a Feedback")
    return feedback


JUDGE: Kind[Judge] = Kind("judge", "simenv.judges", ("judge",), "reads an answer as a persona and decides clicks")
