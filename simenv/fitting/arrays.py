"""The click model over all impressions of a log at once: the equations of `ClickModel`, on arrays.

    log p_i = log examination_i + 2 log a_i - log(a_i + sum_j s_ij a_j) + log nativeness_i + log flooding_i

`ClickModel` computes one answer, and its bits never change; these arrays may differ from it in the last digits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.judges.click_measures import AnswerMeasures

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Numbers = Mapping[str, float]
"""Parameter -> value, as `ClickParams.numbers`."""
LEAST_LOG = -60.0


class Answer(NamedTuple):
    """One answer of a log."""

    user: str
    measures: AnswerMeasures
    verdicts: Sequence[bool | None]
    """One per ad; None: not known."""
    auction: str = ""
    """Answers to the same auction share it; "" if there is no other one."""


class Impressions(NamedTuple):
    """Every shown ad of a log: arrays of shape (n,)."""

    clicked: Floats
    decided: npt.NDArray[np.bool_]
    """Whether there is a verdict, on an ad that can be clicked. Others only compete."""
    weight: Floats
    """1 / number of answers to the same auction that show the ad: the mechanisms of a run share one draw."""
    user: Ints
    offer: Ints
    """Index in `offers`; -1: an ad whose appeal is not fitted."""
    numbers: dict[str, Floats]
    """Measure -> its values."""
    pair: tuple[Ints, Ints, Floats]
    """Two ads of one answer, and the cosine of their copies; each pair is there twice."""
    users: tuple[str, ...]
    offers: tuple[str, ...]

    def of_users(self, chosen: npt.NDArray[np.bool_]) -> Impressions:
        """The same log, in which only the impressions of some users are decided. chosen: shape (users,)."""
        return self._replace(decided=self.decided & chosen[self.user])


class Evaluated(NamedTuple):
    """Click probabilities, and how they change with attraction."""

    log_p: Floats
    """log of the click probability: shape (n,)."""
    own: Floats
    """d log p_i / d x_i, x being the log-odds of attraction: shape (n,)."""
    other: Floats
    """d log p_i / d x_j of each pair (i, j): shape (pairs,)."""
    slopes: dict[str, Floats]
    """Parameter -> d log p_i / d parameter: shape (n,). Of those that can be fitted."""


def impressions(answers: Sequence[Answer], *, most_offers: int) -> Impressions:
    """The impressions of answers.

    Args:
        answers: The log.
        most_offers: The appeals of so many offers are fitted, those that are shown most often.
    """
    rows = [(a.user, a.measures, ad, v) for a in answers for ad, v in zip(a.measures.ads, a.verdicts, strict=True)]
    shown_in = [(a.auction or f"answer {i}", ad.id) for i, a in enumerate(answers) for ad in a.measures.ads]
    times = Counter(shown_in)
    users, user = np.unique([row[0] for row in rows], return_inverse=True)
    names, offer, shown = np.unique([row[2].offer for row in rows], return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-shown, kind="stable")[:most_offers])
    place = np.full(len(names), -1)
    place[kept] = np.arange(len(kept))

    def column(values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64)

    measured = {
        name: column([float(getattr(ad, name)) for _, _, ad, _ in rows])
        for name in ("cosine", "cheap", "log_amount", "rank", "words_before", "pressure", "shouting", "coherence")
    }
    measured |= {
        name: column([float(getattr(ad, name)) for _, _, ad, _ in rows])
        for name in ("labelled", "persuasion", "repeated", "earlier")
    }
    measured |= {
        "affinity": column([ad.affinity or 0.0 for _, _, ad, _ in rows]),
        "tolerance": column([m.traits.ad_tolerance for _, m, _, _ in rows]),
        "price_sensitivity": column([m.traits.price_sensitivity for _, m, _, _ in rows]),
        "patience": column([m.traits.patience for _, m, _, _ in rows]),
        "leak": column([m.leak for _, m, _, _ in rows]),
        "ads": column([len(m.ads) for _, m, _, _ in rows]),
    }
    ones, others, cosines, start = [], [], [], 0
    for m in (answer.measures for answer in answers):
        n = len(m.ads)
        for i in range(n):
            for j in range(n):
                if i != j:
                    ones.append(start + i)
                    others.append(start + j)
                    cosines.append(float(m.cosines[i, j]))
        start += n
    return Impressions(
        clicked=column([bool(verdict) for *_, verdict in rows]),
        decided=np.array([ad.intact and not m.leaked and v is not None for _, m, ad, v in rows], dtype=bool),
        weight=column([1 / times[key] for key in shown_in]),
        user=user.astype(np.int64),
        offer=place[offer],
        numbers=measured,
        pair=(np.array(ones, dtype=np.int64), np.array(others, dtype=np.int64), column(cosines)),
        users=tuple(map(str, users)),
        offers=tuple(str(names[i]) for i in kept),
    )


class Equations:
    """The click model's equations on a log. What no fitted number changes is computed once.

    Args:
        log: The impressions.
        p: The world's parameters. Ends of ramps, and who notices an ad, stay what they are here.
    """

    def __init__(self, log: Impressions, p: Numbers) -> None:
        self._log = log
        m = log.numbers
        self._fits = _ramp(m["coherence"], p["nativeness.coherence_none"], p["nativeness.coherence_full"])
        self._pressure = _ramp(m["pressure"], p["nativeness.pressure_none"], p["nativeness.pressure_full"])
        self._slow = -(1 - m["patience"]) / 100 * m["words_before"]
        self._crowd = -(1.5 - m["tolerance"]) * np.maximum(0, m["ads"] - p["flooding.free_ads"])
        leak = _ramp(m["leak"], p["leaks.cue_none"], p["leaks.cue_full"])
        self._no_leak = np.log(np.maximum(1 - leak, 1e-12))
        ends = p["competition.substitutes_from"], p["competition.substitutes_full"]
        self._degree = _ramp(log.pair[2], *ends)
        self._related = (m["cosine"] - p["attraction.relevance_centre"]) / p["attraction.relevance_scale"]
        self._readers = "readers.persuasion" in p
        if self._readers:
            ends = p["readers.persuasion_none"], p["readers.persuasion_full"]
            self._promoting = _ramp(m["persuasion"], *ends)
            labels = p["readers.notice_label"] * m["labelled"]
            self._noticing = _sigmoid(p["readers.notice"] + labels + p["readers.notice_persuasion"] * self._promoting)

    def at(self, p: Numbers, appeal: Floats) -> Evaluated:
        """Click probabilities of all impressions, and their slopes.

        Args:
            p: The world's parameters.
            appeal: Log-odds of each offer, beside all else: shape (offers,).
        """
        log, m, (i, j, _) = self._log, self._log.numbers, self._log.pair
        price = m["price_sensitivity"] ** 2
        cheap = m["cheap"] - p["attraction.amount_weight"] * m["log_amount"]
        cue = np.tanh(p["attraction.price_slope"] * cheap)
        steep = p["attraction.price"] * price * (1 - cue**2)
        in_x = {
            "attraction.base": np.ones(len(price)),
            "attraction.relevance": self._related,
            "attraction.affinity": m["affinity"],
            "attraction.tolerance": m["tolerance"] - 0.5,
            "attraction.price": price * cue,
        }
        if "fatigue.repeated" in p:
            in_x |= {"fatigue.repeated": m["repeated"], "fatigue.earlier": m["earlier"]}
        x = np.append(appeal, 0.0)[log.offer] + sum(p[name] * slope for name, slope in in_x.items())
        in_x["attraction.price_slope"] = steep * cheap
        in_x["attraction.amount_weight"] = -steep * p["attraction.price_slope"] * m["log_amount"]
        in_a = {}
        if self._readers:
            n = self._noticing
            in_x["readers.persuasion"] = self._promoting
            x = x + p["readers.persuasion"] * self._promoting
            unaware, aware = _sigmoid(x), _sigmoid(x + p["readers.noticed"])
            in_a["readers.noticed"] = n * aware * (1 - aware)
            a, slope = (1 - n) * unaware + n * aware, (1 - n) * unaware * (1 - unaware) + in_a["readers.noticed"]
        else:
            a = _sigmoid(x)
            slope = a * (1 - a)
        in_a |= {name: slope * in_x[name] for name in in_x}
        rivals = a + np.bincount(i, self._degree * a[j], len(a))
        own, other = 2 / a - 1 / rivals, -self._degree / rivals[i]
        slopes = {name: own * in_a[name] + np.bincount(i, other * in_a[name][j], len(a)) for name in in_a}
        native = np.maximum(p["nativeness.floor"] + (1 - p["nativeness.floor"]) * self._fits, 1e-12)
        slopes |= {
            "examination.rank_discount": m["rank"] / max(p["examination.rank_discount"], 1e-12),
            "examination.depth_loss": self._slow,
            "nativeness.floor": (1 - self._fits) / native,
            "nativeness.hard_sell": self._pressure / max(p["nativeness.hard_sell"], 1e-12),
            "nativeness.shouting": m["shouting"] / max(p["nativeness.shouting"], 1e-12),
            "flooding.rate": self._crowd,
        }
        log_p = (
            2 * np.log(a)
            - np.log(rivals)
            + _log(p["examination.rank_discount"]) * m["rank"]
            + p["examination.depth_loss"] * self._slow
            + np.log(native)
            + _log(p["nativeness.hard_sell"]) * self._pressure
            + _log(p["nativeness.shouting"]) * m["shouting"]
            + p["flooding.rate"] * self._crowd
            + self._no_leak
        )
        return Evaluated(np.maximum(log_p, LEAST_LOG), own * slope, other * slope[j], slopes)


def _log(share: float) -> float:
    return float(np.log(max(share, 1e-12)))


def _ramp(scores: Floats, none: float, full: float) -> Floats:
    return np.asarray(np.clip((scores - none) / (full - none), 0, 1))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
