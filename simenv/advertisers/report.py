"""The advertiser's report of a run, from its log and, if asked for, from the same auctions without the advertiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simenv.advertisers.budgets import Budget, Purses
from simenv.advertisers.counterfactual import answer_again
from simenv.advertisers.effects import Change, changes
from simenv.advertisers.ledger import Key, Ledger, ledger_of
from simenv.advertisers.lines import ALL, Line, to_frame
from simenv.advertisers.terms import TERMS
from simenv.errors import InputError, UnknownName
from simenv.mechanism import Mechanism
from simenv.records import Ad, Transition
from simenv.runs.compare import open_runs
from simenv.runs.log import LeftOut
from simenv.runs.manifest import about
from simenv.runs.options import BenchOptions, options_of_manifest
from simenv.stats import Estimate

if TYPE_CHECKING:
    import pandas

_BY = ("total", "position", "category", "topic", "without")
_OF_CANDIDATES = frozenset({"auctions", "impression_share", "position"})
"""Terms that mean nothing at one position."""


@dataclass(frozen=True)
class AdvertiserReport:
    """What advertisers showed, were clicked for, paid and gained."""

    lines: tuple[Line, ...]
    budgets: tuple[Budget, ...]
    """Empty where the run had none."""
    names: Mapping[str, str]
    """Ad id -> its advertiser's name."""
    expected: bool
    """Whether clicks, money and value are expectations over click probabilities, or what happened."""
    failed: int
    """Answers that failed and count nowhere."""
    about: tuple[str, ...] = ()
    """What was run: model, judge, packs, seed and version."""
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> pandas.DataFrame:
        """One row per number, as in the .csv file."""
        return to_frame(self.lines, self.names, self.expected)

    def value(self, mechanism: str, metric: str, advertiser: str | None = None) -> Estimate:
        """A total of one advertiser under one mechanism.

        Args:
            mechanism: Its label in the run.
            metric: A name of `simenv.advertisers.terms`.
            advertiser: Which; not needed where the report is of one.

        Raises:
            UnknownName: the report has no such number.
        """
        wanted = [line for line in self.lines if line.mechanism == mechanism and line.by in ("total", "without")]
        for line in wanted:
            if line.metric == metric and advertiser in (None, line.advertiser):
                return line.estimate
        raise UnknownName("number of the report", metric, sorted({line.metric for line in wanted}))


def advertiser_report(
    run: str | Path,
    advertiser: str | None = None,
    *,
    mechanisms: Sequence[str] = (),
    counterfactual: bool = False,
    objects: Mapping[str, Mechanism] | None = None,
    left_out: LeftOut | None = None,
    watch: Callable[[str, int, int], None] = lambda part, done, planned: None,
) -> AdvertiserReport:
    """What an advertiser showed, was clicked for, paid and gained in a run, with 95% intervals clustered by persona.

    Args:
        run: The folder of a run.
        advertiser: An ad's id, or an advertiser's name, whose ads are then added up. None: every ad, and all together.
        mechanisms: Labels of the mechanisms in the run; all by default.
        counterfactual: Whether to answer the auctions again without the advertiser's ads: same users, values, draws and
            options. It needs the run's models and plug-ins.
        objects: Mechanisms of the run that were given as objects, by label; for the counterfactual.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.
        watch: Called with ("answers", answers done, answers planned) while the auctions are answered again.

    Raises:
        DataFileError: the folder holds no run, or its log is damaged.
        UnknownName: no ad of this id or advertiser was a candidate in the run, or the run has no such mechanism.
        InputError: the counterfactual of all advertisers, or of a run that cannot be built again.
        SimenvError: what a model or mechanism raised while auctions were answered again.
    """
    if counterfactual and advertiser is None:
        raise InputError("counterfactual takes one advertiser: name the ad's id or the advertiser")
    path = Path(run)
    (opened,) = open_runs([path], left_out)
    manifest = opened.manifest

    known: dict[str, None] = {}

    def read() -> Iterator[Transition]:
        for t in opened.read():
            known.setdefault(t.mechanism)
            if not mechanisms or t.mechanism in mechanisms:
                yield t

    ledger = ledger_of(read, _lines_of(advertiser))
    _check(ledger, advertiser, mechanisms, known)
    lines = list(_lines(ledger))
    notes: list[str] = []
    if counterfactual and advertiser is not None:
        pairs, notes = answer_again(path, manifest, ledger.names, read, objects or {}, watch)
        lines += _changed(ledger, advertiser, changes(pairs, ledger.names))
    return AdvertiserReport(
        lines=tuple(lines),
        budgets=tuple(_budgets(options_of_manifest(manifest["options"], str(run)), read, ledger.names)),
        names=ledger.names,
        expected=ledger.expected,
        failed=ledger.failed,
        about=about(manifest),
        notes=tuple(notes),
    )


def _lines_of(advertiser: str | None) -> Callable[[Ad], Iterable[tuple[str, bool]]]:
    """The advertisers of the report that an ad counts for, and whether the report has parts of their totals."""
    if advertiser is None:
        return lambda ad: ((ALL, True), (ad.id, False))
    return lambda ad: ((advertiser, True),) if advertiser in (ad.id, ad.advertiser) else ()


def _check(ledger: Ledger, advertiser: str | None, mechanisms: Sequence[str], known: Iterable[str]) -> None:
    for name in mechanisms:
        if name not in known:
            raise UnknownName("mechanism of the run", name, known)
    if not ledger.seen:
        raise InputError("the run has no answers with candidate ads")
    if advertiser is not None and not ledger.names:
        known = sorted({*ledger.seen, *ledger.seen.values()})
        near = get_close_matches(advertiser, known, n=3, cutoff=0.5)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        some = ", ".join(f"{ad_id} ({name})" for ad_id, name in sorted(ledger.seen.items())[:5])
        raise InputError(
            f"no ad of {advertiser!r} was a candidate in the run: {guess}{len(ledger.seen)} ads were, such as {some}"
        )


def _lines(ledger: Ledger) -> Iterator[Line]:
    """All numbers: by mechanism, all ads first, then the advertisers and the parts that spent most."""
    order = {mechanism: place for place, mechanism in enumerate(ledger.shown)}

    def spent(key: Key) -> float:
        sums = ledger.sums[key]
        return sums.total("paid") + sums.total("transfers")

    def place(key: Key) -> tuple[Any, ...]:
        whole = key._replace(by="total", of="")
        within = float(key.of) if key.by == "position" else -spent(key)
        of_which = (key.advertiser != ALL, -spent(whole), key.advertiser)
        return order[key.mechanism], *of_which, _BY.index(key.by), within, key.of

    for key in sorted(ledger.sums, key=place):
        sums = ledger.sums[key]
        impressions, abstained = (int(sums.total(name)) for name in ("impressions", "abstained"))
        for term in TERMS:
            if (key.by == "position" and term.name in _OF_CANDIDATES) or (term.of_conversions and not ledger.converts):
                continue
            estimate, bounds = ledger.measure(key, term)
            if not math.isnan(estimate.value):
                yield Line(*key, term.name, term.unit, estimate, bounds, impressions, abstained, sums.reached)


def _changed(ledger: Ledger, advertiser: str, changed: Iterable[Change]) -> Iterator[Line]:
    for change in changed:
        key = Key(change.mechanism, advertiser, "total", "")
        sums, effect = ledger.sums[key], change.effect
        impressions, abstained = (int(sums.total(name)) for name in ("impressions", "abstained"))
        row = key._replace(by="without")
        yield Line(*row, effect.name, effect.unit, change.estimate, None, impressions, abstained, sums.reached)


def _budgets(
    options: BenchOptions, read: Callable[[], Iterable[Transition]], ads: Mapping[str, str]
) -> Sequence[Budget]:
    if options.budget is None:
        return ()
    purses = Purses(options.budget, options.budget_scope)
    for t in read():
        if t.error is None:
            for bid in t.auction.bids:
                if bid.ad.id in ads:
                    purses.add(t, bid.ad.id)
    return purses.budgets()
