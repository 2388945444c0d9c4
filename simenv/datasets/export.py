"""Exports a run's log as a dataset: one row per shown ad, or a format of `simenv.datasets.training_data`.

Each exported file gets a dataset card, FILE.md, with columns, counts and the source run. Log and rows are streamed, so
memory does not grow with the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from simenv.datasets.columns import COLUMNS, FORMATS
from simenv.datasets.dataset_card import Counts, dataset_card
from simenv.datasets.front_matter import Part
from simenv.datasets.selection import Selection, make_selection
from simenv.datasets.training_data import NoRows, training_rows
from simenv.datasets.write import writable, write_rows
from simenv.errors import InputError, UnknownName
from simenv.files.atomic import write_bytes_atomically
from simenv.records import Bid, Transition
from simenv.runs.folder import read_transitions

CLICK_COLUMNS = COLUMNS["clicks"]
"""Columns of the clicks format, with their types."""


def click_rows(transitions: Iterable[Transition], *, candidates: bool = False) -> Iterator[dict[str, Any]]:
    """One dictionary per shown ad, keys as in CLICK_COLUMNS.

    Args:
        transitions: The log.
        candidates: Whether candidates that were not shown get rows too, after the ads of their answer.
    """
    for t in transitions:
        bids = {bid.ad.id: bid for bid in t.auction.bids}
        shown = zip(t.outcome.placements, t.feedback.clicks, strict=True)
        for position, (placement, click) in enumerate(shown):
            yield {
                **_row(t, bids[placement.ad_id]),
                "shown": True,
                "price": placement.price,
                "position": position,
                "span_start": placement.span[0],
                "span_end": placement.span[1],
                "clicked": click.clicked,
                "click_prob": click.click_prob,
                "reason": click.reason,
                "conversion_prob": click.conversion_prob,
                "converted": click.converted,
                "conversion_value": click.conversion_value if click.converted else None,
            }
        if candidates:
            nothing = dict.fromkeys(("price", "position", "span_start", "span_end", "clicked", "click_prob"))
            nothing |= dict.fromkeys(("conversion_prob", "converted", "conversion_value"))
            placed = {placement.ad_id for placement in t.outcome.placements}
            others = [bid for bid in t.auction.bids if bid.ad.id not in placed]
            yield from ({**_row(t, bid), **nothing, "shown": False, "reason": ""} for bid in others)


def _row(t: Transition, bid: Bid) -> dict[str, Any]:
    """What a shown ad and one that was not shown have in common."""
    return {
        "mechanism": t.mechanism,
        "auction_id": t.auction.id,
        "index": t.index,
        "session_id": t.auction.session_id,
        "turn": t.turn,
        "persona_id": t.persona_id,
        "profile": t.auction.profile,
        "query": t.auction.answered(t.outcome).query.text,
        "response": t.outcome.response,
        "ad_id": bid.ad.id,
        "ad_title": bid.ad.title,
        "ad_body": bid.ad.body,
        "ad_category": bid.ad.category,
        "bid": bid.amount,
        "bid_unit": bid.unit,
        "transfer": t.outcome.transfers.get(bid.ad.id, 0.0),
        "propensity": logged_number(t, "propensity"),
    }


def logged_number(transition: Transition, name: str) -> float | None:
    """Returns a finite number that the mechanism logged in its details, or None."""
    value = transition.outcome.details.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def export_clicks(transitions: Iterable[Transition], out: str | Path, *, candidates: bool = False) -> int:
    """Writes the click log to a .parquet or .jsonl file and returns the number of rows.

    Args:
        transitions: The log.
        out: The file; .parquet is added if it has no ending.
        candidates: As for `click_rows`.

    Raises:
        InputError: another file extension, a folder that does not exist, or a file that cannot be written.
    """
    return write_rows(click_rows(transitions, candidates=candidates), writable(out), "clicks")


def export_run(
    run: str | Path,
    out: str | Path | None = None,
    format: str = "clicks",
    *,
    min_gap: float | None = None,
    min_reward: float | None = None,
    candidates: bool = False,
    mechanisms: Sequence[str] = (),
    split: str | None = None,
    test_share: float | None = None,
    left_out: Callable[[str], None] | None = None,
) -> int:
    """Writes a run's log in one of the FORMATS, with a dataset card at FILE.md, and returns the number of rows.

    Answers that failed are left out; `failed_answers` counts them.

    Args:
        run: The folder of a run.
        out: A .parquet or .jsonl file; FORMAT.parquet by default.
        format: clicks, preferences, sft or kto; see `simenv.datasets.training_data` for the last three.
        min_gap: preferences only: the difference of rewards must exceed it, in currency per answer; 10 by default, the
            delta of LLM-Auction.
        min_reward: sft only: the best answer's reward must exceed it, in currency per answer; 0 by default.
        candidates: clicks only: rows for candidates that were not shown, too.
        mechanisms: Labels of the mechanisms whose answers are exported; all by default.
        split: train or test: only the answers to the personas of that part; all by default.
        test_share: Share of the personas in the test part, in (0, 1); 0.2 by default.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        InputError: unknown format, option of another format, value out of range, run without a row in this format, or
            file that cannot be written.
        UnknownName: the run has no mechanism of a label.
    """
    checked = check_export(format, min_gap=min_gap, min_reward=min_reward, candidates=candidates)
    selection = make_selection(mechanisms, split, test_share)
    out = writable(f"{format}.parquet" if out is None else out)
    lost: list[str] = []

    def leave_out(text: str) -> None:
        lost.append(text)
        if left_out is not None:
            left_out(text)

    counts = write_format(run, out, checked, selection, None if left_out is None else leave_out)
    options = checked.options() + selection.options() + (" --sound-only" if lost else "")
    part = Part(format, split or "train", out.name, counts.rows, out.stat().st_size)
    card = dataset_card(run, counts, part, options)
    write_bytes_atomically(out.with_name(f"{out.name}.md"), card.encode())
    return counts.rows


class Export(NamedTuple):
    """What is exported of the selected answers."""

    format: str
    min_gap: float
    min_reward: float
    candidates: bool

    def options(self) -> str:
        """The options of the command line that give it, with a space before each."""
        own = {"preferences": f" --min-gap {self.min_gap:g}", "sft": f" --min-reward {self.min_reward:g}"}
        return own.get(self.format, "") + (" --candidates" if self.candidates else "")


def check_export(
    format: str, *, min_gap: float | None = None, min_reward: float | None = None, candidates: bool = False
) -> Export:
    """Checks the options of an export; see `export_run`.

    Raises:
        InputError: unknown format, option of another format, or value out of range.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}: known are {', '.join(FORMATS)}")
    owners = (("min_gap", min_gap, "preferences"), ("min_reward", min_reward, "sft"))
    for name, value, owner in owners:
        if value is not None and format != owner:
            raise InputError(f"{name} is an option of format {owner}, got format {format}")
        if value is not None and (not math.isfinite(value) or (name == "min_gap" and value < 0)):
            least = " of at least 0" if name == "min_gap" else ""
            raise InputError(f"{name} must be a finite number{least}, got {value}")
    if candidates and format != "clicks":
        raise InputError(f"candidates is an option of format clicks, got format {format}")
    return Export(format, 10.0 if min_gap is None else min_gap, 0.0 if min_reward is None else min_reward, candidates)


def write_format(
    run: str | Path, out: Path, export: Export, selection: Selection, left_out: Callable[[str], None] | None = None
) -> Counts:
    """Writes a run's log in one format, without a card.

    Raises:
        NoRows: the selected answers give no row of a format other than clicks, or no answer is in the split.
        InputError, UnknownName: as `export_run`.
    """
    counts = Counts()
    selected = _selected(read_transitions(run, left_out=left_out), selection, counts)
    if export.format == "clicks":
        rows = click_rows(selected, candidates=export.candidates)
    else:
        auctions = (list(group) for _, group in groupby(selected, key=lambda t: t.index))
        rows = training_rows(export.format, auctions, min_gap=export.min_gap, min_reward=export.min_reward)
    counts.rows = write_rows(_counted(rows, counts), out, export.format)
    return counts


def failed_answers(run: str | Path, *, sound_only: bool = False) -> int:
    """Number of answers of a run that failed, and that no export has.

    Raises:
        DataFileError: the folder holds no run, or it cannot be read.
    """
    return sum(t.error is not None for t in read_transitions(run, left_out=_say_nothing if sound_only else None))


def _say_nothing(text: str) -> None:
    """The export has said it."""


def _selected(transitions: Iterable[Transition], selection: Selection, counts: Counts) -> Iterator[Transition]:
    """The answers of the selection that did not fail; all are counted.

    Raises:
        UnknownName: at the end, if no answer was of a mechanism of the selection.
    """
    last = None
    for t in transitions:
        counts.answers[t.mechanism] += t.error is None  # 0 for a mechanism that always failed
        if t.error is not None:
            counts.failed += 1
            continue
        counts.auctions += t.index != last  # those of an index follow each other in a log
        last = t.index
        counts.abstained += t.abstentions > 0
        if selection.takes(t.mechanism, t.persona_id):
            counts.selected += 1
            yield t
    for name in selection.mechanisms:
        if name not in counts.answers:
            raise UnknownName("mechanism of the run", name, counts.answers)
    if selection.split is not None and not counts.selected:
        raise NoRows(f"no answer is in the {selection.split} part: run more personas or change test_share")


def _counted(rows: Iterable[Mapping[str, Any]], counts: Counts) -> Iterator[Mapping[str, Any]]:
    last = None
    for row in rows:
        counts.auctions_with_rows += row["auction_id"] != last
        last = row["auction_id"]
        if "label" in row:
            counts.labels[row["label"]] += 1
        yield row
