"""Fits a world to a click log, and says how well it predicts users whom it has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from pydantic import Field

from simenv.errors import InputError
from simenv.fitting.arrays import Floats, Impressions
from simenv.fitting.log import ClickLog
from simenv.fitting.parameters import APPEAL, APPEAL_SPREAD, Free, free_numbers, held_numbers
from simenv.fitting.posterior import Mode, Posterior
from simenv.judges.click_worlds import ClickParams, world_v1
from simenv.records import Record
from simenv.stats import Bin, Estimate, clustered_ratio, deciles

UNTOLD = 0.8
"""A log cannot tell a number whose interval is at least this share of the prior's."""
HELD_OUT = 5
"""Every fifth user is held out, to score a fit to the others."""
_Z = 1.959963984540054
_FEWEST_USERS = 10


class FittedNumber(Record):
    """One number of a fitted world."""

    name: str
    prior: float
    """Its value in the world that the fit began with: the centre of its prior."""
    value: float
    low: float
    """Ends of the 95% interval."""
    high: float
    share: float = Field(ge=0)
    """Width of the interval, divided by that of the prior's, on the scale of the fit."""

    @property
    def told(self) -> bool:
        """Whether the log says something of it: its interval is narrower than `UNTOLD` times the prior's."""
        return self.share < UNTOLD


class HeldOut(Record):
    """Log-likelihood per impression of users who were held out, in nats. Higher is better."""

    impressions: int
    users: int
    fitted: float
    prior: float
    """Of the world that the fit began with, with every hidden appeal and taste at its mean."""
    constant: float
    """Of the click rate of the other users."""
    over_prior: Estimate
    """fitted - prior, clustered by user."""
    over_constant: Estimate
    """fitted - constant."""
    calibration: tuple[Bin, ...]
    """x: mean prediction of the fitted world, y: click rate, by tenths of the prediction."""


class FittedWorld(Record):
    """A world that was fitted to a click log."""

    params: ClickParams
    """The world."""
    prior: str
    """Name of the world that the fit began with."""
    log: str
    impressions: int
    clicks: int
    users: int
    left_out: int
    """Shown ads without a verdict, or whose place in the answer is not known."""
    draws: int
    numbers: tuple[FittedNumber, ...]
    held: dict[str, str]
    """Number that was not fitted -> why."""
    held_out: HeldOut

    @property
    def untold(self) -> tuple[str, ...]:
        """Fitted numbers of which the log says next to nothing: they are the prior's."""
        return tuple(number.name for number in self.numbers if not number.told)


class _Fit(NamedTuple):
    posterior: Posterior
    mode: Mode
    spread: float
    spread_deviation: float


def fit_world(
    log: ClickLog,
    name: str,
    prior: ClickParams | None = None,
    *,
    draws: int = 100,
    seed: int = 0,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> FittedWorld:
    """Fits the numbers of a click world to a log: the mode of the posterior, with intervals by a bootstrap over users.

    Args:
        log: The clicks; see `read_click_log`.
        name: Name of the new world.
        prior: The world that the fit begins with; v1 by default.
        draws: Bootstrap draws for the intervals.
        seed: Seed of the draws.
        watch: Called with the number of draws that are done, and of all.

    Raises:
        InputError: fewer than 10 users, no clicks or only clicks (of all users, or of those held out), fewer than 10
            draws, or a name that no world can have.
    """
    prior = prior or world_v1()
    if draws < 10:
        raise InputError(f"draws must be at least 10, got {draws}")
    prior.changed({"world": name})  # refused now
    rows = log.impressions
    _check(rows)
    free = free_numbers(prior)
    fit = _fitted(rows, prior, free)
    points = fit.posterior.draws(fit.mode, fit.spread, draws, seed, watch)
    numbers = [
        _number(it, prior.numbers()[it.name], float(theta), float(deviation))
        for it, theta, deviation in zip(free, fit.mode.theta, points.std(axis=0, ddof=1), strict=True)
    ]
    appeals = {}
    if fit.spread:
        spread = Free(APPEAL, "log", APPEAL_SPREAD, math.log(abs(prior.attraction.appeal)))
        numbers.append(_number(spread, prior.attraction.appeal, math.log(fit.spread), fit.spread_deviation))
        appeals = {offer: _short(b / fit.spread) for offer, b in zip(rows.offers, fit.mode.appeal, strict=True)}
    params = prior.changed({"world": name, **{it.name: it.value for it in numbers}})
    return FittedWorld(
        params=params.model_copy(update={"appeals": {**prior.appeals, **appeals}}),
        prior=prior.world,
        log=log.name,
        impressions=int(rows.decided.sum()),
        clicks=int(rows.clicked[rows.decided].sum()),
        users=len(np.unique(rows.user[rows.decided])),
        left_out=int((~rows.decided).sum()),
        draws=draws,
        numbers=tuple(numbers),
        held=held_numbers(prior),
        held_out=_held_out(rows, prior, free),
    )


def _fitted(rows: Impressions, prior: ClickParams, free: list[Free]) -> _Fit:
    weight = abs(prior.attraction.appeal)
    known = np.array([weight * prior.appeals.get(offer, 0.0) for offer in rows.offers])
    posterior = Posterior(rows, prior.numbers(), free, known)
    if not weight or len(rows.offers) < 2:
        return _Fit(posterior, posterior.mode(0.0), 0.0, 0.0)
    spread, deviation, mode = posterior.fit_spread(weight)
    return _Fit(posterior, mode, spread, deviation)


def _number(free: Free, prior: float, theta: float, deviation: float) -> FittedNumber:
    low, high = (free.value(theta + side * _Z * deviation) for side in (-1, 1))
    return FittedNumber(
        name=free.name,
        prior=prior,
        value=_short(free.value(theta)),
        low=low,
        high=high,
        share=deviation / free.spread,
    )


def _check(rows: Impressions) -> None:
    users, clicks, n = (
        len(np.unique(rows.user[rows.decided])),
        int(rows.clicked[rows.decided].sum()),
        rows.decided.sum(),
    )
    if users < _FEWEST_USERS:
        raise InputError(f"a world needs the clicks of at least {_FEWEST_USERS} users, got {users}")
    if not 0 < clicks < n:
        raise InputError(f"a world needs clicks and non-clicks to learn from, got {clicks} of {n}")


def _held_out(rows: Impressions, prior: ClickParams, free: list[Free]) -> HeldOut:
    out = np.arange(len(rows.users)) % HELD_OUT == 0
    train, test = rows.of_users(~out), rows.of_users(out).decided
    clicked, weight = rows.clicked[test], rows.weight[test]
    if not 0 < clicked.sum() < len(clicked):
        raise InputError(
            f"the held-out {int(out.sum())} of {len(out)} users need clicks and non-clicks, got {int(clicked.sum())} "
            f"clicks of {len(clicked)} impressions: give a longer log"
        )
    fit = _fitted(train, prior, free)
    predicted = fit.posterior.probabilities(fit.mode.theta, fit.mode.appeal)[test]
    before = fit.posterior.probabilities(fit.posterior.centres, np.zeros(len(rows.offers)))[test]
    rate = np.full(len(clicked), np.average(rows.clicked[train.decided], weights=rows.weight[train.decided]))
    users = [rows.users[i] for i in rows.user[test]]
    fitted, prior_, constant = (_log_likelihood(clicked, p) for p in (predicted, before, rate))

    def over(other: Floats) -> Estimate:
        return clustered_ratio(list(zip((weight * (fitted - other)).tolist(), weight.tolist(), strict=True)), users)

    return HeldOut(
        impressions=len(clicked),
        users=len(set(users)),
        fitted=float(np.average(fitted, weights=weight)),
        prior=float(np.average(prior_, weights=weight)),
        constant=float(np.average(constant, weights=weight)),
        over_prior=over(prior_),
        over_constant=over(constant),
        calibration=deciles(predicted.tolist(), clicked.tolist()),
    )


def _log_likelihood(clicked: Floats, p: Floats) -> Floats:
    p = np.clip(p, 1e-9, 1 - 1e-9)
    return np.asarray(clicked * np.log(p) + (1 - clicked) * np.log1p(-p))


def _short(value: float) -> float:
    """Six digits: the file then holds the same number."""
    return float(f"{value:.6g}")
