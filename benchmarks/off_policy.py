"""How far off-policy estimates can be trusted: IPS, SNIPS and DR against the exact truth, on 20 logs.

python benchmarks/off_policy.py        # about four minutes on two cores

Each log is 120 auctions (24 personas, five queries each) of four ads of the embedded packs, answered by `softmax` at
one temperature, with a scripted Ad-LLM and the click model. Another seed is another log: other values and bids, other
draws, other clicks. The target is `softmax` at another temperature. Its true value on a log's auctions is exact:
every choice of every auction is written out, the click model gives its click probability, and the target's
choice_probs weight them.

bias, RMSE   of the estimate against the truth on the log's own auctions, currency per answer
coverage     share of 95% intervals that hold that truth; they also allow for other auctions, so it may exceed 95%
of mean      the same for the mean truth of all logs, which is what the intervals are made for
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from simenv import make_llm, make_mechanism, make_world, outcome
from simenv.background_loop import run_sync
from simenv.judges.click_model import ClickModel
from simenv.records import Auction, Persona, Transition
from simenv.runs.ope import OPEReport, evaluate
from simenv.runs.rollout import Finished, rollout
from simenv.stats import Estimate
from simenv.world import World

LOGS = 20
AUCTIONS = 120
CANDIDATES = 4
LOGGING, TARGETS = 10.0, (5.0, 2.0)
"""Temperatures, currency per answer: predicted worth b q is some 1 to 60."""


class Result(NamedTuple):
    """One log: what was estimated and what is true."""

    report: OPEReport
    truth: float


def main() -> None:
    console, world = Console(), make_world(candidates=CANDIDATES)
    results = run(world, LOGS, AUCTIONS, console)
    for temperature, rows in results.items():
        console.print(table(rows, f"softmax at {LOGGING:g} logged, softmax at {temperature:g} estimated"))


def run(world: World, logs: int, auctions: int, console: Console) -> dict[float, list[Result]]:
    """Every target on every log: temperature -> one result per log."""
    llm = make_llm("scripted")
    policies: dict[float, Any] = {
        t: make_mechanism("softmax", context={"llm": llm}, temperature=t) for t in (LOGGING, *TARGETS)
    }
    results: dict[float, list[Result]] = {temperature: [] for temperature in TARGETS}
    for seed in range(logs):
        chunks: list[Finished] = []

        async def go(seed: int = seed, chunks: list[Finished] = chunks) -> None:
            await rollout(world, {"softmax": policies[LOGGING]}, n=auctions, seed=seed, on_chunk=chunks.append)

        run_sync(go)
        log = [transition for chunk in chunks for transition in chunk.transitions]
        worth = [worth_of_choices(world, policies[LOGGING], transition) for transition in log]
        for temperature in TARGETS:
            target = policies[temperature]
            values = [
                sum(prob * of[choice] for choice, prob in target.choice_probs(t.auction).items())
                for t, of in zip(log, worth, strict=True)
            ]
            results[temperature].append(Result(evaluate(log, target), sum(values) / len(values)))
        console.print(f"log {seed + 1} of {logs}", style="dim")
    return results


def worth_of_choices(world: World, policy: Any, transition: Transition) -> dict[str, float]:
    """Expected bid-weighted clicks of every choice, currency per answer: its answer is written and judged."""
    auction, judge = transition.auction, world.judge
    assert isinstance(judge, ClickModel)
    persona = next(p for p in world.personas if p.id == transition.persona_id)
    return {choice: _worth(judge, persona, auction, policy, choice) for choice in policy.choice_probs(auction)}


def _worth(judge: ClickModel, persona: Persona, auction: Auction, policy: Any, choice: str) -> float:
    if not choice:
        return 0.0
    bid = auction.bid_of(choice)
    text = run_sync(policy.write, auction, choice)
    probs = judge.probabilities(persona, auction, outcome(auction, text, {choice: bid.amount}))
    return bid.amount * probs[choice]


def table(results: list[Result], title: str) -> Table:
    """Bias, RMSE and coverage of every estimator."""
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("estimator", "bias", "RMSE", "coverage", "of mean", "mean width"):
        shown.add_column(column, justify="left" if column == "estimator" else "right")
    for name in results[0].report.estimates:
        shown.add_row(name, *scores({i: (r.report.estimates[name], r.truth) for i, r in enumerate(results)}))
    sizes = [r.report.effective_sample_size for r in results]
    mean = sum(r.truth for r in results) / len(results)
    shown.caption = f"true value {mean:.2f} on average; effective sample {sum(sizes) / len(sizes):.0f} of {AUCTIONS}"
    return shown


def scores(estimates: Mapping[int, tuple[Estimate, float]]) -> list[str]:
    """One estimator's numbers over all logs, as shown."""
    n = len(estimates)
    errors = [estimate.value - truth for estimate, truth in estimates.values()]
    mean = sum(truth for _, truth in estimates.values()) / n
    bias = sum(errors) / n
    spread = math.sqrt(sum((error - bias) ** 2 for error in errors) / max(1, n - 1) / n)
    own = sum(estimate.low <= truth <= estimate.high for estimate, truth in estimates.values())
    pooled = sum(estimate.low <= mean <= estimate.high for estimate, _ in estimates.values())
    width = sum(estimate.high - estimate.low for estimate, _ in estimates.values()) / n
    return [
        f"{bias:+.2f} (s.e. {spread:.2f})",
        f"{math.sqrt(sum(error**2 for error in errors) / n):.2f}",
        f"{own}/{n}",
        f"{pooled}/{n}",
        f"{width:.2f}",
    ]


if __name__ == "__main__":
    main()
