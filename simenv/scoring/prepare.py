"""Reads and checks everything that is scored, before a model is loaded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from simenv.errors import DataFileError, InputError, UnknownName
from simenv.records import Ad
from simenv.runs.build import Parts, Plan, check_label, plan
from simenv.runs.facts import facts_of
from simenv.runs.options import BenchOptions, ScoreOptions, check_ranges
from simenv.scoring.ad_finder import AdFinder
from simenv.scoring.answers import WrittenAnswers, WrittenQueries, grouped, settle_auctions
from simenv.scoring.columns import REFERENCES, Source, read_answers
from simenv.scoring.rows import Reader, Reading

NO_CATALOG = "none"
"""Value of the option `catalog`: all ads are described in the rows."""
_SHOWN = 5
"""Bad rows that an error quotes."""
_KEPT = 20
"""Bad rows that a manifest quotes."""


class Task:
    """Everything that was read and checked, before a model is loaded.

    Args:
        answers: What was given: files, records or a DataFrame.
        options: The options.

    Raises:
        DataFileError: a file cannot be read, or rows cannot be scored.
        SimenvError: wrong options.
    """

    def __init__(self, answers: Any, options: ScoreOptions) -> None:
        check_ranges(options)
        self.sources = read_answers(answers, options)
        self.bench = _bench_options(options)
        # Systems are known once the rows are read, and rows need the ads: a stand-in holds the first place.
        checked = plan(self.bench, {"answers": WrittenAnswers("answers")})
        catalog = () if options.catalog == NO_CATALOG else checked.catalog
        finder = AdFinder(catalog)
        reader = Reader(options, finder, checked.personas)
        self.readings = [reader.read(source) for source in self.sources]
        written = [it for reading in self.readings for it in reading.answers]
        self.bad = [text for reading in self.readings for text in reading.bad]
        self.asked = grouped(written, checked.personas, options.seed)
        self.systems = {name: WrittenAnswers(name) for name in dict.fromkeys(it.system for it in written)}
        self.bad += settle_auctions(self.asked, self.systems, options.max_ads)
        self.rows = len(written) + sum(len(reading.bad) for reading in self.readings)
        if self.bad and not options.skip_bad:
            raise _bad_rows(self.bad, self.rows)
        self.asked = [it for it in self.asked if it.answers]
        self.systems = {name: it for name, it in self.systems.items() if it.outcomes}
        if not self.asked:
            raise _bad_rows(self.bad, self.rows)
        for name in self.systems:
            check_label(name)
        if options.baseline is not None and options.baseline not in self.systems:
            raise UnknownName("baseline", options.baseline, self.systems)
        self.bench = self.bench.model_copy(update={"n": len(self.asked)})
        ads: Sequence[Ad] = catalog if len(finder.ads) == len(catalog) else tuple(finder.ads.values())
        if not ads:
            raise InputError("no ads: catalog is none, and no row describes one")
        systems: dict[str, Any] = dict(self.systems)
        self.plan: Plan = checked._replace(
            options=self.bench,
            mechanisms=systems,
            catalog=ads,
            queries=WrittenQueries(it.session.questions[0].text for it in self.asked),
        )
        self.notes = tuple(_notes(self, options))
        self.warning = _no_ads(self, options)


def facts_of_scoring(task: Task, parts: Parts, hashes: Mapping[str, str], options: ScoreOptions) -> dict[str, Any]:
    """The facts of a benchmark's manifest, with what was scored."""
    writes = options.reference == "model"
    return {
        **facts_of(task.plan, parts, hashes),
        "ad_llm": parts.ad_llm.name if writes else None,
        "self_judged": False,
        "reference": _reference(task.sources, options),
        "scored": {
            "rows": task.rows,
            "bad": len(task.bad),
            "first_bad": task.bad[:_KEPT],
            "columns": {source.name: source.columns for source in task.sources},
            "notes": list(task.notes),
        },
    }


def _bench_options(options: ScoreOptions) -> BenchOptions:
    """The options that a scoring shares with a benchmark."""
    shared = {name: getattr(options, name) for name in ScoreOptions.model_fields if name in BenchOptions.model_fields}
    if options.llm == "embedded" and not _asks_llm(options):
        shared["llm"] = "scripted"  # it is asked nothing, and takes no seconds to load
    if options.catalog == NO_CATALOG:
        shared["catalog"] = BenchOptions.model_fields["catalog"].default
    return BenchOptions(**shared, horizon=1)


def _asks_llm(options: ScoreOptions) -> bool:
    judges = options.judge == "llm" and options.judge_llm is None
    return judges or options.reference == "model" or options.quality not in ("embedded", "llm", "none")


def _bad_rows(bad: Sequence[str], rows: int) -> DataFileError:
    said = "; ".join(bad[:_SHOWN]) + (f"; and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else "")
    return DataFileError(
        f"{len(bad)} of {rows} rows cannot be scored: {said}",
        hint="the option skip_bad leaves them out and counts them",
    )


def _reference(sources: Sequence[Source], options: ScoreOptions) -> str:
    if options.reference in REFERENCES:
        return str(options.reference)
    return "column" if any("reference" in source.columns for source in sources) else "none"


def _notes(task: Task, options: ScoreOptions) -> Iterable[str]:
    """How the rows were read, and what was drawn."""
    for source, reading in zip(task.sources, task.readings, strict=True):
        yield _note(source, reading)
    written = [it for asked in task.asked for it in asked.answers.values()]
    drawn = sum(it.persona is None for it in written)
    if drawn:
        yield f"users: {drawn} of {len(written)} answers name none: drawn from {options.personas}, by the question"
    ads = [(it, ad_id) for it in written for ad_id in {place.ad.id for place in it.places}]
    for name, otherwise in (("bid", "the price, or 1 without a price"), ("price", "0"), ("value", "the bid")):
        missing = sum(ad_id not in it.money[name] for it, ad_id in ads)
        if missing:
            yield f"{name}: not given for {missing} of {len(ads)} ads shown, taken as {otherwise}"
    shown = {place.ad.id: place.ad for it in written for place in it.places}
    if bare := sum(not ad.body for ad in shown.values()):
        yield f"copy: {bare} of {len(shown)} ads have no body, so the factuality of what is said of them is unknown"
    reference = _reference(task.sources, options)
    if reference == "column":
        given = sum(it.reference is not None for it in written)
        yield f"reference: a column has it for {given} of {len(written)} answers"
    elif reference == "none":
        yield "reference: none, so quality loss is not known, and satisfaction is that of the answer by itself"


def _no_ads(task: Task, options: ScoreOptions) -> str | None:
    """A warning if no answer shows an ad, which may be the fault of the catalog."""
    if options.ads_as == "none" or any(it.places for asked in task.asked for it in asked.answers.values()):
        return None
    return (
        f"no answer shows an ad of the catalog {options.catalog}: give the catalog of these ads, or a column of ads "
        "(with catalog none, titles in it are enough)"
    )


def _note(source: Source, reading: Reading) -> str:
    columns = ", ".join(f"{name}={column}" for name, column in source.columns.items())
    ways = {
        "markup": "as mark-up",
        "links": "as Markdown links",
        "names": "by their names in the text",
        "list": "in a column",
        "none": "not read",
    }
    shown: dict[str, int] = dict.fromkeys(reading.forms, 0)
    for it in reading.answers:
        shown[it.system] += len({place.ad.id for place in it.places})
    text = f"{source.name}: {len(reading.answers)} answers; columns {columns}; "
    if len(set(reading.forms.values())) == 1:
        text += f"{sum(shown.values())} ads, {ways[next(iter(reading.forms.values()))]}"
    else:
        text += ", ".join(f"{shown[it]} ads of {it} {ways[form]}" for it, form in reading.forms.items())
    if reading.plain_links:
        text += f" ({reading.plain_links} links lead to no ad)"
    return text + (f"; not read: {', '.join(source.unread)}" if source.unread else "")
