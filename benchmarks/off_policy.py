"""Accuracy of off-policy estimates: IPS, SNIPS and DR compared with the exact value, on 20 logs.

python benchmarks/off_policy.py        # about four minutes on two cores

Each log has 120 auctions (24 personas, five queries each) with four ads of the embedded packs, answered by `softmax` at
one temperature, with a scripted Ad-LLM and the click model. Each seed gives a log with its own values, bids, draws and
clicks. The target is `softmax` at another temperature. Its true value on a log's auctions is exact: the answer of every
choice of every auction is written, the click model gives its click probability, and the target's choice_probs are the
weights.

bias, RMSE   of the estimate relative to the true value on the log's own auctions, currency per answer
coverage     share of 95% intervals that contain that value; the intervals also cover the variation between auctions, so
             it may exceed 95%
of mean      the coverage of the mean true value over all logs, which is the target of the intervals
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
"""Temperatures, currency per answer; for comparison, predicted values b q are about 1 to 60."""


class Result(NamedTuple):
    """One log: the estimates and the true value."""

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
        rewards = [choice_rewards(world, policies[LOGGING], transition) for transition in log]
        for temperature in TARGETS:
            target = policies[temperature]
            values = [
                sum(prob * reward[choice] for choice, prob in target.choice_probs(t.auction).items())
                for t, reward in zip(log, rewards, strict=True)
            ]
            results[temperature].append(Result(evaluate(log, target), sum(values) / len(values)))
        console.print(f"log {seed + 1} of {logs}", style="dim")
    return results


def choice_rewards(world: World, policy: Any, transition: Transition) -> dict[str, float]:
    """Expected bid-weighted clicks of every choice, currency per answer, from the click model on the written answer."""
    auction, judge = transition.auction, world.judge
    assert isinstance(judge, ClickModel)
    persona = next(p for p in world.personas if p.id == transition.persona_id)
    return {choice: _reward(judge, persona, auction, policy, choice) for choice in policy.choice_probs(auction)}


def _reward(judge: ClickModel, persona: Persona, auction: Auction, policy: Any, choice: str) -> float:
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
    """The table cells of one estimator, over all logs."""
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
