"""The numbers of an advertiser's report, as a table with one row per number."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from simenv.files.blocks import csv_text
from simenv.stats import Estimate

if TYPE_CHECKING:
    import pandas

ALL = ""
"""Stands for all advertisers together."""
COLUMNS = (
    *("mechanism", "advertiser", "name", "by", "of", "metric", "unit", "value", "low", "high", "least", "most"),
    *("impressions", "abstained", "personas", "expected_over_clicks"),
)


class Line(NamedTuple):
    """One number of the report."""

    mechanism: str
    advertiser: str
    """The ad's id or the advertiser's name, as asked for; "" for all ads together."""
    by: str
    """total, position, category, topic, or "without" for what changes if the ad is taken away."""
    of: str
    """Which position, category or topic."""
    metric: str
    unit: str
    estimate: Estimate
    bounds: tuple[float, float] | None
    """Smallest and largest value, where the judge abstained."""
    impressions: int
    abstained: int
    """Impressions without a verdict."""
    personas: int
    """Users who saw an ad of the row."""


def to_csv(lines: Iterable[Line], names: Mapping[str, str], expected: bool, *, for_spreadsheets: bool = False) -> str:
    """One row per number; what is not known is empty.

    Args:
        lines: The numbers.
        names: Ad id -> its advertiser's name.
        expected: Whether they are expectations over click probabilities.
        for_spreadsheets: Whether names that begin like a formula get an apostrophe.
    """
    text = csv_text if for_spreadsheets else str
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in lines:
        named = (line.mechanism, line.advertiser, names.get(line.advertiser, ""))
        said = (line.by, line.of, line.metric, line.unit)
        numbers = ("" if math.isnan(number) else repr(number) for number in line.estimate.numbers)
        counts = (line.impressions, line.abstained, line.personas, expected)
        writer.writerow([*map(text, named), *map(text, said), *numbers, *(line.bounds or ("", "")), *counts])
    return out.getvalue()


def to_frame(lines: Iterable[Line], names: Mapping[str, str], expected: bool) -> pandas.DataFrame:
    """The rows of the .csv file as a pandas DataFrame; what is not known is NaN."""
    import pandas

    texts = dict.fromkeys(("mechanism", "advertiser", "name", "by", "of", "metric", "unit"), str)
    content = io.StringIO(to_csv(lines, names, expected))
    frame = pandas.read_csv(content, keep_default_na=False, na_values=[""], dtype=texts)
    return frame.fillna(dict.fromkeys(texts, ""))
