"""Click logs as training data: one row per shown ad."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simenv.errors import InputError
from simenv.records import Transition

if TYPE_CHECKING:
    import pandas

CLICK_COLUMNS = {
    "mechanism": "string",
    "auction_id": "string",
    "index": "int64",  # position of the auction in its run
    "turn": "int64",  # position of the query in the persona's session
    "persona_id": "string",
    "profile": "string",  # the user as the platform sees it
    "query": "string",
    "response": "string",  # the whole answer, with mark-up
    "ad_id": "string",
    "ad_title": "string",
    "ad_body": "string",
    "ad_category": "string",
    "bid": "float64",  # currency per click
    "price": "float64",  # currency per click
    "position": "int64",  # 0 = first ad of the answer
    "span_start": "int64",
    "span_end": "int64",
    "clicked": "boolean",  # null = the judge abstained
    "click_prob": "float64",  # null = the judge does not know it
    "reason": "string",
}
"""Columns of the clicks format, with their pandas types."""


def click_rows(transitions: Iterable[Transition]) -> list[dict[str, Any]]:
    """One dictionary per shown ad, keys as in CLICK_COLUMNS."""
    rows = []
    for t in transitions:
        bids = {bid.ad.id: bid for bid in t.auction.bids}
        pairs = zip(t.outcome.placements, t.feedback.clicks, strict=True)
        for position, (placement, click) in enumerate(pairs):
            bid = bids[placement.ad_id]
            rows.append(
                {
                    "mechanism": t.mechanism,
                    "auction_id": t.auction.id,
                    "index": t.index,
                    "turn": t.turn,
                    "persona_id": t.persona_id,
                    "profile": t.auction.profile,
                    "query": t.auction.query.text,
                    "response": t.outcome.response,
                    "ad_id": placement.ad_id,
                    "ad_title": bid.ad.title,
                    "ad_body": bid.ad.body,
                    "ad_category": bid.ad.category,
                    "bid": bid.amount,
                    "price": placement.price,
                    "position": position,
                    "span_start": placement.span[0],
                    "span_end": placement.span[1],
                    "clicked": click.clicked,
                    "click_prob": click.click_prob,
                    "reason": click.reason,
                }
            )
    return rows


def click_frame(transitions: Iterable[Transition]) -> pandas.DataFrame:
    """The rows as a DataFrame with the types of CLICK_COLUMNS, also when there are none."""
    import pandas

    frame = pandas.DataFrame(click_rows(transitions), columns=list(CLICK_COLUMNS))
    return frame.astype(CLICK_COLUMNS)


def export_clicks(transitions: Iterable[Transition], out: str | Path) -> int:
    """Writes the click log to a .parquet or .jsonl file and returns the number of rows.

    Raises:
        InputError: another ending, a folder that does not exist, or a file that cannot be written.
    """
    out = Path(out)
    if out.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{out}: ending {out.suffix!r} is not written here, expected .parquet or .jsonl")
    if not out.parent.is_dir():
        raise InputError(f"{out}: folder {out.parent} does not exist")
    frame = click_frame(transitions)
    part = out.with_name(f"{out.name}.part")  # a failed write leaves what was there before
    try:
        if out.suffix == ".parquet":
            frame.to_parquet(part, index=False)
        else:
            frame.to_json(part, orient="records", lines=True, force_ascii=False, double_precision=15)
        part.replace(out)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from None
    return len(frame)
