"""Off-policy evaluation: estimates a target mechanism's reward from the log of a mechanism with known propensities.

With reward r, logged probability p of the logged choice, the target's probability pi of it, and w = pi / p:

    ips    mean of w r                               Horvitz and Thompson (1952)
    snips  sum of w r / sum of w                     Swaminathan and Joachims (2015), self-normalised
    dr     mean of v_hat + w (r - q_hat)             Dudik, Langford, Li (2011), doubly robust

where q_hat is a model's reward of the logged choice and v_hat = sum_a pi(a) q_hat(a) is its mean under the target. The
reward is the realised bid-weighted clicks of the answer, as in `simenv.runs.click_metrics`; the model is bid x
predicted click.

A choice is "" (no ad) or the id of one ad, as the mechanism `softmax` logs it. It is assumed that a choice gives
the same answer under both mechanisms (same Ad-LLM, same Writer) and that the bids do not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from rich.console import Console

from simenv.ctr.models import CosineCTR, CTRModel, own_ctr_model
from simenv.errors import InputError
from simenv.files.blocks import print_table
from simenv.mechanism import ChoosesAd, Mechanism
from simenv.records import Transition
from simenv.runs.abstention import Weighting
from simenv.runs.click_metrics import BidWeightedClicks
from simenv.stats import Estimate, clustered_ratio

_REWARD = BidWeightedClicks()
_AS_LOGGED = "as logged"
_NEGLIGIBLE = 1e-9
"""Tolerated probability of target choices without overlap. It changes no estimate; exp() can underflow to 0."""


class LoggedChoice(NamedTuple):
    """One logged choice, with its probabilities under the logging and the target mechanism."""

    reward: float
    """r: reward of the choice, currency per answer."""
    propensity: float
    """p: probability of the choice under the logging mechanism, in (0, 1]."""
    target: float
    """pi: probability of the choice under the target, in [0, 1]."""
    q_hat: float = 0.0
    """The model's reward of this choice, currency per answer."""
    v_hat: float = 0.0
    """The model's mean reward under the target's choices, currency per answer."""
    cluster: str = ""
    """The persona: intervals are clustered by it."""

    @property
    def weight(self) -> float:
        """w = pi / p."""
        return self.target / self.propensity


def ips(rows: Sequence[LoggedChoice]) -> Estimate:
    """Inverse propensity scoring: unbiased, but with high variance if weights are large.

    Raises:
        InputError: no rows, a probability out of range, or no overlap.
    """
    return _estimate(rows, lambda row: (row.weight * row.reward, 1.0))


def snips(rows: Sequence[LoggedChoice]) -> Estimate:
    """Self-normalised inverse propensity scoring: a small bias in exchange for lower variance.

    Raises:
        InputError: as `ips`.
    """
    return _estimate(rows, lambda row: (row.weight * row.reward, row.weight))


def doubly_robust(rows: Sequence[LoggedChoice]) -> Estimate:
    """Doubly robust estimate: the model's value, corrected by its errors on the log. Unbiased for any model.

    Raises:
        InputError: as `ips`.
    """
    return _estimate(rows, lambda row: (row.v_hat + row.weight * (row.reward - row.q_hat), 1.0))


ESTIMATORS: Mapping[str, Callable[[Sequence[LoggedChoice]], Estimate]] = {
    "ips": ips,
    "snips": snips,
    "dr": doubly_robust,
}


def effective_sample_size(rows: Sequence[LoggedChoice]) -> float:
    """(sum w)^2 / sum w^2: number of answers of the target with the same information as the log (Kong 1992).

    Raises:
        InputError: as `ips`.
    """
    _check(rows)
    return sum(row.weight for row in rows) ** 2 / sum(row.weight**2 for row in rows)


class OPEReport(NamedTuple):
    """Estimates of a target's value from a log."""

    estimates: dict[str, Estimate]
    """Estimator -> value with its 95% interval, currency per answer."""
    logged: Estimate
    """Mean reward of the logging mechanism."""
    effective_sample_size: float
    answers: int
    abstained: int
    """Answers on which the judge abstained: their clicks are estimated, see `simenv.runs.abstention`."""
    rates: tuple[float, ...] = ()
    """Share of shown ads without a verdict, by their position in the answer."""
    overlap: float = 1.0
    """Share of shown ads that are like one with a verdict."""
    bounds: Mapping[str, tuple[float, float]] = MappingProxyType({})
    """Estimator, and "as logged" -> smallest and largest value, if the judge abstained: it depends on whether abstained
    ads are never clicked, or always."""


def evaluate(transitions: Iterable[Transition], target: ChoosesAd) -> OPEReport:
    """Computes all estimates of one target from a run. Transitions without propensities are ignored.

    Raises:
        InputError: no usable logged choice, logs of more than one mechanism, a target without overlap, or linked turns:
            there a choice changes the auctions after it, which the estimates do not know.
    """
    logged = [t for t in transitions if "propensity" in t.outcome.details]
    if any(t.auction.horizon is not None for t in logged):
        raise InputError("a run of linked turns cannot be valued choice by choice: a choice changes later auctions")
    labels = list(dict.fromkeys(t.mechanism for t in logged))
    if len(labels) != 1:
        got = f"those of {', '.join(labels)}" if labels else "none"
        raise InputError(f"a run must contain the propensities of one mechanism, such as softmax: got {got}")
    ctr_model = own_ctr_model(target) or CosineCTR()
    weighting = Weighting(False, logged)
    abstained = not weighting.complete
    known = [(t, row) for t in logged if (row := logged_choice(t, target, ctr_model, weighting)) is not None]
    rows = [row for _, row in known]
    if not rows:
        raise InputError(f"the judge abstained on all {len(logged)} answers of {labels[0]}: no reward is known")
    return OPEReport(
        _estimates(rows),
        _mean(rows),
        effective_sample_size(rows),
        len(rows),
        sum(t.abstentions > 0 for t in logged),
        weighting.abstained,
        weighting.overlap,
        _bounds(known, weighting) if abstained else {},
    )


def _estimates(rows: Sequence[LoggedChoice]) -> dict[str, Estimate]:
    return {name: estimator(rows) for name, estimator in ESTIMATORS.items()}


def _mean(rows: Sequence[LoggedChoice]) -> Estimate:
    return clustered_ratio([(row.reward, 1.0) for row in rows], [row.cluster for row in rows])


def _bounds(known: Sequence[tuple[Transition, LoggedChoice]], weighting: Weighting) -> dict[str, tuple[float, float]]:
    """No estimator falls in any reward, so each is smallest at the smallest rewards."""
    ends = [(row, weighting.complete_answer(t, _REWARD.parts(t))) for t, row in known]
    least = [row._replace(reward=completed.least) for row, completed in ends]
    most = [row._replace(reward=completed.most) for row, completed in ends]
    low, high = ({**_estimates(rows), _AS_LOGGED: _mean(rows)} for rows in (least, most))
    return {name: (estimate.value, high[name].value) for name, estimate in low.items()}


def logged_choice(
    transition: Transition, target: ChoosesAd, ctr_model: CTRModel, weighting: Weighting | None = None
) -> LoggedChoice | None:
    """Returns the logged choice of one transition, or None if its reward is unknown.

    Args:
        transition: An answer of a mechanism that logs its propensities.
        target: The mechanism to evaluate.
        ctr_model: Predicts the rewards of the doubly robust estimator.
        weighting: That of the whole log: the reward of an answer with an abstention is then estimated without bias.

    Raises:
        InputError: choice_probs of the log or the target are not probabilities, or the target makes a choice that has
            probability 0 in the log.
    """
    auction, details = transition.auction, transition.outcome.details
    where = f"auction {auction.id}, {transition.mechanism}"
    choice, probs = details.get("choice"), details.get("choice_probs")
    if not isinstance(choice, str) or not isinstance(probs, dict):
        raise InputError(f"{where}: expected the details choice and choice_probs, got {', '.join(details)}")
    logging = _distribution({str(key): value for key, value in probs.items()}, where)
    if not math.isclose(logging.get(choice, 0.0), _number(details.get("propensity")), abs_tol=_NEGLIGIBLE):
        raise InputError(f"{where}: propensity {details.get('propensity')} is not that of {choice!r} in choice_probs")
    target_probs = _distribution(target.choice_probs(auction), f"auction {auction.id}, target")
    for other, prob in target_probs.items():
        if prob > _NEGLIGIBLE and not logging.get(other, 0.0) > 0:
            raise InputError(
                f"{where}: no overlap: the target makes choice {other!r} with probability {prob:.3g}, the log never"
            )
    reward = _reward(transition, weighting)
    if reward is None:
        return None
    q = ctr_model.relevance(auction)
    rewards = {bid.ad.id: bid.amount * bid.units(float(q[i])) for i, bid in enumerate(auction.bids)}
    return LoggedChoice(
        reward=reward,
        propensity=logging[choice],
        target=target_probs.get(choice, 0.0),
        q_hat=rewards.get(choice, 0.0),
        v_hat=sum(prob * rewards.get(other, 0.0) for other, prob in target_probs.items()),
        cluster=transition.persona_id,
    )


def _reward(transition: Transition, weighting: Weighting | None) -> float | None:
    if weighting is not None and not weighting.complete:
        pair = weighting.complete_answer(transition, _REWARD.parts(transition)).pair
        return None if pair is None else pair[0]
    pair = _REWARD.measure(transition, False)
    return None if pair is None else pair[0]


def require_choices(mechanism: Mechanism, name: str) -> ChoosesAd:
    """Returns the mechanism if off-policy evaluation applies to it.

    Raises:
        InputError: the mechanism does not give the probability with which it shows each ad.
    """
    if not isinstance(mechanism, ChoosesAd):
        raise InputError(f"mechanism {name!r} has no choice_probs(auction): it cannot be valued from a log")
    return mechanism


def print_report(report: OPEReport, target: str, console: Console) -> None:
    """Prints the estimates as a table."""
    sample = f"{report.effective_sample_size:.1f} of {report.answers}"
    rows = [[name, *_cells(estimate), sample] for name, estimate in report.estimates.items()]
    rows.append([_AS_LOGGED, *_cells(report.logged), f"{report.answers}"])
    header = ["estimator", "value", "95% interval", "effective sample"]
    note = "Currency per answer, realised clicks, intervals clustered by persona."
    if report.bounds:
        header += ["bounds", "abstained"]
        rates = ", ".join(f"{rate:.1%}" for rate in report.rates)
        bounds = {name: f"{least:.2f} to {most:.2f}" for name, (least, most) in report.bounds.items()}
        rows = [[*row, bounds[row[0]], rates] for row in rows]
        note += (
            f" {report.abstained} of {report.answers} answers have an abstention. Abstained: share of shown ads "
            "without a verdict, by position. Verdicts are weighted by persona, number of ads and position "
            f"({report.overlap:.0%} of shown ads are like one with a verdict), which is right if the judge abstains "
            "independently of the click and of the choice among such ads. The bounds assume nothing."
        )
    print_table(f"{target}: bid x clicks per answer", header, rows, console)
    console.print(note, style="dim")


def _cells(estimate: Estimate) -> tuple[str, str]:
    return f"{estimate.value:.2f}", f"{estimate.low:.2f} to {estimate.high:.2f}"


def _estimate(rows: Sequence[LoggedChoice], pair: Callable[[LoggedChoice], tuple[float, float]]) -> Estimate:
    _check(rows)
    return clustered_ratio([pair(row) for row in rows], [row.cluster for row in rows])


def _check(rows: Sequence[LoggedChoice]) -> None:
    if not rows:
        raise InputError("no logged choices, expected at least one")
    for place, row in enumerate(rows):
        if not 0 < row.propensity <= 1:
            raise InputError(f"row {place}: the propensity must be in (0, 1], got {row.propensity}")
        if not 0 <= row.target <= 1:
            raise InputError(f"row {place}: the target's probability must be in [0, 1], got {row.target}")
        if not all(math.isfinite(number) for number in (row.reward, row.q_hat, row.v_hat)):
            raise InputError(f"row {place}: reward, q_hat and v_hat must be finite, got {row[:1] + row[3:5]}")
    if not any(row.weight > 0 for row in rows):
        raise InputError(f"no overlap: the target makes none of the {len(rows)} logged choices")


def _distribution(probs: Mapping[str, object], where: str) -> dict[str, float]:
    numbers = {choice: _number(prob) for choice, prob in probs.items()}
    if not all(0 <= prob <= 1 for prob in numbers.values()) or not math.isclose(sum(numbers.values()), 1, abs_tol=1e-6):
        raise InputError(f"{where}: choice_probs must be probabilities that sum to 1, got {dict(probs)}")
    return numbers


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
