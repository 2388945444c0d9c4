"""Damages good files: bytes at any place, and values of JSON at any place of its structure."""

from __future__ import annotations

import json
import random
from typing import Any

_TOKENS = [
    b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0", b"9" * 400, b"9" * 5000, b"1e-400", b"{}", b"[]",
    b"[" * 2000, b'{"a":' * 2000, b'"', b"'", b"\\", b"\\ud800", b"\\u0000", b",", b";", b"\t", b"|", b"\n", b"\r\n",
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe2\x80\xae", b"\xf3\xa0\x81\x81", b"\x1f\x8b\x08", b"PAR1",
    b"@", b"#", b"=", b"%s", b"{}{}", b"__class__", b" " * 300, b"x" * 5000,
]  # fmt: skip
_VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 7, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf"), "", " ", "x", "1",
    "\n", "\u202e", "\ud800", "x" * 3000, [], {}, [[]], [None], {"": None}, {"a": {"a": {}}}, ["x"] * 50,
]  # fmt: skip


def damaged(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The content with one to four changes. Parts of `others` are spliced in."""
    if rng.random() < 0.5 and (changed := _other_values(content, rng)) is not None:
        content = changed
        if rng.random() < 0.7:
            return content
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(content))
        end = min(len(content), at + rng.choice([1, 1, 2, 8, 64, 4096]))
        change = rng.randrange(7)
        if change == 0:
            content = content[:at]
        elif change == 1:
            content = content[:at] + content[end:]
        elif change == 2:
            content = content[:at] + rng.choice(_TOKENS) + content[at:]
        elif change == 3:
            content = content[:at] + rng.choice(_TOKENS) + content[end:]
        elif change == 4:
            content = content[:end] + content[at:end] * rng.randint(1, 3) + content[end:]
        elif change == 5:
            other = rng.choice(others)
            start = rng.randint(0, len(other))
            content = content[:at] + other[start : start + rng.choice([4, 64, 4096])] + content[end:]
        elif content:
            at = min(at, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :]
    return content


def _other_values(content: bytes, rng: random.Random) -> bytes | None:
    """The content with another value at a place of its JSON, or of one of its lines of JSON; None if it has none."""
    lines = content.split(b"\n") if content.count(b"\n") > 1 and content.startswith(b'{"') else [content]
    places = [n for n, line in enumerate(lines) if line.strip()]
    if not places:
        return None
    at = rng.choice(places)
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return None
    lines[at] = json.dumps(_changed(value, rng)).encode()
    return b"\n".join(lines)


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        rest = {key: item for key, item in value.items() if key != name}
        kind = rng.random()
        if kind < 0.1:
            return rest
        if kind < 0.2:
            return {**rest, rng.choice(["", "x", name.upper(), f"{name} "]): value[name]}
        return {**value, name: _changed(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:place] + value[place + 1 :]
        return [*value[:place], _changed(value[place], rng), *value[place + 1 :]]
    return rng.choice(_VALUES)
