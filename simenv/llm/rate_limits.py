"""How long a server asks to wait: Retry-After, retry-after-ms and the x-ratelimit headers of its replies."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

_PART = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)(?P<unit>ms|s|m|h|d|)")
_SECONDS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def asked_wait(headers: Mapping[str, str], now: float | None = None) -> float:
    """Seconds until the server wants the next request; 0 if it does not say.

    Args:
        headers: A reply's headers, in lower case unless the mapping does not tell cases apart.
        now: The present time, seconds since the epoch.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    said = headers.get("retry-after")
    seconds = _number(said)
    if seconds is not None:
        return seconds
    if said is not None:
        try:
            at = parsedate_to_datetime(said).timestamp()
        except (ValueError, TypeError, OverflowError):
            return _until_reset(headers)
        return max(0.0, at - (time.time() if now is None else now))
    return _until_reset(headers)


def _until_reset(headers: Mapping[str, str]) -> float:
    """Seconds until the limits that are used up are reset."""
    waits = [0.0]
    for limit in ("requests", "tokens"):
        left = _number(headers.get(f"x-ratelimit-remaining-{limit}"))
        if left == 0:
            waits.append(duration(headers.get(f"x-ratelimit-reset-{limit}") or "") or 0.0)
    return max(waits)


def duration(said: str) -> float | None:
    """Seconds of a duration such as "6m0s", "120ms", "1.5s" or "17"; None if it is none."""
    parts = list(_PART.finditer(said))
    if not parts or "".join(part[0] for part in parts) != said:
        return None
    return sum(float(part["number"]) * _SECONDS[part["unit"]] for part in parts)


def _number(said: str | None) -> float | None:
    """A number that is not negative; None if it is none."""
    found = _PART.fullmatch((said or "").strip())
    return float(found["number"]) if found is not None and not found["unit"] else None
