"""simenv: the reference environment for LLM-native advertising auctions.

    import gymnasium, simenv
    env = gymnasium.make("simenv/NativeAds-v0")
    auction, info = env.reset(seed=0)
    auction, reward, terminated, truncated, info = env.step(mechanism)

Importing this package loads no torch, transformers or litellm.
"""

from __future__ import annotations

import gymnasium

from simenv.abilities import AsksModels, Hashed, Observer
from simenv.advertisers.report import AdvertiserReport, advertiser_report
from simenv.auditing.command import AuditResult, audit
from simenv.check import check_mechanism
from simenv.ctr.models import CTRModel, PredictsClicks, make_ctr_model
from simenv.errors import SimenvError
from simenv.judges.base import HasVariants, Judge
from simenv.judges.factory import make_judge
from simenv.llm import LLM, make_llm
from simenv.market.bidders import Bidder, BidRequest, PerMechanism, make_bidder
from simenv.market.values import ValueDistribution, make_values
from simenv.markup import outcome, strip_markup
from simenv.mechanism import (
    ChoosesAd,
    Claim,
    Claiming,
    Lottery,
    Mechanism,
    Randomised,
    make_mechanism,
    mechanism_names,
    run_mechanism,
)
from simenv.objective import LinearPenalty, Objective, Penalty, make_penalty
from simenv.plugins import plugins
from simenv.quality.embedded import QualityMeasure
from simenv.quality.factory import make_quality
from simenv.records import Ad, Auction, Bid, Click, Feedback, Outcome, Persona, Placement, Query, Transition
from simenv.report.plot import plot
from simenv.report.view import View, view
from simenv.runs.bench import BenchResult, bench
from simenv.runs.compare import Comparison, compare
from simenv.runs.merge import merge
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import make_metric
from simenv.scoring.score import ScoreResult, score
from simenv.sessions import SessionMechanism, SessionStart
from simenv.training import Trainer, make_trainer
from simenv.world import World
from simenv.world_factory import make_world
from simenv.writer.factory import make_writer
from simenv.writer.writer import Writer

__version__ = "0.1.0"

gymnasium.register(
    "simenv/NativeAds-v0",
    entry_point="simenv.env.environment:NativeAdsEnv",
    vector_entry_point="simenv.env.vector:NativeAdsVectorEnv",
)
gymnasium.register("simenv/Allocation-v0", entry_point="simenv.integrations.numeric:AllocationEnv")
gymnasium.register("simenv/Bidding-v0", entry_point="simenv.integrations.numeric:BiddingEnv")

__all__ = [
    "LLM",
    "Ad",
    "AdvertiserReport",
    "AsksModels",
    "Auction",
    "AuditResult",
    "BenchResult",
    "Bid",
    "BidRequest",
    "Bidder",
    "CTRModel",
    "ChoosesAd",
    "Claim",
    "Claiming",
    "Click",
    "Comparison",
    "Feedback",
    "HasVariants",
    "Hashed",
    "Judge",
    "LinearPenalty",
    "Lottery",
    "Mechanism",
    "Metric",
    "Objective",
    "Observer",
    "Outcome",
    "Penalty",
    "PerMechanism",
    "Persona",
    "Placement",
    "PredictsClicks",
    "QualityMeasure",
    "Query",
    "Randomised",
    "ScoreResult",
    "SessionMechanism",
    "SessionStart",
    "SimenvError",
    "Trainer",
    "Transition",
    "ValueDistribution",
    "View",
    "World",
    "Writer",
    "advertiser_report",
    "audit",
    "bench",
    "check_mechanism",
    "compare",
    "make_bidder",
    "make_ctr_model",
    "make_judge",
    "make_llm",
    "make_mechanism",
    "make_metric",
    "make_penalty",
    "make_quality",
    "make_trainer",
    "make_values",
    "make_world",
    "make_writer",
    "mechanism_names",
    "merge",
    "outcome",
    "plot",
    "plugins",
    "run_mechanism",
    "score",
    "strip_markup",
    "view",
]
