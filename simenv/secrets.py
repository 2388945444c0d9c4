"""Masks keys and passwords in everything that is shown or written: errors, manifests, cassettes, tables, progress.

A manifest that names a server must not hold what opens it. Three things are secrets:

    user:password@ in a URL, and the values of its query but for API versions
    values under a name such as key, token, password or authorization
    keys that a client was given (`remember`), where a server repeats them
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

MASK = "***"
_SHORTEST = 8
"""Shorter keys are placeholders such as "none" or "ollama": they are no secrets, and common words."""

_USER = re.compile(r"(?<=://)[^\s/?#'\"@]*@")
_QUERY = re.compile(r"(?<=[?&])(?!api-version=)(?P<name>[\w.\-]+)=(?!\*\*\*)[^\s&#'\"\\)>]+")
_URL = re.compile(r"\w+://[^\s'\"]+")
_BEARER = re.compile(r"\b(?P<kind>Bearer|Basic) (?!\*\*\*)[\w.\-+/=~]{8,}", re.IGNORECASE)
_SECRET_NAME = re.compile(r"key|token|secret|passw|authorization|credential|signature", re.IGNORECASE)
_NO_SECRET_NAME = re.compile(r"tokens|keyword", re.IGNORECASE)
_SETTING = re.compile(r"(?P<name>[^=]*)=(?P<value>.*)", re.DOTALL)
_OF_ENVIRONMENT = re.compile(r"_(?:API_)?(?:KEY|TOKEN|SECRET)\Z")

_remembered: set[str] = set()


def remember(secret: str | None) -> None:
    """Masks `secret` wherever it occurs from now on, if it is long enough to be one."""
    if secret and len(secret) >= _SHORTEST:
        _remembered.add(secret)


def remember_url(url: str | None) -> None:
    """Remembers the password and the values of the query of `url`."""
    if not url:
        return
    parts = urlsplit(url)
    remember(parts.netloc.rpartition("@")[0].partition(":")[2])
    for pair in parts.query.split("&"):
        name, _, value = pair.partition("=")
        if name != "api-version":
            remember(value)


def remember_fields(fields: Mapping[str, Any]) -> None:
    """Remembers the values under names of secrets."""
    for name, value in fields.items():
        if isinstance(value, Mapping):
            remember_fields(value)
        elif isinstance(value, str) and is_secret_name(name):
            remember(value)


def masked_keys(text: str) -> str:
    """The text without keys that were remembered or are in the environment: for text whose URLs are no secrets."""
    for secret in sorted(_known(), key=len, reverse=True):  # one may be a part of another
        text = text.replace(secret, MASK)
    return text


def masked(text: str) -> str:
    """The text without secrets: those of URLs, and those of `masked_keys`."""
    text = masked_keys(text)
    text = _URL.sub(lambda url: _QUERY.sub(rf"\g<name>={MASK}", _USER.sub(f"{MASK}@", url[0])), text)
    return _BEARER.sub(rf"\g<kind> {MASK}", text)


def masked_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a manifest may hold them: without the secrets of URLs, and without values under the name of a secret.

    A setting "NAME.OPTION=VALUE" counts as a value under OPTION. Names and other values stay as they are.
    """
    return {name: _masked_value(name, value) for name, value in fields.items()}


def is_masked(name: str, value: Any) -> bool:
    """Whether `masked_fields` has masked a secret in the value of this name."""
    if isinstance(value, Mapping):
        return any(is_masked(*item) for item in value.items())
    if isinstance(value, list | tuple):
        return any(is_masked(name, each) for each in value)
    if not isinstance(value, str) or MASK not in value:
        return False
    unmasked = value.replace(MASK, "secret!!")  # is it what would be masked?
    return bool(_masked_value(name, unmasked) == value)


def _masked_value(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked_fields(value)
    if isinstance(value, list | tuple):
        return type(value)(_masked_value(name, each) for each in value)
    if not isinstance(value, str):
        return value
    if is_secret_name(name):
        return MASK if value else value
    setting = _SETTING.fullmatch(value) if name == "settings" else None
    if setting is not None and is_secret_name(setting["name"].rpartition(".")[2]):
        return f"{setting['name']}={MASK}"
    return masked(value) if "://" in value else value


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret."""
    return bool(_SECRET_NAME.search(_NO_SECRET_NAME.sub("", name)))


def _known() -> set[str]:
    named = (name for name in os.environ if name.endswith(("KEY", "TOKEN", "SECRET")) and _OF_ENVIRONMENT.search(name))
    return _remembered | {value for name in named if len(value := os.environ[name]) >= _SHORTEST}
