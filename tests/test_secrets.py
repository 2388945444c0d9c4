"""What is masked, and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from simenv.errors import LLMRefused
from simenv.secrets import is_masked, masked, masked_fields, remember


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://h:1/v1", "http://h:1/v1"),
        ("at http://me:pw@h/v1 now", "at http://***@h/v1 now"),
        ("'https://token@h/v1'", "'https://***@h/v1'"),
        ("http://h/v1?key=abc&api-version=2&sig=x%2F", "http://h/v1?key=***&api-version=2&sig=***"),
        ('{"url": "http://h/v1?key=abc"}', '{"url": "http://h/v1?key=***"}'),
        ("(http://h/?key=abc)", "(http://h/?key=***)"),
        ("Bearer abcdefgh1234 is wrong", "Bearer *** is wrong"),
        ("the bearer of news", "the bearer of news"),
        ("me@example.org asks: a=b?", "me@example.org asks: a=b?"),
        ("@Boots@[ad-1]", "@Boots@[ad-1]"),
    ],
)
def test_addresses_show_no_secrets(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown
    assert str(LLMRefused("refused", hint=text)) == f"refused ({shown})"


def test_keys_are_masked_and_placeholders_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "of-the-environment")
    monkeypatch.setenv("OTHER_API_KEY", "ollama")
    remember("given-as-argument")
    remember("none")
    said = "none ollama given-as-argument of-the-environment"
    assert masked(said) == "none ollama *** ***"


def test_options_keep_all_but_the_values_of_secrets() -> None:
    options: dict[str, Any] = {
        "api_base": "http://h/v1?key=abc",
        "llm_options": {"max_tokens": 9, "extra_body": {"access_token": "abc", "tokens": "abc", "keywords": "abc"}},
        "settings": ("gsp.n=8", "openai/x.api_key=abc"),
        "mechanisms": ("gsp",),
        "n": 3,
        "api_key": "",
    }
    shown = masked_fields(options)
    assert shown == {
        **options,
        "api_base": "http://h/v1?key=***",
        "llm_options": {"max_tokens": 9, "extra_body": {"access_token": "***", "tokens": "abc", "keywords": "abc"}},
        "settings": ("gsp.n=8", "openai/x.api_key=***"),
    }
    assert [name for name, value in shown.items() if is_masked(name, value)] == ["api_base", "llm_options", "settings"]
    assert not any(is_masked(*item) for item in options.items())
    assert not is_masked("settings", ("gsp.prompt=*** be brief ***",))
