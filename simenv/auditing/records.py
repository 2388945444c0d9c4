"""Options and report of an audit. The file audit.json holds an `Audit`.

Regrets and collusion gains are shares of the value of the truthful clicks of the advertisers whose bids are varied.
Only some bids are tried, so the best bid may gain more. Estimates are {"value", "low", "high"}: 95% intervals
clustered by persona, null where undefined (no value: none of these advertisers was shown).

"own" means clicks as the mechanism's CTR model predicts them, "world" clicks of the judge. UM: utility maximisers, VM:
value maximisers.

Files of format 1 can still be read. They have no `shares`, because the grid was a constant.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from simenv.errors import InputError
from simenv.records import Record
from simenv.stats import Estimate, Number


class AuditOptions(Record):
    """Size of an audit. Cost grows with n x advertisers x (bids + curve_bids), times replicas if sampled."""

    n: int = 20
    """Number of auctions."""
    seed: int = 0
    """Seed of the auctions, values and draws."""
    bids: int = 12
    """Number of bids around the value that are tried for regret, in addition to the bids of the curve."""
    curve_bids: int = 21
    """Number of bids of an allocation curve, evenly spaced from 0 to 100."""
    advertisers: int = 4
    """Number of advertisers per auction whose bid is varied, drawn at random from the candidates."""
    replicas: int = 16
    """Number of replicas of each auction, for mechanisms that are sampled."""
    target_roi: float = 1.0
    """Target ROI of value maximisers."""
    collusion: int = 20
    """Number of auctions (at most n) in which two advertisers collude."""
    wrong_ctr: int = 10
    """Number of auctions (at most n) that are run with distorted click predictions."""
    play: int = 4
    """Number of auctions (at most n) that are repeated while bidders learn."""
    rounds: int = 8
    """Number of updates of each learning bidder."""
    play_seeds: int = 3
    """Number of repetitions of learned play, each with its own draws."""
    max_calls: int | None = None
    """Maximum number of completions; None: no limit."""


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
    """Result of play: means per answer over the second half of the rounds."""

    revenue: Estimate
    """Currency."""
    welfare: Estimate
    """Currency."""
    efficiency: Estimate
    """Welfare / the highest welfare of any answer in the audit."""
    bid_share: Estimate
    """Mean bid divided by value."""
    spent: Estimate
    """Payments divided by budgets; null without budgets."""
    strategy: tuple[float, ...] = ()
    """Mean probability of each of the audit's `shares`, over the advertisers that are shown at some share. Empty in the
    oldest files."""


class Distorted(Record):
    """Results at truthful bids with distorted click predictions."""

    revenue: Estimate
    """Currency per answer."""
    welfare: Estimate
    """Currency per answer."""
    regret_um_world: Estimate
    """As in `Audited`."""


class Verdict(Record):
    """Whether a claim held in the audit, in the mechanism's own model of clicks."""

    model_config = ConfigDict(allow_inf_nan=True)

    verdict: Literal["passed", "failed", "not measured"]
    """"failed": the audit found a violation. "passed": it found none, and `power` says what it would have found."""
    measured: Number = math.nan
    """The violation: the regret as a share of the value of truthful clicks, or the share of advertisers or steps."""
    power: Number = math.nan
    """The smallest value of `measured` that would have been seen; null: unknown."""
    why: str
    """The same in words."""


class Audited(Record):
    """Results for one mechanism."""

    claims: tuple[str, ...]
    """The mechanism's claims."""
    verdicts: dict[str, Verdict] = Field(default_factory=dict)
    """Claim -> whether it held. "lottery": whether `run` draws from the mechanism's lottery. Older files have none."""
    measured: str
    """"exact" or "sampled": see `simenv.auditing.evaluate`."""
    replicas: int
    """Number of replicas of each auction; 0 if exact."""
    own_ctr_model: bool
    """Whether the mechanism has its own CTR model. If False, "own" uses the run's CTR model."""
    sweeps: int
    """Number of sweeps: advertisers whose bid was varied, over all auctions."""
    regret_um_own: Estimate
    """Gain of a utility maximiser from its best bid over bidding its value, in the mechanism's own model."""
    regret_um_world: Estimate
    """The same in the world."""
    regret_vm_own: Estimate
    """The same for a value maximiser that bids value / target_roi, in the mechanism's own model."""
    regret_vm_world: Estimate
    """The same in the world."""
    largest_regret_um_own: float
    """Largest UM regret of one sweep, in currency per answer."""
    roi_violations: Estimate
    """Share of truthful value maximisers that miss their target in the world."""
    ir_violations: Estimate
    """Share of the truthful advertisers that are shown or charged that lose in expectation, in the own model."""
    ir_violations_world: Estimate
    """The same in the world."""
    ir_violations_ex_post: Estimate
    """Share of them that some possible outcome charges more than the predicted value."""
    monotonicity_violations: Estimate
    """Share of steps between neighbouring bids of the curve at which the advertiser's own clicks fall."""
    monotonicity_violations_world: Estimate
    """The same in the world."""
    largest_fall: float
    """Largest fall of an own curve between two neighbouring bids, in clicks per answer. This one and all below that
    are of curves leave out advertisers who bid per view."""
    largest_fall_world: float
    """The same in the world."""
    largest_jump: float
    """Largest rise of an own curve between two neighbouring bids, in clicks per answer."""
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
    """Revenue of truthful bids in the world, currency per answer."""
    welfare: Estimate
    """Welfare of truthful bids in the world, currency per answer."""
    efficiency: Estimate
    """Welfare / the highest welfare of any answer to the same auction, over all mechanisms and bids of the audit."""
    collusion_own: Estimate
    """Joint gain of the two advertisers with the largest predicted value if they shade jointly, in the own model."""
    collusion_world: Estimate
    """The same in the world."""
    play: dict[str, Reach]
    """Kind of play (truthful: the same auctions without learning; learned; budgets) -> result."""
    wrong_ctr: dict[str, Distorted]
    """Kind of distortion (as_is, noise, flat, flipped) -> result; {} if the mechanism predicts no clicks."""
    llm_calls: int
    """Completions for this mechanism. One that several mechanisms need counts for the first of them."""


_SHARES_OF_FORMAT_1 = (0.2, 0.4, 0.6, 0.8, 1.0)


class Audit(Record):
    """The report of an audit."""

    format: Literal[2] = 2
    """Version of the file format."""
    options: AuditOptions
    """Options of the audit."""
    ad_llm: str = ""
    """Name of the model that wrote the answers."""
    judge: str
    """Name of the judge."""
    ctr_model: str
    """Name of the run's CTR model."""
    auctions: int
    """Number of auctions with finished sweeps; of sessions, where turns are linked."""
    turns: int | None = Field(default=None, exclude_if=lambda turns: turns is None)
    """Turns of each session, where turns are linked: figures per answer are then per session. None, and left out: each
    auction is one answer."""
    cut_short: tuple[str, ...]
    """Parts that the call limit stopped early, each with the number of auctions finished. Empty: all are complete."""
    estimated_calls: int
    """Estimated completions for the sweeps of all auctions, extrapolated from the first auction."""
    llm_calls: int
    """Total number of completions, including those of the judge and the query writer."""
    curve_bids: tuple[float, ...]
    """Bids of the allocation curves."""
    shares: tuple[float, ...]
    """Grid of the strategies: the shares of the value that advertisers may bid in learned play."""
    mechanisms: dict[str, Audited]
    """Label -> results."""

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, fields: Any) -> Any:
        if isinstance(fields, dict) and fields.get("format") == 1:
            return {"shares": _SHARES_OF_FORMAT_1, **fields, "format": 2}
        return fields

    @model_validator(mode="after")
    def _over_the_grid(self) -> Audit:
        for label, audited in self.mechanisms.items():
            for kind, reach in audited.play.items():
                if reach.strategy and len(reach.strategy) != len(self.shares):
                    raise ValueError(
                        f"{label}, {kind} play: a strategy of {len(reach.strategy)} probabilities over "
                        f"{len(self.shares)} shares"
                    )
        return self
