"""Click logs: a run's folder, the export of its clicks, or somebody's own table."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simenv.datasets.columns import COLUMNS
from simenv.encoder import Encoder, default_encoder
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.files.columns import known_rows
from simenv.files.rows import as_text, require, to_record
from simenv.files.tables import Row
from simenv.fitting.arrays import Answer, Impressions, impressions
from simenv.judges.click_measures import AdMeasures, AnswerMeasures, Measurer
from simenv.judges.click_worlds import ClickParams, world_v1
from simenv.one_thread import one_thread
from simenv.records import Ad, Auction, Bid, Outcome, Persona, Placement, Query, Traits
from simenv.runs.folder import read_sessions, read_transitions
from simenv.runs.log import LeftOut
from simenv.runs.manifest import MANIFEST
from simenv.users.personas import load_personas

MOST_OFFERS = 400
"""The appeals of so many offers are fitted."""
_TRAITS = ("ad_tolerance", "price_sensitivity", "patience")
READ: tuple[str, ...] = (
    *("persona_id", "clicked", "auction_id", "mechanism", "query", "response", "shown"),
    *("ad_id", "ad_title", "ad_body", "ad_category", "ad_advertiser"),
    *("position", "words_before", "span_start", "span_end", *_TRAITS),
)
"""Columns of a table that are read; persona_id and clicked must be there."""
_KNOWN = (*READ, *(name for name in COLUMNS["clicks"] if name not in READ))
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_VERDICTS: Mapping[str, bool | None] = {"true": True, "1": True, "false": False, "0": False, "": None, "none": None}


class ClickLog(NamedTuple):
    """A click log, measured."""

    name: str
    impressions: Impressions


def read_click_log(
    path: str | Path,
    *,
    world: ClickParams | None = None,
    columns: Mapping[str, str] | None = None,
    personas: str | Path | None = None,
    mechanism: str | None = None,
    encoder: Encoder | None = None,
    left_out: LeftOut | None = None,
) -> ClickLog:
    """Reads a click log, and measures its answers.

    Args:
        path: The folder of a run, or a .csv, .tsv, .jsonl or .parquet file with one row per shown ad and the columns
            `READ`. Without query and ad_title nothing is known of relevance and price, without response nothing of the
            wording; rank is then `position` and the words before an ad `words_before`.
        world: The world whose cues measure the answers; v1 by default.
        columns: Our column name -> the file's.
        personas: Pack or file in which the traits of a table's personas are looked up, if it has no columns for them.
        mechanism: Only the answers of this mechanism.
        encoder: Text encoder; the embedded one by default.
        left_out: Called with what is left out of a damaged run; None: a damaged run is an error.

    Raises:
        DataFileError: the log cannot be read; or a row that cannot, with its field.
        UnknownName: no answer of that mechanism.
        InputError: `columns` or `personas` for a run's folder.
        MissingWeights: the embedded encoder is needed and not installed.
    """
    measurer = Measurer(encoder or default_encoder(), (world or world_v1()).examples)
    if (Path(path) / MANIFEST).exists():
        if columns or personas:
            raise InputError(f"{path} is the folder of a run: it has its own columns and personas")
        answers = _of_run(path, measurer, mechanism, left_out)
    else:
        answers = _of_table(Path(path), measurer, columns, personas, mechanism)
    return ClickLog(Path(path).name, impressions(list(answers), most_offers=MOST_OFFERS))


def _of_run(
    folder: str | Path, measurer: Measurer, mechanism: str | None, left_out: LeftOut | None
) -> Iterator[Answer]:
    personas = {session.persona.id: session.persona for session in read_sessions(folder, left_out=left_out).values()}
    seen: set[str] = set()
    for t in read_transitions(folder, left_out=left_out):
        seen.add(t.mechanism)
        if t.error is not None or not t.outcome.placements or mechanism not in (None, t.mechanism):
            continue
        if t.persona_id not in personas:
            raise DataFileError(f"{folder}: the persona {t.persona_id!r} of an answer is in none of its sessions")
        with one_thread():
            measures = measurer(personas[t.persona_id], t.auction.answered(t.outcome), t.outcome)
        yield Answer(t.persona_id, measures, [click.clicked for click in t.feedback.clicks], t.auction.id)
    _refuse_unknown(mechanism, seen)


def _of_table(
    path: Path,
    measurer: Measurer,
    columns: Mapping[str, str] | None,
    personas: str | Path | None,
    mechanism: str | None,
) -> Iterator[Answer]:
    known = {persona.id: persona for persona in load_personas(personas)} if personas is not None else {}
    answers: dict[tuple[str, str], list[Row]] = {}
    seen: set[str] = set()
    for number, row in enumerate(known_rows(path, _KNOWN, ("persona_id",), columns, "columns", long=True)):
        if "clicked" not in row.fields:
            require(row, ("clicked",))
        label = str(row.fields.get("mechanism") or "")
        seen.add(label)
        if mechanism not in (None, label) or _verdict(row, "shown", True) is False:
            continue
        auction = row.fields.get("auction_id")
        answers.setdefault((label, f"row {number}" if auction in (None, "") else str(auction)), []).append(row)
    _refuse_unknown(mechanism, seen)
    first = min((_number(row, "position", 0.0) for rows in answers.values() for row in rows), default=0.0)
    for rows in answers.values():
        yield _answer(rows, measurer, known, int(first))


def _answer(rows: Sequence[Row], measurer: Measurer, known: Mapping[str, Persona], first: int) -> Answer:
    """One answer of a table. first: the position of an answer's first ad."""
    head = rows[0]
    same = str(head.fields.get("auction_id") or "")
    persona = _persona(head, known)
    verdicts = [_verdict(row, "clicked", None) for row in rows]
    texts = [str(head.fields.get(name) or "").strip() for name in ("query", "response")]
    ads = [_ad(row, i) for i, row in enumerate(rows)]
    if not texts[0] or not all(row.fields.get("ad_title") for row in rows):
        measured = [_unread(row, persona, ad) for row, ad in zip(rows, ads, strict=True)]
        cosines = np.eye(len(rows))
    else:
        query = to_record(head, Query, {"text": texts[0]})
        if texts[1]:
            auction = Auction(id="log", query=query, bids=tuple(Bid(ad=ad, amount=0.0) for ad in ads))
            with one_thread():
                return Answer(persona.id, measurer(persona, auction, _outcome(rows, ads)), verdicts, same)
        with one_thread():
            measured, cosines = measurer.offers(persona, query.text, ads), measurer.cosines(ads)
    placed = [
        ad._replace(
            rank=int(_number(row, "position", float(first + place))) - first,
            words_before=int(_number(row, "words_before", 0.0)),
        )
        for place, (ad, row) in enumerate(zip(measured, rows, strict=True))
    ]
    return Answer(persona.id, AnswerMeasures(persona.traits, tuple(placed), cosines, False, -1.0), verdicts, same)


def _unread(row: Row, persona: Persona, ad: Ad) -> AdMeasures:
    """An ad of which nothing is known but its name: relevance and price are as in the middle."""
    v1 = world_v1().attraction
    offer = str(row.fields.get("ad_title") or row.fields.get("ad_id") or "").lower()
    affinity = persona.traits.affinity.get(ad.category)
    return AdMeasures(ad.id, persona.id, ad.category, offer, v1.relevance_centre, affinity, 0.0, 0.0)


def _persona(row: Row, known: Mapping[str, Persona]) -> Persona:
    user = str(as_text(row.fields["persona_id"]))
    given = {name: row.fields[name] for name in _TRAITS if row.fields.get(name) not in (None, "")}
    base = known[user].traits if user in known else Traits()
    traits = to_record(row, Traits, {**base.model_dump(), **given})
    return Persona(id=user, info=user, traits=traits)


def _ad(row: Row, number: int) -> Ad:
    """The ad of a row. Ids are those of places: a log's own may be of any form."""
    cells = {name: str(as_text(row.fields.get(f"ad_{name}")) or "") for name in ("title", "body", "category", "id")}
    title = cells["title"] or cells["id"] or "ad"
    advertiser = str(row.fields.get("ad_advertiser") or title)  # a title that is only the advertiser's name is kept
    ad_id = cells["id"] if _ID.fullmatch(cells["id"]) else f"ad-{number + 1}"
    fields = {"id": ad_id, "advertiser": advertiser, "title": title, "body": cells["body"]}
    return to_record(row, Ad, {**fields, "category": cells["category"] or "general"})


def _outcome(rows: Sequence[Row], ads: Sequence[Ad]) -> Outcome:
    """The answer with every ad at its place: the span given, else the link, else the first mention of the title.

    An ad that is not found has no place: it is not intact.
    """
    response = str(rows[0].fields["response"])
    for row, ad in zip(rows, ads, strict=True):
        if ad.link not in response and row.fields.get("span_start") in (None, ""):
            response = response.replace(ad.title, ad.link, 1)
    placements = []
    for row, ad in zip(rows, ads, strict=True):
        start = response.find(ad.link)
        if row.fields.get("span_start") not in (None, ""):
            given = int(_number(row, "span_start", 0.0))
            start = given if response.startswith(ad.link, given) else start
        start = max(start, 0)
        placements.append(Placement(ad_id=ad.id, price=0.0, span=(start, start + len(ad.link))))
    return Outcome(response=response, placements=tuple(placements))


def _verdict(row: Row, name: str, missing: bool | None) -> bool | None:
    cell = row.fields.get(name, missing)
    cell = missing if cell is None else cell
    text = str(as_text(cell)).strip().lower()
    if text not in _VERDICTS:
        raise DataFileError(f"{row.where}: {name}: expected true, false, 1, 0 or nothing, got {cell!r:.80}")
    return _VERDICTS[text]


def _number(row: Row, name: str, missing: float) -> float:
    cell = row.fields.get(name)
    if cell in (None, ""):
        return missing
    try:
        number = float(str(cell))
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e9:
        raise DataFileError(f"{row.where}: {name}: expected a number of at least 0, got {cell!r:.80}")
    return number


def _refuse_unknown(mechanism: str | None, seen: Iterable[str]) -> None:
    if mechanism is not None and mechanism not in seen:
        raise UnknownName("mechanism of the log", mechanism, filter(None, seen))
