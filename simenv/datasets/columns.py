"""The columns of each export format: types, which every file of the format has, and meanings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import pyarrow

Format = Literal["clicks", "preferences", "sft", "kto"]
FORMATS: tuple[Format, ...] = get_args(Format)
Type = Literal["string", "int64", "float64", "bool", "strings", "messages"]
"""strings: a list of texts; messages: a list of {"role", "content"}."""

COLUMNS: Mapping[str, Mapping[str, Type]] = {
    "clicks": {
        "mechanism": "string",
        "auction_id": "string",
        "index": "int64",
        "session_id": "string",
        "turn": "int64",
        "persona_id": "string",
        "profile": "string",
        "query": "string",
        "response": "string",
        "ad_id": "string",
        "ad_title": "string",
        "ad_body": "string",
        "ad_category": "string",
        "bid": "float64",
        "bid_unit": "string",
        "shown": "bool",
        "price": "float64",
        "transfer": "float64",
        "position": "int64",
        "span_start": "int64",
        "span_end": "int64",
        "clicked": "bool",
        "click_prob": "float64",
        "reason": "string",
        "conversion_prob": "float64",
        "converted": "bool",
        "conversion_value": "float64",
        "propensity": "float64",
    },
    "preferences": {
        "prompt": "messages",
        "chosen": "messages",
        "rejected": "messages",
        "gap": "float64",
        "chosen_reward": "float64",
        "rejected_reward": "float64",
        "mechanisms": "strings",
        "source": "string",
        "auction_id": "string",
    },
    "sft": {
        "prompt": "messages",
        "completion": "messages",
        "reward": "float64",
        "mechanism": "string",
        "auction_id": "string",
    },
    "kto": {
        "prompt": "messages",
        "completion": "messages",
        "reward": "float64",
        "label": "bool",
        "mean_reward": "float64",
        "mechanism": "string",
        "source": "string",
        "auction_id": "string",
    },
}
"""Format -> column -> type. Rows have every column; a cell without a value is null."""

MEANINGS: Mapping[str, str] = {
    "mechanism": "label of the mechanism in the run; several gave the same text where joined by +",
    "mechanisms": "those of the chosen and of the rejected answer",
    "auction_id": "unique in the run",
    "index": "position of the auction in its run",
    "session_id": "the persona's session, unique in the run",
    "turn": "position of the query in the session, from 0",
    "persona_id": "whose query it is",
    "profile": "the user as the platform sees it",
    "query": "what the user typed",
    "response": "the whole answer, with mark-up",
    "ad_id": "the ad shown, or a candidate that was not shown",
    "ad_title": "its link text",
    "ad_body": "its advertiser's copy",
    "ad_category": "its product category",
    "bid": "currency per click, or per view",
    "bid_unit": "what the bid is for: click, or view (the price is then 0, and the payment a transfer)",
    "shown": "false = a candidate that was not shown (only with the option `candidates`)",
    "price": "currency per click, charged if clicked; null = not shown",
    "transfer": "currency for this auction, charged whether clicked or not; negative = the platform pays",
    "position": "0 = first ad of the answer; null = not shown",
    "span_start": "where its mark-up begins in the response, in characters; null = not shown",
    "span_end": "where it ends, exclusive; null = not shown",
    "clicked": "null = the judge abstained, or not shown",
    "click_prob": "null = the judge does not know it, or not shown",
    "reason": "the judge's",
    "conversion_prob": "probability that a click converts; null = the run has no conversions, or not shown",
    "converted": "the click converted; null = the judge abstained, not shown, or the run has no conversions",
    "conversion_value": "currency, as the advertiser reports it of a click that converted; null = it did not",
    "propensity": "probability with which the mechanism drew this answer; null = it did not log it",
    "prompt": "system and user message: the one-call ad prompt, with the bids",
    "chosen": "one assistant message: the answer of higher reward",
    "rejected": "one assistant message: the answer of lower reward",
    "completion": "one assistant message: the answer",
    "label": "true: reward positive and above the mean of its rivals; false: below that mean",
    "gap": "chosen_reward - rejected_reward, currency per answer",
    "chosen_reward": "currency per answer",
    "rejected_reward": "currency per answer",
    "reward": "currency per answer",
    "mean_reward": "mean reward of the rivals, currency per answer",
    "source": "judge: rewards as judged (expected over clicks where known); candidates: a mechanism's own predictions",
}
"""Column -> meaning."""

_PANDAS = {"string": "string", "int64": "Int64", "float64": "float64", "bool": "boolean"}


def schema(format: str) -> pyarrow.Schema:
    """The Arrow schema of a format, with the types of nullable columns for pandas."""
    import pandas
    import pyarrow

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    types = {
        "string": pyarrow.string(),
        "int64": pyarrow.int64(),
        "float64": pyarrow.float64(),
        "bool": pyarrow.bool_(),
        "strings": pyarrow.list_(pyarrow.string()),
        "messages": pyarrow.list_(message),
    }
    columns = COLUMNS[format]
    empty = pandas.DataFrame({name: pandas.Series(dtype=_PANDAS.get(kind, "object")) for name, kind in columns.items()})
    told = pyarrow.Schema.from_pandas(empty, preserve_index=False).metadata
    return pyarrow.schema([(name, types[kind]) for name, kind in columns.items()], metadata=told)
