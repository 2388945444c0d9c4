"""Runs the conformance suite: `check_mechanism`."""

from __future__ import annotations

from simenv.check.cases import degenerate_auctions, random_auction, with_views
from simenv.check.conduct import Conduct
from simenv.check.draws import FALSE_ALARM, LotteryTest, answer_of, draw_rngs, has_drawn
from simenv.check.expected import expectation
from simenv.check.runner import ABOUT_BIDS, EXPECTED, Runner, slack
from simenv.check.session_cases import sessions_of
from simenv.check.sweep import BidSweep
from simenv.errors import ClaimViolated
from simenv.mechanism import Claim, Lottery, Mechanism, mechanism_rng, units_of
from simenv.records import Auction, Outcome, Record
from simenv.sessions import SessionMechanism


class CheckReport(Record):
    """Summary of a passed check."""

    mechanism: str
    claims: tuple[str, ...]
    auctions: int
    """Auctions answered, counterfactual bids not counted."""
    sessions: int = 0
    """Sessions played in every order of their questions; 0 if it is no session mechanism."""
    runs: int
    """Times the mechanism was run."""
    draws: int = 0
    """How many of these runs were draws that were tested against the lottery. The test fails a mechanism that follows
    its lottery with a probability of at most `simenv.check.FALSE_ALARM`, over fresh draws."""
    warnings: tuple[str, ...] = ()
    """What no claim of the mechanism forbids, but its author should know."""

    @property
    def summary(self) -> str:
        """One line."""
        draws = f", {self.draws} draws follow its lottery (false alarm {FALSE_ALARM:g})" if self.draws else ""
        claims = ", ".join(self.claims) or "no claims"
        sessions = f" and {self.sessions} sessions" if self.sessions else ""
        return f"passed on {self.auctions} auctions{sessions} in {self.runs} runs{draws} ({claims})"


def check_mechanism(mechanism: Mechanism, *, auctions: int = 20, seed: int = 0) -> CheckReport:
    """Checks that `mechanism` follows the interface and satisfies its claims.

    The result is deterministic for a given seed, because draws are keyed.

    Args:
        mechanism: The mechanism. If it makes claims about bids, it needs a `ctr_model` with the predictions it uses.
        auctions: Number of random auctions, in addition to the degenerate ones. A mechanism that takes bids per view
            gets each of them once more, with about half of the bids per view. A session mechanism answers each as a
            session of one turn, and a quarter as many random sessions of two or three turns.
        seed: Seed of the random auctions.

    Raises:
        ClaimViolated: a rule or a claim is broken; the message names the first one and its auction.
    """
    suite = _Suite(mechanism)
    cases = [*degenerate_auctions(), *(random_auction(seed, i) for i in range(auctions))]
    if "view" in units_of(mechanism):
        cases += [(f"{name} with bids per view", with_views(auction)) for name, auction in cases]
    for name, auction in cases:
        suite.check(name, auction)
    suite.finish(cases)
    sessions = sessions_of(suite.runner, auctions, seed) if isinstance(mechanism, SessionMechanism) else 0
    return CheckReport(
        mechanism=suite.runner.name,
        claims=tuple(sorted(suite.runner.claims)),
        auctions=len(cases),
        sessions=sessions,
        runs=suite.runner.runs,
        draws=suite.lottery_test.draws,
        warnings=tuple(suite.conduct.warnings()),
    )


class _Suite:
    def __init__(self, mechanism: Mechanism) -> None:
        self.runner = Runner(mechanism)
        self.lottery_test = LotteryTest()
        self.conduct = Conduct()
        self._outcomes: dict[str, Outcome] = {}

    def check(self, case: str, auction: Auction) -> None:
        """Checks one auction."""
        runner = self.runner
        outcome, requests = runner.run(case, auction)
        rng = mechanism_rng(auction)
        if runner.run(case, auction, rng)[0] != outcome:
            runner.fail(case, "deterministic: a second run with the same auction and generator gave another outcome")
        self._outcomes[case] = outcome
        drew = has_drawn(rng, auction)
        self._check_charges(case, auction, outcome)
        lottery = runner.lottery(case, auction)
        if lottery is not None:
            if not any(prob > 0 and answer_of(outcome) == answer_of(other) for prob, other in lottery):
                runner.fail(case, "consistent with its lottery: it returned an outcome that is not in the lottery")
            self._draw(case, auction, lottery, drew)
        elif drew and runner.claimed(EXPECTED):
            raise ClaimViolated(
                f"{runner.name} on {case} draws from its generator and has no lottery, so its claim "
                f"{runner.claimed(EXPECTED)[0]} cannot be checked",
                hint="give it a method lottery(auction) with the exact distribution of its outcomes",
            )
        probed = _probed(auction, outcome) if runner.claimed(ABOUT_BIDS) else []
        sweeps = [
            BidSweep(runner, case, auction, ad_id, (outcome, requests), lottery or [(1.0, outcome)]) for ad_id in probed
        ]
        for sweep in sweeps:
            sweep.check()
        if sweeps:
            max(sweeps, key=lambda sweep: sweep.gap()).refine()

    def finish(self, cases: list[tuple[str, Auction]]) -> None:
        """Checks what only all auctions together show."""
        fault = self.lottery_test.fault()
        if fault is not None:
            raise ClaimViolated(f"{self.runner.name} is not consistent with its lottery: {fault}")
        for case, auction in cases:
            if self.runner.run(case, auction)[0] != self._outcomes[case]:
                self.runner.fail(case, "deterministic: after other auctions it gave another outcome than before them")

    def _check_charges(self, case: str, auction: Auction, outcome: Outcome) -> None:
        over = self.conduct.add(auction, outcome)
        if Claim.INDIVIDUALLY_RATIONAL not in self.runner.claims:
            return
        if over:
            self.runner.fail(case, f"{Claim.INDIVIDUALLY_RATIONAL}: it {' and '.join(over)}")
        for ad_id in outcome.transfers:
            charged = expectation([(1.0, outcome)], self.runner.predictions, auction, ad_id)
            if charged.utility(auction.bid_of(ad_id).amount) < -slack(auction):
                self.runner.fail(case, f"{Claim.INDIVIDUALLY_RATIONAL}: {ad_id} is charged beyond its predicted value")

    def _draw(self, case: str, auction: Auction, lottery: Lottery, drew: bool) -> None:
        """Adds draws on this auction to the test of the lottery."""
        rngs = draw_rngs(auction, drew)
        self.lottery_test.add(auction, lottery, [self.runner.run(case, auction, rng)[0] for rng in rngs])


def _probed(auction: Auction, outcome: Outcome) -> list[str]:
    """Ids of the ads whose bids are varied: all shown ads, and the first two that are not shown."""
    shown = [placement.ad_id for placement in outcome.placements]
    return shown + [bid.ad.id for bid in auction.bids if bid.ad.id not in shown][:2]
