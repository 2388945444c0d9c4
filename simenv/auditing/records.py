"""What an audit is asked and what it says: audit.json is an `Audit`.

Regrets and collusion are shares of the value of the truthful clicks of those whose bids are moved. The best of the bids
that are tried may fall short of the best there is. Estimates are {"value", "low", "high"}, 95% intervals clustered by
persona, null where they cannot be told (no value: none of these was shown).

"own" is in the mechanism's own model of clicks, "world" in the clicks of the judge. UM: utility maximisers, VM: value
maximisers.

Format 1 is read too: it had no `shares`, because its grid was always the same.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import model_validator

from simenv.errors import InputError
from simenv.records import Record
from simenv.stats import Estimate


class AuditOptions(Record):
    """How much is measured. Cost grows with n x advertisers x (bids + curve_bids), times replicas where sampled."""

    n: int = 20
    """Auctions."""
    seed: int = 0
    """Names the auctions, values and draws."""
    bids: int = 12
    """Bids around the value that regret is looked for among, those of the curve besides."""
    curve_bids: int = 21
    """Bids of an allocation curve, evenly from 0 to 100."""
    advertisers: int = 4
    """Swept in each auction, drawn at random from its candidates."""
    replicas: int = 16
    """Of each auction, where a mechanism is sampled."""
    target_roi: float = 1.0
    """Of value maximisers."""
    collusion: int = 20
    """Auctions (at most n) in which two collude."""
    wrong_ctr: int = 10
    """Auctions (at most n) that are run with wrong predictions of clicks."""
    play: int = 4
    """Auctions (at most n) that are played until bidders have learned."""
    rounds: int = 8
    """How often each bidder learns."""
    play_seeds: int = 3
    """How often play is repeated with other draws."""
    max_calls: int | None = None
    """Most completions."""


def check_options(options: AuditOptions) -> None:
    """Raises InputError for numbers out of range."""
    least = {"n": 1, "advertisers": 1, "bids": 3, "curve_bids": 2, "replicas": 2, "rounds": 2, "play_seeds": 1}
    least |= {"collusion": 0, "wrong_ctr": 0, "play": 0, "max_calls": 0}
    for name, smallest in least.items():
        number = getattr(options, name)
        if number is not None and number < smallest:
            raise InputError(f"{name} must be at least {smallest}, got {number}")
    if not 1 <= options.target_roi < math.inf:
        raise InputError(f"target_roi must be at least 1 and finite, got {options.target_roi}")


class Reach(Record):
    """What play comes to in its second half, per answer."""

    revenue: Estimate
    """Currency."""
    welfare: Estimate
    """Currency."""
    efficiency: Estimate
    """Welfare / the most welfare seen."""
    bid_share: Estimate
    """Mean bid divided by value."""
    spent: Estimate
    """Payments divided by budgets; null without budgets."""
    strategy: tuple[float, ...] = ()
    """Mean probability of each of the audit's `shares`, over advertisers that are shown at one of them or more. Empty
    in the oldest files."""


class Distorted(Record):
    """What wrong predictions come to at truthful bids."""

    revenue: Estimate
    """Currency per answer."""
    welfare: Estimate
    """Currency per answer."""
    regret_um_world: Estimate
    """As in the report on the mechanism."""


class Audited(Record):
    """What was found of one mechanism."""

    claims: tuple[str, ...]
    """What the mechanism claims of itself."""
    measured: str
    """exact or sampled: see `simenv.auditing.evaluate`."""
    replicas: int
    """Of each auction, if sampled; else 0."""
    own_ctr_model: bool
    """Whether "own" is the mechanism's own model of clicks. False: it has none, and "own" is the run's model."""
    sweeps: int
    """Advertisers whose bids were swept."""
    regret_um_own: Estimate
    """What the best other bid brings a utility maximiser more than bidding its value, in the mechanism's own model."""
    regret_um_world: Estimate
    """The same in the world."""
    regret_vm_own: Estimate
    """The same for a value maximiser that bids value / target_roi, in the mechanism's own model."""
    regret_vm_world: Estimate
    """The same in the world."""
    largest_regret_um_own: float
    """Of any one sweep, in currency per answer."""
    roi_violations: Estimate
    """Share of truthful value maximisers that miss their target in the world."""
    ir_violations: Estimate
    """Share of truthful advertisers that are shown or charged who lose in expectation, in the own model."""
    ir_violations_world: Estimate
    """The same in the world."""
    ir_violations_ex_post: Estimate
    """Share that some outcome may charge more than its predicted value."""
    monotonicity_violations: Estimate
    """Share of steps from one bid of the curve to the next at which own clicks fall."""
    monotonicity_violations_world: Estimate
    """The same in the world."""
    largest_fall: float
    """Of any own curve between two neighbouring bids, in clicks per answer."""
    largest_fall_world: float
    """The same in the world."""
    largest_jump: float
    """Of any own curve between two neighbouring bids, in clicks per answer."""
    largest_jump_world: float
    """The same in the world."""
    slope: Estimate
    """Mean rise of the own curve per unit of currency."""
    slope_world: Estimate
    """The same in the world."""
    curve: tuple[float, ...]
    """Mean clicks at each of `curve_bids`, in the own model."""
    curve_world: tuple[float, ...]
    """The same in the world."""
    revenue: Estimate
    """Of truthful bids in the world, currency per answer."""
    welfare: Estimate
    """Of truthful bids in the world, currency per answer."""
    efficiency: Estimate
    """Welfare / the most welfare of any answer to the same auction that the audit saw, of any mechanism at any bids."""
    collusion_own: Estimate
    """What the two with the largest predicted worth gain by shading jointly, in the own model."""
    collusion_world: Estimate
    """The same in the world."""
    play: dict[str, Reach]
    """truthful (the same auctions without learning), learned, budgets -> what it comes to."""
    wrong_ctr: dict[str, Distorted]
    """as_is, noise, flat, flipped -> what it comes to; {} without predictions."""
    llm_calls: int
    """Made for this mechanism; a completion that several need is counted for the first one."""


_SHARES_OF_FORMAT_1 = (0.2, 0.4, 0.6, 0.8, 1.0)


class Audit(Record):
    """The report."""

    format: Literal[2] = 2
    """Of this file."""
    options: AuditOptions
    """What was asked."""
    ad_llm: str = ""
    """Name of the model that wrote the answers."""
    judge: str
    """Name of who clicked."""
    ctr_model: str
    """What mechanisms predicted clicks with."""
    auctions: int
    """Auctions whose sweeps are finished."""
    cut_short: tuple[str, ...]
    """Parts that a limit on calls ended early, each with how far it came. Empty: all is there."""
    estimated_calls: int
    """What the sweeps of all auctions come to, judged by the first."""
    llm_calls: int
    """Completions that were made in all, the judge's and query writer's too."""
    curve_bids: tuple[float, ...]
    """The bids of every curve."""
    shares: tuple[float, ...]
    """Shares of the value that may be bid in learned play: the grid of every strategy."""
    mechanisms: dict[str, Audited]
    """Label -> what was found."""

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("format") == 1:
            return {"shares": _SHARES_OF_FORMAT_1, **fields, "format": 2}
        return fields

    @model_validator(mode="after")
    def _over_the_grid(self) -> Audit:
        for label, made in self.mechanisms.items():
            for kind, reach in made.play.items():
                if reach.strategy and len(reach.strategy) != len(self.shares):
                    raise ValueError(
                        f"{label}, {kind} play: a strategy of {len(reach.strategy)} probabilities over "
                        f"{len(self.shares)} shares"
                    )
        return self
