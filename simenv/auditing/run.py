"""Runs an audit: `audit(world, mechanisms, options)` returns an `Audit`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import numpy as np

from simenv.auditing import session_case
from simenv.auditing.calls import Calls, CallsSpent
from simenv.auditing.distort import DISTORTIONS, DistortedCTR
from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidEvaluator, is_exact
from simenv.auditing.figures import Draws, Measured, Swept, audited
from simenv.auditing.play import SHARES, TRUTHFUL, Colluded, Reached, collusion, learned, totals
from simenv.auditing.records import Audit, AuditOptions, check_options
from simenv.auditing.sweep import sampled_advertisers, sweep
from simenv.background_loop import gather
from simenv.check.draws import draw_rngs, has_drawn
from simenv.ctr.models import CosineCTR, CTRModel, own_ctr_model
from simenv.deadlines import time_limit
from simenv.errors import InputError
from simenv.llm.base import metered
from simenv.market.bidders import ShadedBidder
from simenv.market.values import HIGHEST
from simenv.mechanism import Mechanism, Randomised, lottery_of, mechanism_rng, run_mechanism
from simenv.world import World

T = TypeVar("T")


async def audit(
    world: World,
    mechanisms: Mapping[str, Mechanism],
    options: AuditOptions | None = None,
    *,
    ctr_model: CTRModel | None = None,
    rebuild: Callable[[str, CTRModel], Mechanism] | None = None,
    ad_llm: str = "",
    watch: Callable[[str, int, int], None] = lambda *progress: None,
    say: Callable[[str], None] = lambda text: None,
) -> Audit:
    """Audits mechanisms on the same auctions of a world. Where turns are linked, an "auction" is a whole session: an
    advertiser's bid is varied in all of it, and clicks and payments are sums over its turns.

    Args:
        world: Personas, market and judge. All advertisers bid their value, except those whose bid the audit varies.
        mechanisms: Label -> mechanism.
        options: The size of the audit.
        ctr_model: "Own" predictions of mechanisms without a CTR model; cosine by default.
        rebuild: Builds the mechanism of a label with another CTR model; None: distorted predictions are not tested.
        ad_llm: Name of the model, for the report.
        watch: Called with (part, auctions done, auctions planned).
        say: Called with an estimate of the calls, after the first auction.

    Raises:
        InputError: options out of range, or too few calls for the first auction.
        SimenvError: whatever a mechanism, a model or the judge raised.
    """
    options = options or AuditOptions()
    check_options(options)
    session_case.check_turns(world)
    with metered(Calls(options.max_calls)) as meter, time_limit(world.answer_timeout):
        assert isinstance(meter, Calls)
        runner = _Runner(world, mechanisms, options, ctr_model or CosineCTR(), rebuild, meter, watch, say)
        await runner.run()
    return runner.report(ad_llm)


class _Runner:
    """Runs the parts in priority order; a call limit drops later ones."""

    def __init__(
        self,
        world: World,
        mechanisms: Mapping[str, Mechanism],
        options: AuditOptions,
        ctr_model: CTRModel,
        rebuild: Callable[[str, CTRModel], Mechanism] | None,
        meter: Calls,
        watch: Callable[[str, int, int], None],
        say: Callable[[str], None],
    ) -> None:
        self._world = world
        self._mechanisms = mechanisms
        self._options = options
        self._ctr_model = ctr_model
        self._rebuild = rebuild
        self._meter = meter
        self._watch = watch
        self._say = say
        self._lab = BidEvaluator(world.judge)
        self._calls = dict.fromkeys(mechanisms, 0)
        self._estimate = 0
        self._cut: list[str] = []
        self._cases: list[AuditCase] = []
        self._subjects: dict[str, AuditedMechanism] = {}
        self._swept: list[dict[str, Swept]] = []
        self._draws: list[dict[str, Draws | None]] = []
        self._collusion: list[dict[str, Colluded | None]] = []
        self._wrong: list[dict[str, dict[str, Swept]]] = []
        self._played: list[dict[str, dict[str, list[Reached]]]] = []

    async def run(self) -> None:
        options = self._options
        try:
            self._cases = await self._find_cases()
            await self._find_subjects()
        except CallsSpent:
            raise self._too_few() from None
        self._swept = await self._part("sweeps", options.n, self._sweep)
        if not self._swept:
            raise self._too_few()
        self._draws = await self._part("draws", len(self._swept), self._draw)
        self._collusion = await self._part("collusion", options.collusion, self._collude)
        if self._rebuild is not None:
            self._wrong = await self._part("wrong CTR", options.wrong_ctr, self._distort)
        self._played = await self._part("play", options.play, self._play)

    def _too_few(self) -> InputError:
        return InputError(f"max_calls {self._options.max_calls} is too few for the sweeps of one auction")

    async def _find_cases(self) -> list[AuditCase]:
        world, options = self._world, self._options
        if world.linked:
            cases = []
            for session in await session_case.sessions_of(world, options.n, options.seed):
                start = session_case.truthful_start(world, session)
                auction = session_case.whole_session(start)
                values = np.array([bid.amount for bid in auction.bids], dtype=np.float64)
                clicks = np.array([world.clicks_per_unit(bid.ad) for bid in auction.bids], dtype=np.float64)
                cases.append(AuditCase(session.persona, auction, values, clicks, start))
            return cases
        horizon = world.horizon
        numbers = sorted({i // horizon for i in range(options.n)})
        begun = await gather(world.session(options.seed, number) for number in numbers)
        sessions = dict(zip(numbers, begun, strict=True))
        cases = []
        for i in range(options.n):
            auction = world.auction(sessions[i // horizon], i % horizon, ShadedBidder())
            values = np.array([bid.amount for bid in auction.bids], dtype=np.float64)
            clicks = np.array([world.clicks_per_unit(bid.ad) for bid in auction.bids], dtype=np.float64)
            cases.append(AuditCase(sessions[i // horizon].persona, auction, values, clicks))
        return cases

    async def _find_subjects(self) -> None:
        for label, mechanism in self._mechanisms.items():
            before = self._meter.completions
            exact = await is_exact(mechanism, self._cases)
            ctr_model = own_ctr_model(mechanism) or self._ctr_model
            replicas = 0 if exact else self._options.replicas + self._options.replicas % 2
            self._subjects[label] = AuditedMechanism(label, mechanism, ctr_model, replicas)
            self._calls[label] += self._meter.completions - before

    async def _part(
        self, name: str, wanted: int, of: Callable[[AuditedMechanism, AuditCase], Awaitable[T]]
    ) -> list[dict[str, T]]:
        """Runs one part for each auction in turn. An auction counts only if all mechanisms finish it."""
        cases = self._cases[:wanted]
        done: list[dict[str, T]] = []
        for k, case in enumerate(cases):
            self._watch(name, k, len(cases))
            begun = self._meter.completions
            row: dict[str, T] = {}
            try:
                for label, subject in self._subjects.items():
                    before = self._meter.completions
                    try:
                        row[label] = await of(subject, case)
                    finally:
                        self._calls[label] += self._meter.completions - before
            except CallsSpent:
                self._cut.append(f"{name} after {k} of {len(cases)} auctions")
                break
            done.append(row)
            if name == "sweeps" and k == 0:
                self._estimate = begun + (self._meter.completions - begun) * len(cases)
                bound = "" if self._meter.most is None else f", of at most {self._meter.most}"
                self._say(f"{self._meter.completions} calls so far; some {self._estimate} for the sweeps of all{bound}")
        self._watch(name, len(cases), len(cases))
        return done

    async def _sweep(self, subject: AuditedMechanism, case: AuditCase) -> Swept:
        truth = await self._lab.play(subject, case, case.values)
        o = self._options
        chosen = sampled_advertisers(case, o.advertisers, o.seed)
        sweeps = [
            await sweep(self._lab, subject, case, i, curve=o.curve_bids, bids=o.bids, target_roi=o.target_roi)
            for i in chosen
        ]
        return Swept(truth, sweeps)

    async def _draw(self, subject: AuditedMechanism, case: AuditCase) -> Draws | None:
        if case.start is not None or subject.replicas or not isinstance(subject.mechanism, Randomised):
            return None
        auction, rng = case.auction, mechanism_rng(case.auction)
        lottery = await lottery_of(subject.mechanism, auction)
        await run_mechanism(subject.mechanism, auction, rng)
        rngs = draw_rngs(auction, has_drawn(rng, auction))
        return Draws(auction, lottery, [await run_mechanism(subject.mechanism, auction, rng) for rng in rngs])

    async def _collude(self, subject: AuditedMechanism, case: AuditCase) -> Colluded | None:
        return await collusion(self._lab, subject, case)

    async def _distort(self, subject: AuditedMechanism, case: AuditCase) -> dict[str, Swept]:
        if own_ctr_model(subject.mechanism) is None or self._rebuild is None:
            return {}
        distorted = {}
        for kind in ("as_is", *DISTORTIONS):
            wrong = subject
            if kind != "as_is":
                other = DistortedCTR(self._ctr_model, kind, self._options.seed)
                mechanism = self._rebuild(subject.label, other)
                wrong = subject._replace(mechanism=mechanism, ctr_model=own_ctr_model(mechanism) or other)
            truth = await self._lab.play(wrong, case, case.values)
            chosen = sampled_advertisers(case, min(2, self._options.advertisers), self._options.seed)
            bids = self._options.bids
            sweeps = [await sweep(self._lab, wrong, case, i, curve=0, bids=bids) for i in chosen]
            distorted[kind] = Swept(truth, sweeps)
        return distorted

    async def _play(self, subject: AuditedMechanism, case: AuditCase) -> dict[str, list[Reached]]:
        truth = await self._lab.play(subject, case, case.values)
        o = self._options
        as_is = Reached(*totals(case, truth), bid_share=1.0, spent=math.nan, strategy=TRUTHFUL)
        return {"truthful": [as_is]} | {
            kind: [
                await learned(self._lab, subject, case, truth, rounds=o.rounds, seed=seed, budgets=kind == "budgets")
                for seed in range(o.seed, o.seed + o.play_seeds)
            ]
            for kind in ("learned", "budgets")
        }

    def _measured(self, label: str) -> Measured:
        return Measured(
            self._subjects[label],
            [row[label] for row in self._swept],
            [row[label] for row in self._collusion],
            [row[label] for row in self._wrong],
            [row[label] for row in self._played],
            [draws for row in self._draws if (draws := row[label]) is not None],
            self._calls[label],
        )

    def report(self, ad_llm: str) -> Audit:
        """Returns the report; call it after `run`."""
        best = [self._lab.best_welfare(case) for case in self._cases]
        return Audit(
            options=self._options,
            ad_llm=ad_llm,
            judge=self._world.judge.name,
            ctr_model=self._ctr_model.name,
            auctions=len(self._swept),
            turns=self._world.horizon if self._world.linked else None,
            cut_short=tuple(self._cut),
            estimated_calls=self._estimate,
            llm_calls=self._meter.completions,
            curve_bids=tuple(np.linspace(0, HIGHEST, self._options.curve_bids).tolist()),
            shares=SHARES,
            mechanisms={label: audited(self._measured(label), self._cases, best) for label in self._mechanisms},
        )
