"""How long a server asks to wait, in each of the forms that servers use."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from simenv.llm.rate_limits import asked_wait, duration

NOW = 1_700_000_000.0
NO_REQUESTS = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}
NO_TOKENS = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1.5s"}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "17"}, 17),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-5"}, 0),
        ({"retry-after": "soon"}, 0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:40 GMT"}, 20),
        ({"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0),
        ({"retry-after-ms": "120", "retry-after": "1"}, 0.12),
        (NO_REQUESTS, 360),
        (NO_TOKENS, 1.5),
        ({**NO_REQUESTS, **NO_TOKENS}, 360),
        ({**NO_REQUESTS, "retry-after": "2"}, 2),
        ({**NO_REQUESTS, "x-ratelimit-remaining-requests": "1"}, 0),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        ({**NO_REQUESTS, "x-ratelimit-reset-requests": "whenever"}, 0),
    ],
    ids=str,
)
def test_what_headers_ask_for(headers: Mapping[str, str], seconds: float) -> None:
    assert asked_wait(headers, now=NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("17", 17),
        ("120ms", 0.12),
        ("1.5s", 1.5),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("1d", 86400),
        ("", None),
        ("ms", None),
        ("5 s", None),
        ("1e3s", None),
    ],
)
def test_durations(said: str, seconds: float | None) -> None:
    assert duration(said) == (None if seconds is None else pytest.approx(seconds))
