"""Exports a run's log as a dataset: one row per shown ad, or a format of `simenv.datasets.training_data`.

Each exported file gets a dataset card, FILE.md, with columns, counts and the source run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from simenv.datasets.dataset_card import dataset_card
from simenv.datasets.training_data import kto_rows, preference_rows, sft_rows
from simenv.errors import InputError
from simenv.files.atomic import replacing, write_bytes_atomically
from simenv.files.folders import try_file
from simenv.records import Transition
from simenv.runs.folder import read_transitions

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
    "propensity": "float64",  # probability with which the mechanism drew this answer; null = it did not log it
}
"""Columns of the clicks format, with their pandas types."""

Format = Literal["clicks", "preferences", "sft", "kto"]
FORMATS: tuple[Format, ...] = get_args(Format)


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
                    "propensity": logged_number(t, "propensity"),
                }
            )
    return rows


def click_frame(transitions: Iterable[Transition]) -> pandas.DataFrame:
    """Returns the rows as a DataFrame with the types of CLICK_COLUMNS, also without rows."""
    import pandas

    frame = pandas.DataFrame(click_rows(transitions), columns=list(CLICK_COLUMNS))
    return frame.astype(CLICK_COLUMNS)


def logged_number(transition: Transition, name: str) -> float | None:
    """Returns a finite number that the mechanism logged in its details, or None."""
    value = transition.outcome.details.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def export_clicks(transitions: Iterable[Transition], out: str | Path) -> int:
    """Writes the click log to a .parquet or .jsonl file and returns the number of rows.

    Raises:
        InputError: another file extension, a folder that does not exist, or a file that cannot be written.
    """
    out = writable(out)
    frame = click_frame(transitions)
    write_frame(frame, out)
    return len(frame)


def export_run(
    run: str | Path,
    out: str | Path,
    format: str = "clicks",
    *,
    min_gap: float | None = None,
    min_reward: float | None = None,
    left_out: Callable[[str], None] | None = None,
) -> int:
    """Writes a run's log in one of the FORMATS, with a dataset card at FILE.md, and returns the number of rows.

    Args:
        run: The folder of a run.
        out: A .parquet or .jsonl file.
        format: clicks, preferences, sft or kto; see `simenv.datasets.training_data` for the last three.
        min_gap: preferences only: the difference of rewards must exceed it, in currency per answer; 10 by default, the
            delta of LLM-Auction.
        min_reward: sft only: the best answer's reward must exceed it, in currency per answer; 0 by default.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        InputError: unknown format, option of another format, value out of range, run without a row in this format, or
            file that cannot be written.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}: known are {', '.join(FORMATS)}")
    for name, value, owner in (("min_gap", min_gap, "preferences"), ("min_reward", min_reward, "sft")):
        if value is not None and format != owner:
            raise InputError(f"{name} is an option of format {owner}, got format {format}")
        if value is not None and (not math.isfinite(value) or (name == "min_gap" and value < 0)):
            least = " of at least 0" if name == "min_gap" else ""
            raise InputError(f"{name} must be a finite number{least}, got {value}")
    out = writable(out)
    gap, reward = 10.0 if min_gap is None else min_gap, 0.0 if min_reward is None else min_reward
    lost: list[str] = []

    def leave_out(text: str) -> None:
        lost.append(text)
        if left_out is not None:
            left_out(text)

    transitions = list(read_transitions(run, left_out=None if left_out is None else leave_out))
    frame = _frame(transitions, format, gap, reward)
    options = {"preferences": f" --min-gap {gap:g}", "sft": f" --min-reward {reward:g}"}.get(format, "")
    options += " --sound-only" if lost else ""
    card = dataset_card(run, frame, transitions, out.name, format, options)
    write_frame(frame, out)
    write_bytes_atomically(out.with_name(f"{out.name}.md"), card.encode())
    return len(frame)


def _frame(transitions: list[Transition], format: str, min_gap: float, min_reward: float) -> pandas.DataFrame:
    import pandas

    if format == "clicks":
        return click_frame(transitions)
    if format == "preferences":
        return pandas.DataFrame(preference_rows(transitions, min_gap))
    return pandas.DataFrame(sft_rows(transitions, min_reward) if format == "sft" else kto_rows(transitions))


def writable(out: str | Path) -> Path:
    """Checks extension and folder of an export path, and returns it as a Path.

    Raises:
        InputError: another extension than .parquet or .jsonl, or a folder that does not exist.
        CannotWrite: the file cannot be written.
    """
    out = Path(out)
    if out.suffix not in (".parquet", ".jsonl"):
        raise InputError(f"{out}: cannot write files of type {out.suffix!r}, expected .parquet or .jsonl")
    try_file(out)
    return out


def write_frame(frame: pandas.DataFrame, out: Path) -> None:
    """Writes a frame in the format of the path's extension. A failed write leaves an existing file unchanged.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with replacing(out) as part:
        if out.suffix == ".parquet":
            frame.to_parquet(part, index=False)
        else:
            frame.to_json(part, orient="records", lines=True, force_ascii=False, double_precision=15)
