"""What an advertiser changes: numbers of the same auctions with its ads and without them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from simenv.records import Transition
from simenv.runs.metric_types import clicks_of
from simenv.stats import Estimate, draw_variance, ratio


class Pair(NamedTuple):
    """One auction with the advertiser's ads, and without them."""

    with_ads: Transition
    without: Transition


class Counted(NamedTuple):
    """Clicks, payments and value of one answer: of the advertiser's ads, and of the others."""

    clicks: tuple[float, float]
    spend: tuple[float, float]
    value: tuple[float, float]


Of = Callable[[Counted], float]
"""A sum of some of these numbers."""


class Effect(NamedTuple):
    """One number of what an advertiser changes: with its ads minus without them."""

    name: str
    unit: str
    meaning: str
    above: Of | None
    """What changes; None: satisfaction."""
    below: Of | None = None
    """What the change is divided by; None: it is a total over the run, or a mean of satisfaction."""


EFFECTS: tuple[Effect, ...] = (
    Effect("own_clicks", "clicks", "clicks on the advertiser's ads", lambda c: c.clicks[0]),
    Effect("others_clicks", "clicks", "change in clicks on all other ads", lambda c: c.clicks[1]),
    Effect("all_clicks", "clicks", "incremental clicks: change in clicks on all ads", lambda c: sum(c.clicks)),
    Effect(
        "incremental_share",
        "share",
        "incremental clicks / own clicks: 1 = no other ad loses a click, 0 = all its clicks are taken from others",
        lambda c: sum(c.clicks),
        lambda c: c.clicks[0],
    ),
    Effect("own_spend", "currency", "what the advertiser pays", lambda c: c.spend[0]),
    Effect("others_spend", "currency", "change in what all others pay", lambda c: c.spend[1]),
    Effect("revenue", "currency", "incremental revenue: change in what all pay", lambda c: sum(c.spend)),
    Effect(
        "others_value",
        "currency",
        "change in the others' value: minus the externality, which the advertiser would pay under VCG",
        lambda c: c.value[1],
    ),
    Effect("welfare", "currency", "change in the value of all clicks", lambda c: sum(c.value)),
    Effect(
        "satisfaction_change",
        "per answer",
        "change in the users' satisfaction, per answer that showed the advertiser",
        None,
    ),
)
"""In the order of the report."""


class Change(NamedTuple):
    """What the advertiser changes under one mechanism."""

    mechanism: str
    effect: Effect
    estimate: Estimate


def changes(pairs: Iterable[Pair], ads: Collection[str]) -> list[Change]:
    """What an advertiser with these ads changes under each mechanism, paired by auction, clustered by persona.

    Auctions with an unknown click are left out. Realised clicks are draws: the variance is at least that of independent
    ones. An ad whose answer does not change is one draw with the difference of its weights.
    """
    by_mechanism: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_mechanism.setdefault(pair.with_ads.mechanism, []).append(pair)
    found = []
    for mechanism, of_one in by_mechanism.items():
        expected = all(clicks_of(t, True) is not None for pair in of_one for t in pair)
        counted = [row for pair in of_one if (row := _counted(pair, ads, expected)) is not None]
        for effect in EFFECTS:
            if effect.above is None:
                estimate = _satisfaction(of_one, ads)
            else:
                estimate = _change(counted, effect.above, effect.below, expected)
            if estimate is not None:
                found.append(Change(mechanism, effect, estimate))
    return found


class _Row(NamedTuple):
    persona: str
    change: Counted
    """With the ads minus without them."""
    draws: Sequence[Counted]
    """What one more click would add, for each independent draw."""
    clicks: tuple[float, int]
    """Clicks and shown ads of both answers."""


def _change(rows: Sequence[_Row], above: Of, below: Of | None, expected: bool) -> Estimate | None:
    if not rows:
        return None
    pairs = [(above(row.change), below(row.change) if below else 1.0) for row in rows]
    total = sum(size for _, size in pairs)
    found = ratio(pairs, [row.persona for row in rows])
    least = 0.0
    if not expected and total:
        shown = sum(row.clicks[1] for row in rows)
        weights = (above(one) - (found.value * below(one) if below else 0.0) for row in rows for one in row.draws)
        least = draw_variance(sum(row.clicks[0] for row in rows), shown) * sum(w**2 for w in weights) / total**2
    estimate, scale = found.interval(least), 1.0 if below else total
    return Estimate(value=estimate.value * scale, low=estimate.low * scale, high=estimate.high * scale)


def _satisfaction(pairs: Sequence[Pair], ads: Collection[str]) -> Estimate | None:
    rows = []
    for one, other in pairs:
        before, after = one.feedback.satisfaction, other.feedback.satisfaction
        if before is not None and after is not None and any(p.ad_id in ads for p in one.outcome.placements):
            rows.append((before - after, one.persona_id))
    if not rows:
        return None
    return ratio([(change, 1.0) for change, _ in rows], [persona for _, persona in rows]).interval()


def _counted(pair: Pair, ads: Collection[str], expected: bool) -> _Row | None:
    """The numbers of one auction; None where a click is unknown."""
    sides = []
    for t in pair:
        clicks = clicks_of(t, expected)
        if clicks is None:
            return None
        values = {ad_id: t.values[ad_id] for ad_id in clicks if t.auction.bid_of(ad_id).unit == "view"}
        fixed = Counted((0.0, 0.0), _apart(t.outcome.transfers, ads), _apart(values, ads))
        sides.append((clicks, _weights(t, ads), fixed))
    (one, ours, fixed_with), (other, theirs, fixed_without) = sides
    parts = [fixed_with, _times(fixed_without, -1.0)]
    parts += [_times(ours[ad_id], click) for ad_id, click in one.items()]
    parts += [_times(theirs[ad_id], -click) for ad_id, click in other.items()]
    same = pair.with_ads.outcome.response == pair.without.outcome.response
    draws = [_sum([ours[ad_id], _times(theirs[ad_id], -1.0)]) for ad_id in ours] if same else [*ours.values()]
    draws += [] if same else theirs.values()
    shown = (sum(one.values()) + sum(other.values()), len(one) + len(other))
    return _Row(pair.with_ads.persona_id, _sum(parts), draws, shown)


def _weights(t: Transition, ads: Collection[str]) -> dict[str, Counted]:
    """What a click on each shown ad adds."""
    found = {}
    for p in t.outcome.placements:
        value = t.values[p.ad_id] if t.auction.bid_of(p.ad_id).unit == "click" else 0.0
        found[p.ad_id] = Counted(*(_apart({p.ad_id: x}, ads) for x in (1.0, p.price, value)))
    return found


def _apart(numbers: Mapping[str, float], ads: Collection[str]) -> tuple[float, float]:
    return sum(x for i, x in numbers.items() if i in ads), sum(x for i, x in numbers.items() if i not in ads)


def _times(counted: Counted, factor: float) -> Counted:
    return Counted(*((own * factor, others * factor) for own, others in counted))


def _sum(parts: Sequence[Counted]) -> Counted:
    return Counted(*((sum(own for own, _ in of), sum(others for _, others in of)) for of in zip(*parts, strict=True)))
