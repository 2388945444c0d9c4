"""A fake reply as a stream of server-sent events, as OpenAI's protocol has them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any


def as_stream(completion: Mapping[str, Any]) -> bytes:
    """The body of a streamed completion: one event per word of the text, then the finish reason, usage and the end."""
    return b"".join(b"data: " + text.encode() + b"\n\n" for text in [*map(json.dumps, _chunks(completion)), "[DONE]"])


def _chunks(completion: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    head = {**{key: completion[key] for key in ("id", "created", "model")}, "object": "chat.completion.chunk"}
    for choice in completion["choices"]:
        message = {**choice["message"]}
        text = message.pop("content", None) or ""
        deltas = [message, *({"content": piece} for piece in re.findall(r"\s*\S+\s*", text))]
        for delta in deltas:
            yield {**head, "choices": [{"index": choice["index"], "delta": delta, "finish_reason": None}]}
        end = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield {**head, "choices": [end]}
    if "usage" in completion:
        yield {**head, "choices": [], "usage": completion["usage"]}
