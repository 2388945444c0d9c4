"""What an audit is asked and what it says: audit.json is an `Audit`.

key                        what it holds
format                     of this file: 2
options                    what was asked: see `AuditOptions`
ad_llm, judge, ctr_model   their names
auctions                   whose sweeps are finished
cut_short                  which parts --max-calls ended early, each with how far it came; empty: all is there
estimated_calls            what the sweeps of all auctions come to, judged by the first
llm_calls                  completions that were made in all, the judge's and query writer's too
curve_bids                 the bids of every curve
shares                     of the value: what may be bid in learned play, the grid of every strategy
mechanisms                 label -> the keys below

claims                     what the mechanism claims of itself
measured                   exact or sampled: see `simenv.auditing.evaluate`
replicas                   of each auction, if sampled; else 0
own_ctr_model              whether "own" is the mechanism's own model of clicks; false: it has none, and it is the run's
sweeps                     advertisers whose bids were swept
regret_um_own              what the best other bid brings a utility maximiser more than its value, in the mechanism's
regret_um_world            own model of clicks and in the world
regret_vm_own              the same for a value maximiser that bids value / target_roi
regret_vm_world
largest_regret_um_own      of any one sweep, in currency per answer
roi_violations             share of truthful value maximisers that miss their target in the world
ir_violations              share of truthful advertisers that are shown or charged who lose in expectation, own model
ir_violations_world        the same in the world
ir_violations_ex_post      share that may be charged more than its predicted value by some outcome
monotonicity_violations    share of steps from one bid of the curve to the next at which own clicks fall
monotonicity_violations_world
largest_fall, largest_jump of any own curve between two neighbouring bids, in clicks per answer
largest_fall_world, largest_jump_world
slope, slope_world         mean rise of the curve per unit of currency
curve, curve_world         mean clicks at each of curve_bids
revenue, welfare           of truthful bids in the world, currency per answer
efficiency                 welfare / the most welfare of any answer to the same auction that the audit saw, of any
                           mechanism at any bids
collusion_own              what the two with the largest predicted worth gain by shading jointly
collusion_world
play                       truthful (the same auctions without learning), learned, budgets -> revenue, welfare,
                           efficiency, bid_share, spent; strategy: the mean probability of each of `shares`, over
                           advertisers who are shown at one of them at least
wrong_ctr                  as_is, noise, flat, flipped -> revenue, welfare, regret_um_world; {} without predictions
llm_calls                  made for this mechanism; a completion that several need is the first one's

Regrets and collusion are shares of the value of the truthful clicks of those whose bids are moved. The best of the bids
that are tried may fall short of the best there is. Estimates are {"value", "low", "high"}, 95% intervals clustered by
persona, null where they cannot be told (no value: none of these was shown).

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
    max_calls: int | None = None
    """Most completions."""


def check_options(options: AuditOptions) -> None:
    """Raises InputError for numbers out of range."""
    least = {"n": 1, "advertisers": 1, "bids": 3, "curve_bids": 2, "replicas": 2, "rounds": 2, "play_seeds": 1}
    least |= {"collusion": 0, "wrong_ctr": 0, "play": 0, "max_calls": 0}
    for name, smallest in least.items():
        number = getattr(options, name)
        if number is not None and number < smallest:
            raise InputError(f"--{name.replace('_', '-')} must be at least {smallest}, got {number}")
    if not 1 <= options.target_roi < math.inf:
        raise InputError(f"--target-roi must be at least 1 and finite, got {options.target_roi}")


class Reach(Record):
    """What play comes to in its second half, per answer."""

    revenue: Estimate
    welfare: Estimate
    efficiency: Estimate
    bid_share: Estimate
    """Mean bid divided by value."""
    spent: Estimate
    """Payments divided by budgets; null without budgets."""
    strategy: tuple[float, ...] = ()
    """Mean probability of each of the audit's `shares`; empty in the oldest files."""


class Distorted(Record):
    """What wrong predictions come to at truthful bids."""

    revenue: Estimate
    welfare: Estimate
    regret_um_world: Estimate


class Audited(Record):
    """One mechanism. Keys: see the module."""

    claims: tuple[str, ...]
    measured: str
    replicas: int
    own_ctr_model: bool
    sweeps: int
    regret_um_own: Estimate
    regret_um_world: Estimate
    regret_vm_own: Estimate
    regret_vm_world: Estimate
    largest_regret_um_own: float
    roi_violations: Estimate
    ir_violations: Estimate
    ir_violations_world: Estimate
    ir_violations_ex_post: Estimate
    monotonicity_violations: Estimate
    monotonicity_violations_world: Estimate
    largest_fall: float
    largest_fall_world: float
    largest_jump: float
    largest_jump_world: float
    slope: Estimate
    slope_world: Estimate
    curve: tuple[float, ...]
    curve_world: tuple[float, ...]
    revenue: Estimate
    welfare: Estimate
    efficiency: Estimate
    collusion_own: Estimate
    collusion_world: Estimate
    play: dict[str, Reach]
    wrong_ctr: dict[str, Distorted]
    llm_calls: int


_SHARES_OF_FORMAT_1 = (0.2, 0.4, 0.6, 0.8, 1.0)


class Audit(Record):
    """The report. Keys: see the module."""

    format: Literal[2] = 2
    options: AuditOptions
    ad_llm: str = ""
    judge: str
    ctr_model: str
    auctions: int
    cut_short: tuple[str, ...]
    estimated_calls: int
    llm_calls: int
    curve_bids: tuple[float, ...]
    shares: tuple[float, ...]
    mechanisms: dict[str, Audited]

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
