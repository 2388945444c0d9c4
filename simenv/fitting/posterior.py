"""The posterior of a world's numbers given clicks: its mode, and draws from it by a bootstrap over users.

Each ad has log-odds b of its own, normal with standard deviation `attraction.appeal`. Given that spread, the mode over
the fitted numbers and all b is found by Newton's method in a trust region (scipy's trust-exact) with Fisher's
information. The spread itself maximises Laplace's approximation of the posterior in which b is integrated out (Breslow
and Clayton 1993, "Approximate inference in generalized linear mixed models").

A bootstrap draw weighs each user by an exponential variate (Rubin 1981, "The Bayesian bootstrap") and draws the centres
of all priors anew from the priors; its mode is one draw (Newton, Polson and Xu 2021, "Weighted Bayesian bootstrap for
scalable posterior distributions"). Without the second step, a number of which the log says nothing would have an
interval of width 0, since every draw would find the prior's centre.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from simenv.fitting.arrays import Equations, Floats, Impressions, Numbers
from simenv.fitting.parameters import APPEAL_SPREAD, Free
from simenv.one_thread import one_thread
from simenv.seeding import keyed_rng

_LARGEST = 1 - 1e-9


class Mode(NamedTuple):
    """The mode of a posterior."""

    theta: Floats
    """Of the free numbers, on their scales: shape (k,)."""
    appeal: Floats
    """Log-odds of each offer: shape (offers,)."""
    loss: float
    """Negative log posterior, without constants."""
    information: Floats
    """Fisher's information and the prior's precision: shape (k + offers, k + offers)."""


class Posterior:
    """The posterior of the numbers of a world.

    Args:
        log: The clicks.
        base: All numbers of the world that the fit begins with.
        free: Those that are fitted.
        known: Log-odds of each offer that the world brings along, the centre of its prior: shape (offers,).
    """

    def __init__(self, log: Impressions, base: Numbers, free: Sequence[Free], known: Floats) -> None:
        self._log = log
        self._base = dict(base)
        self._equations = Equations(log, base)
        self._free = free
        self._spreads = np.array([it.spread for it in free])
        self.centres = np.array([it.centre for it in free])
        self._known = known

    def numbers(self, theta: Floats) -> dict[str, float]:
        """All numbers at a point."""
        return self._base | {it.name: it.value(float(t)) for it, t in zip(self._free, theta, strict=True)}

    def probabilities(self, theta: Floats, appeal: Floats) -> Floats:
        """Click probability of every impression: shape (n,)."""
        return np.minimum(np.exp(self._equations.at(self.numbers(theta), appeal).log_p), _LARGEST)

    def mode(
        self,
        spread: float,
        start: Mode | None = None,
        *,
        weights: Floats | None = None,
        centres: Floats | None = None,
        known: Floats | None = None,
    ) -> Mode:
        """The mode for a given spread of appeals.

        Args:
            spread: Standard deviation of the offers' log-odds. 0: they have none.
            start: Where to begin; the prior's centre by default.
            weights: Weight of each user: shape (users,). 1 by default.
            centres: Other centres of the priors of the free numbers.
            known: Other centres of the priors of the appeals.
        """
        from scipy.optimize import minimize

        centre = np.concatenate([self.centres if centres is None else centres, self._known if known is None else known])
        begin = centre if start is None else np.concatenate([start.theta, start.appeal])
        k = len(self._free)
        precision = np.concatenate([self._spreads**-2.0, np.full(len(self._known), spread**-2.0 if spread else 1e12)])
        weight = self._log.decided * self._log.weight
        if weights is not None:
            weight *= weights[self._log.user]
        memory: list[tuple[bytes, tuple[float, Floats, Floats]]] = []

        def at(z: Floats) -> tuple[float, Floats, Floats]:
            if not memory or memory[-1][0] != z.tobytes():
                memory[:] = [(z.tobytes(), self._derivatives(z, centre, precision, weight))]
            return memory[-1][1]

        with one_thread():
            found = minimize(
                lambda z: at(z)[0],
                begin,
                jac=lambda z: at(z)[1],
                hess=lambda z: at(z)[2],
                method="trust-exact",
                options={"gtol": 1e-3, "maxiter": 200},
            )
            loss, _, information = at(found.x)
        return Mode(found.x[:k], found.x[k:], loss, information)

    def fit_spread(self, prior: float) -> tuple[float, float, Mode]:
        """The spread of appeals, the standard deviation of its logarithm, and the mode at it.

        Args:
            prior: Centre of its prior.
        """
        from scipy.optimize import minimize_scalar

        last: list[Mode] = []

        def loss(log_spread: float) -> float:
            mode = self.mode(math.exp(log_spread), last[-1] if last else None)
            last[:] = [mode]
            k, m = len(self._free), len(self._known)
            _, determinant = np.linalg.slogdet(mode.information[k:, k:])
            own = ((log_spread - math.log(prior)) / APPEAL_SPREAD) ** 2 / 2
            return float(mode.loss + m * log_spread + determinant / 2 + own)

        centre = math.log(prior)
        best = minimize_scalar(loss, bounds=(centre - 4, centre + 3), method="bounded", options={"xatol": 0.05}).x
        step = 0.25
        curvature = (loss(best + step) - 2 * loss(best) + loss(best - step)) / step**2
        deviation = min(curvature, APPEAL_SPREAD**-2) if curvature <= 0 else curvature
        return math.exp(best), 1 / math.sqrt(max(deviation, APPEAL_SPREAD**-2)), self.mode(math.exp(best), last[-1])

    def draws(self, mode: Mode, spread: float, n: int, seed: int, watch: Callable[[int, int], None]) -> Floats:
        """Draws of the free numbers, on their scales: shape (n, k)."""
        found = []
        for number in range(n):
            rng = keyed_rng("fit-world", seed, number)
            draw = self.mode(
                spread,
                mode,
                weights=rng.exponential(size=len(self._log.users)),
                centres=self.centres + self._spreads * rng.normal(size=len(self._free)),
                known=self._known + spread * rng.normal(size=len(self._known)),
            )
            found.append(draw.theta)
            watch(number + 1, n)
        return np.array(found).reshape(n, len(self._free))

    def _derivatives(
        self, z: Floats, centre: Floats, precision: Floats, weight: Floats
    ) -> tuple[float, Floats, Floats]:
        """Negative log posterior, its gradient, and Fisher's information with the prior's precision."""
        from scipy.sparse import csr_matrix

        log, k, m = self._log, len(self._free), len(self._known)
        theta, appeal = z[:k], z[k:]
        here = self._equations.at(self.numbers(theta), appeal)
        p = np.minimum(np.exp(here.log_p), _LARGEST)
        away = z - centre
        likelihood = float(weight @ (log.clicked * np.log(p) + (1 - log.clicked) * np.log1p(-p)))
        steps = [here.slopes[it.name] * it.slope(float(t)) for it, t in zip(self._free, theta, strict=True)]
        dense = np.stack(steps, axis=1)
        first, second, _ = log.pair
        rows, offers = np.concatenate([np.arange(len(p)), first]), np.concatenate([log.offer, log.offer[second]])
        slopes = np.concatenate([here.own, here.other])
        fitted = offers >= 0
        own = csr_matrix((slopes[fitted], (rows[fitted], offers[fitted])), shape=(len(p), m))
        score = weight * (log.clicked - p) / (1 - p)
        fisher = weight * p / (1 - p)
        gradient = -np.concatenate([dense.T @ score, own.T @ score]) + precision * away
        cross = own.T @ (fisher[:, None] * dense)
        information = np.empty((k + m, k + m))
        information[:k, :k] = dense.T @ (fisher[:, None] * dense)
        information[k:, :k], information[:k, k:] = cross, cross.T
        information[k:, k:] = (own.T @ own.multiply(fisher[:, None])).toarray()
        information[np.diag_indices(k + m)] += precision
        return float(-likelihood + precision @ away**2 / 2), gradient, information
