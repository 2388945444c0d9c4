"""Reads what models write: the answer without the reasoning before it, and JSON with the usual small faults."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TAG = re.compile(r"<(?P<closing>/?)think(?:ing)?>", re.IGNORECASE)
_FINAL = "<|channel|>final<|message|>"
_JSON_START = re.compile(r"""[\[{]\s*[\["{]""")
_MAX_STARTS = 100
"""Places at which a JSON value is looked for, so that no reply takes long to read."""

_LOOSE = re.compile(
    r""" "(?:[^"\\]|\\.)*"                      # a string
       | '(?P<single>(?:[^'\\]|\\.)*)'          # a string in single quotes
       | (?P<comma>,)(?=\s*[\]}])               # a comma after the last item
       | \\.                                    # an escape outside of strings; else each of many would begin a string
       | \b(?P<python>True|False|None)\b """,
    re.VERBOSE | re.DOTALL,
)


def without_reasoning(text: str) -> str:
    """The answer in a reply that shows the model's reasoning too; the reply itself if it shows none.

    Removes `<think>...</think>` in any case, everything before a lone `</think>`, everything after a lone `<think>`,
    and all channels but the final one. Tags inside a JSON value belong to the answer.
    """
    if "<|channel|>" in text:
        _, final, answer = text.rpartition(_FINAL)
        return re.split(r"<\|(?:end|return|start|channel)\|>", answer)[0].strip() if final else ""
    if not _TAG.search(text) or _is_json(text):
        return text
    values = list(_json_values(text))
    kept: list[str] = []
    start, depth = 0, 0
    for tag in _TAG.finditer(text):
        if any(first < tag.start() < last for first, last in values):
            continue
        if tag["closing"]:
            # A closing tag alone ends reasoning that began before the reply: chat templates may write "<think>".
            if not depth:
                kept.clear()
            depth = 0
        else:
            if not depth:
                kept.append(text[start : tag.start()])
            depth = 1
        start = tag.end()
    return "".join(kept if depth else [*kept, text[start:]]).strip()


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True


def _json_values(text: str) -> Iterator[tuple[int, int]]:
    """Where objects and arrays of JSON begin and end in a text."""
    decoder, at = json.JSONDecoder(strict=False), 0
    for _ in range(_MAX_STARTS):
        found = _JSON_START.search(text, at)
        if found is None:
            return
        try:
            _, at = decoder.raw_decode(text, found.start())
            yield found.start(), at
        except (ValueError, RecursionError):
            at = found.start() + 1


def read_json(text: str) -> Any:
    """Parses JSON, also with line breaks in strings, a trailing comma, single quotes, or True, False and None.

    Raises:
        ValueError: it is not JSON, or an object has two different values under one name.
    """
    text = text.strip().strip("\ufeff\u200b").strip()
    try:
        try:
            return _parse(text)
        except json.JSONDecodeError:
            return _parse(_LOOSE.sub(_strict, text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def _parse(text: str) -> Any:
    return json.loads(text, strict=False, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    for name, value in pairs:
        if fields[name] != value:
            raise ValueError(f"two values under {name!r}: {value!r} and {fields[name]!r}")
    return fields


def _strict(found: re.Match[str]) -> str:
    if found["single"] is not None:
        # \' is no escape of JSON's, and a double quote needs one
        return '"' + re.sub(r'\\.|"', lambda c: {"\\'": "'", '"': '\\"'}.get(c[0], c[0]), found["single"]) + '"'
    if found["comma"]:
        return ""
    if found["python"]:
        return {"True": "true", "False": "false", "None": "null"}[found["python"]]
    return found[0]


def with_joined_parts(completion: dict[str, Any]) -> dict[str, Any]:
    """A chat completion; where its messages have a list of parts as content, with their text instead.

    Parts that are not text, such as reasoning, are left out.
    """
    try:
        messages = [choice["message"] for choice in completion["choices"]]
        parts = [message["content"] for message in messages]
    except (TypeError, KeyError):
        return completion
    if not parts or not all(isinstance(content, list) for content in parts):
        return completion
    for message, content in zip(messages, parts, strict=True):
        texts = [part.get("text") if isinstance(part, dict) else part for part in content]
        message["content"] = "".join(text for text in texts if isinstance(text, str))
    return completion


def start_of(text: str) -> str:
    """The first 200 characters, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]}..."
