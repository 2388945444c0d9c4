"""What a mechanism is, and how one is built by name.

A mechanism turns an Auction into an Outcome. It is written for ONE auction, in straight lines; many auctions run at
once and the language model's backend batches the calls.
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

import numpy as np

from simenv import registry
from simenv.background_loop import ENDS_LOOP
from simenv.ctr.models import make_ctr_model
from simenv.deadlines import limited
from simenv.errors import InputError, MechanismFailed, OutcomeError, SimenvError
from simenv.importing import reason
from simenv.llm import make_llm
from simenv.llm.base import metered
from simenv.objective import Objective
from simenv.records import Auction, Outcome, Unit
from simenv.registry import Kind, Lazy, Spec
from simenv.seeding import keyed_rng

_ROUNDING = 1e-9
_COROUTINE = re.compile(r"<coroutine object [\w.<>]+ at 0x[0-9a-f]+>")


class Claim(StrEnum):
    """What a mechanism may claim of itself; `check_mechanism` tests these claims and no others.

    Every claim is about bids per click, and about clicks as the mechanism's OWN model (`ctr_model`) predicts them. Of a
    mechanism that takes bids per view (`TakesUnits`) it is about these too: their clicks are views, and their prices
    are per view. What happens in the world is measured by experiments, not claimed here. The first three claims hold ex
    post, for every realisation of the mechanism's randomness (its generator and its language model, keyed alike for all
    bids). The claims in expectation are about the exact distribution that `lottery_of` gives, over the mechanism's own
    draw, while the texts that it chooses among are fixed. A user's choice among follow-up questions (`Suggests`) counts
    as such a draw, with the probabilities that the mechanism predicts. Of a mechanism that commits to the bids of a
    session (`simenv.sessions.SessionMechanism`) the claims hold for the clicks and payments of the whole session: ex
    post whatever is asked, in expectation over what may be asked.
    """

    # The documentation has these as a table; a test compares it with the members.
    INDIVIDUALLY_RATIONAL = "individually_rational"
    """No shown ad's price per click exceeds its bid, and no transfer exceeds the predicted value."""
    MONOTONE = "monotone"
    """Raising one bid, all else equal, never lowers that ad's own predicted click probability."""
    TRUTHFUL_UM = "truthful_um"
    """Dominant-strategy incentive compatible (DSIC) for a utility maximiser: whatever the others bid and whatever is
    drawn, no bid gives more predicted utility (value x click - payment) than the value. Tested on a grid of bids,
    refined where most can be hidden."""
    RATIONAL_IN_EXPECTATION = "rational_in_expectation"
    """Individually rational in expectation: an advertiser that bids its value expects to pay at most its predicted
    value."""
    MONOTONE_IN_EXPECTATION = "monotone_in_expectation"
    """MONOTONE for the expected click probability: the ITCTR of LLM-Auction, eq. 1."""
    TRUTHFUL_UM_IN_EXPECTATION = "truthful_um_in_expectation"
    """Truthful in expectation: TRUTHFUL_UM for expected utility, with the expectation over the mechanism's own draw.
    The others' bids are arbitrary, so this is more than Bayesian incentive compatibility (BIC), and less than DSIC for
    every draw."""
    TRUTHFUL_VM = "truthful_vm"
    """Truthful in expectation for a value maximiser of value v and target ROI t (value per cost): the bid v / t meets
    its target, and no bid of a grid that meets it too gets more expected clicks (LLM-Auction, section 4)."""
    BID_FREE_CANDIDATES = "bid_free_candidates"
    """Bids choose among texts that are written without them: requests to the language model do not depend on bids."""


Lottery = list[tuple[float, Outcome]]
"""Outcomes with their probabilities."""


@runtime_checkable
class Mechanism(Protocol):
    """The interface. `run` may be a plain `def` or an `async def`.

    Optional abilities are protocols of their own: `Claiming` (claims about incentives), `Randomised` (the exact
    distribution of its outcomes), `ChoosesAd` (known propensities), `TakesUnits` (bids per view), `Suggests` (the user
    chooses a follow-up question), `simenv.abilities.Observer` (learning) and `simenv.ctr.models.PredictsClicks` (a CTR
    model of its own).
    """

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome | Awaitable[Outcome]:
        """Answers one auction.

        Args:
            auction: All that the mechanism may know.
            rng: The mechanism's own randomness, keyed by the auction: the same for the same auction at other bids.
        """
        ...


@runtime_checkable
class Claiming(Protocol):
    """A mechanism that makes claims; `check_mechanism` tests them."""

    claims: frozenset[Claim]


@runtime_checkable
class Randomised(Protocol):
    """A mechanism that knows the distribution of its outcomes."""

    def lottery(self, auction: Auction) -> Lottery | Awaitable[Lottery]:
        """The exact distribution of what `run` returns over the mechanism's own draw, the candidate texts held fixed.

        A price in it is the expected price given the outcome.
        """
        ...


@runtime_checkable
class ChoosesAd(Protocol):
    """A mechanism that shows at most one ad, with known probabilities: it can be valued from another one's log."""

    def choice_probs(self, auction: Auction) -> Mapping[str, float]:
        """Probability of each choice: ad id, or "" for no ad."""
        ...


@runtime_checkable
class Suggests(Protocol):
    """A mechanism that offers follow-up questions, of which the user chooses one or none.

    In a world, `offer` and `answer` are called in place of `run`, and the judge chooses in between
    (`simenv.choosing`). `run` is for callers without a user, such as `check_mechanism`: it draws the choice from the
    probabilities that the mechanism predicts, and `lottery` has all of them.
    """

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome | Awaitable[Outcome]:
        """As of any mechanism, with the choice drawn."""
        ...

    def offer(self, auction: Auction, rng: np.random.Generator) -> Outcome | Awaitable[Outcome]:
        """An outcome with `suggestions` and without a response. Without suggestions, the query is answered."""
        ...

    def answer(self, auction: Auction, offer: Outcome, chosen: int | None) -> Outcome | Awaitable[Outcome]:
        """The outcome after the user's choice, with the offer's `suggestions` and this `chosen`.

        Args:
            auction: The auction with the user's query; `auction.answered(outcome)` has the chosen question.
            offer: What `offer` returned.
            chosen: Place of the question in `offer.suggestions`. None: the user chose none of them.
        """
        ...


@runtime_checkable
class TakesUnits(Protocol):
    """A mechanism that says which bids it takes. Others take bids per click alone, and are not run on any other."""

    units: frozenset[Unit]


def units_of(mechanism: object) -> frozenset[Unit]:
    """What the bids that a mechanism takes are for: its `units`, or clicks alone. Its class will do as well."""
    return mechanism.units if isinstance(mechanism, TakesUnits) else frozenset({"click"})


def _refuse_units(mechanism: Mechanism, auction: Auction) -> None:
    """Raises InputError if the auction has bids of a unit that the mechanism does not take."""
    others = {bid.unit for bid in auction.bids} - units_of(mechanism)
    if others:
        ads = ", ".join(bid.ad.id for bid in auction.bids if bid.unit in others)
        raise InputError(
            f"{mechanism_name(mechanism)} takes bids per {' and per '.join(sorted(units_of(mechanism)))} only, and in "
            f"auction {auction.id} {ads} bid per {' and per '.join(sorted(others))}",
            hint='a mechanism that takes both has units = frozenset({"click", "view"})',
        )


def mechanism_name(mechanism: Mechanism) -> str:
    """How tables and logs call it: its `name`, else its class's name."""
    return str(getattr(mechanism, "name", type(mechanism).__name__))


def mechanism_rng(auction: Auction) -> np.random.Generator:
    """A fresh generator of a mechanism's own randomness on an auction."""
    return keyed_rng("mechanism", auction.id)


async def run_mechanism(mechanism: Mechanism, auction: Auction, rng: np.random.Generator | None = None) -> Outcome:
    """Runs `mechanism` on `auction`; the completions it used are added to the outcome's usage.

    Args:
        mechanism: The mechanism.
        auction: The auction.
        rng: Its randomness; None: the generator keyed by the auction, as in every run. Another one gives another draw.

    Raises:
        OutcomeError: it returned something else than an Outcome.
        MechanismFailed: its own code raised, or it took longer than `simenv.deadlines.time_limit` allows.
        InputError: the auction has bids per view, and the mechanism does not take them.
    """
    generator = mechanism_rng(auction) if rng is None else rng
    return await _run(mechanism, auction, lambda: mechanism.run(auction, generator))


async def offer_questions(mechanism: Suggests, auction: Auction) -> Outcome:
    """What `mechanism` offers the user, with the completions it used. Raises as `run_mechanism`."""
    return await _run(mechanism, auction, lambda: mechanism.offer(auction, mechanism_rng(auction)), "offer")


async def answer_choice(mechanism: Suggests, auction: Auction, offer: Outcome, chosen: int | None) -> Outcome:
    """The answer after the user's choice, with the completions of offer and answer. Raises as `run_mechanism`.

    Raises:
        OutcomeError: also if the answer has other suggestions than the offer, or another choice.
    """
    outcome = await _run(mechanism, auction, lambda: mechanism.answer(auction, offer, chosen), "answer")
    if (outcome.suggestions, outcome.chosen) != (offer.suggestions, chosen):
        raise OutcomeError(
            f"{mechanism_name(mechanism)}.answer must return the suggestions of its offer and chosen={chosen}, "
            f"got {len(outcome.suggestions)} suggestions and chosen={outcome.chosen}"
        )
    return outcome.model_copy(update={"usage": offer.usage + outcome.usage})


async def _run(
    mechanism: Mechanism, auction: Auction, job: Callable[[], Outcome | Awaitable[Outcome]], method: str = "run"
) -> Outcome:
    _refuse_units(mechanism, auction)
    with metered() as meter:
        try:
            outcome = await limited(
                job,
                late=lambda when: MechanismFailed(
                    f"{mechanism_name(mechanism)} gave no answer to auction {auction.id} {when}"
                ),
            )
        except SimenvError:
            raise
        except (Exception, *ENDS_LOOP) as error:
            raise MechanismFailed(
                f"{mechanism_name(mechanism)} raised {reason(error)} on auction {auction.id}"
            ) from error
    if not isinstance(outcome, Outcome):
        raise OutcomeError(
            f"{mechanism_name(mechanism)}.{method} returned {type(outcome).__name__}, expected an Outcome"
        )
    if _COROUTINE.search(outcome.response):
        got = f"{mechanism_name(mechanism)} answers auction {auction.id} with {outcome.response!r:.120}"
        raise OutcomeError(f"{got}: a coroutine is not awaited; write `await` before the call that makes it")
    return outcome.model_copy(update={"usage": outcome.usage + meter.usage}) if meter.requests else outcome


async def lottery_of(mechanism: Mechanism, auction: Auction) -> Lottery:
    """What `mechanism` does on `auction`, over its own draw: its `lottery`, or its run with probability 1.

    The latter is exact for a mechanism that does not draw, or draws only the texts it then chooses among: these are
    held fixed here by their keys. Of one that draws and has no `lottery` it is a single draw.

    Raises:
        OutcomeError: it returned something else than outcomes with probabilities that sum to 1.
        MechanismFailed: its own code raised, or it took longer than `simenv.deadlines.time_limit` allows.
        InputError: the mechanism does not know its distribution under the options it was built with, or does not take
            bids per view, which the auction has.
    """
    if not isinstance(mechanism, Randomised):
        return [(1.0, await run_mechanism(mechanism, auction))]
    _refuse_units(mechanism, auction)
    name = mechanism_name(mechanism)
    try:
        rows = await limited(
            lambda: mechanism.lottery(auction),
            late=lambda when: MechanismFailed(f"{name}.lottery gave no result for auction {auction.id} {when}"),
        )
        lottery = [(float(prob), outcome) for prob, outcome in rows]
    except SimenvError:
        raise
    except Exception as error:
        raise MechanismFailed(f"{name}.lottery raised {reason(error)} on auction {auction.id}") from error
    for _, outcome in lottery:
        if not isinstance(outcome, Outcome):
            raise OutcomeError(f"{name}.lottery returned {type(outcome).__name__}, expected Outcomes")
    probs = [prob for prob, _ in lottery]
    if not all(0 <= prob <= 1 + _ROUNDING for prob in probs) or abs(math.fsum(probs) - 1) > _ROUNDING:
        raise OutcomeError(f"the probabilities of {name}.lottery must sum to 1, got {probs}")
    return lottery


MECHANISM: Kind[Mechanism] = Kind(
    "mechanism",
    "simenv.mechanisms",
    ("run",),
    "answers an auction with a text that contains ads, and sets their prices",
)
MechanismSpec = Spec[Mechanism]
"""A mechanism that was found and whose options were checked, but that is not built yet."""


def find_mechanism(name: str, options: Mapping[str, Any] | None = None) -> MechanismSpec:
    """Everything of `make_mechanism` that needs no language model: a wrong name fails before one is loaded.

    Raises:
        UnknownName: no such mechanism; the message lists the nearest.
        InputError: the module or class cannot be loaded, or the constructor does not have an option.
    """
    return registry.find(MECHANISM, name, options)


def make_mechanism(name: str, *, context: Mapping[str, Any] | None = None, **options: Any) -> Mechanism:
    """Builds a mechanism by name.

    Args:
        name: A registered name ("gsp"), "package.module:Class", or "path/to/file.py:Class".
        context: Parts of the run: llm (the embedded model by default), ctr_model (cosine by default), objective. Each
            is passed if the constructor has a parameter of that name.
        options: The constructor's own options.

    Raises:
        UnknownName: no such mechanism; the message lists the nearest.
        InputError: the module or class cannot be loaded, the constructor does not have an option, or it raised.
        MissingWeights: the mechanism needs the embedded model, and that is not installed.
    """
    defaults = {"llm": Lazy(make_llm), "ctr_model": Lazy(make_ctr_model), "objective": Objective()}
    return find_mechanism(name, options).build({**defaults, **(context or {})})


def mechanism_names() -> list[str]:
    """All registered names."""
    return registry.names(MECHANISM)
