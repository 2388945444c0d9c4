"""Options of a model behind a server: what each request asks for beside the prompt."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, ValidationError, field_validator

from simenv.errors import InputError
from simenv.llm.requests import Sampling
from simenv.records import Record
from simenv.secrets import masked_fields

_NEXT = re.compile(r",(?=\s*[A-Za-z_]+\s*=)")
_OURS = ("messages", "model", "n", "stream", "response_format", "seed", "stop")
"""Fields of a request that `extra_body` may not have: they decide what is asked, or in which form it is answered."""


class ServerOptions(Record):
    """What a server is asked for; None: what the mechanism or judge asks for, or the server's own default."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    """Instead of the caller's."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Instead of the caller's."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Instead of the caller's: most tokens per completion, with those of reasoning."""
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    extra_body: dict[str, JsonValue] = Field(default_factory=dict)
    """Further fields of the request, for instance {"chat_template_kwargs": {"enable_thinking": false}}."""

    @field_validator("extra_body")
    @classmethod
    def _nothing_of_ours(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(value.keys() & {*_OURS, *cls.model_fields}):
            raise ValueError(f"may not have {', '.join(taken)}, which simenv sets itself")
        return value

    def applied(self, sampling: Sampling) -> Sampling:
        """The sampling with the options that are given."""
        given = {name: value for name in ("temperature", "top_p", "max_tokens") if (value := getattr(self, name))}
        if self.temperature is not None:
            given["temperature"] = self.temperature
        return sampling.model_copy(update=given) if given else sampling

    @property
    def fields(self) -> dict[str, Any]:
        """The other options that are given: fields of the request."""
        beside = self.model_dump(exclude_none=True, exclude={"temperature", "top_p", "max_tokens"})
        return {name: value for name, value in beside.items() if value != {}}

    @cached_property
    def key(self) -> str:
        """`fields` as JSON, to tell requests apart, without secrets; empty without any."""
        return json.dumps(masked_fields(self.fields), sort_keys=True, ensure_ascii=False) if self.fields else ""


def server_options(given: Mapping[str, Any], name: str = "llm_options") -> ServerOptions:
    """Reads options.

    Args:
        given: Option -> value.
        name: How messages call the options.

    Raises:
        InputError: an unknown option, or a value that no server takes.
    """
    try:
        return ServerOptions.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0])
        if first["type"] == "extra_forbidden":
            known = ", ".join(ServerOptions.model_fields)
            hint = "other fields of a request go into extra_body"
            raise InputError(f"{name}: unknown option {option!r}: known are {known}", hint=hint) from None
        said = first["msg"].removeprefix("Value error, ")
        said = said[:1].lower() + said[1:]
        raise InputError(f"{name}: {option}: {said}, got {first['input']!r:.80}") from None


def _parsed(value: object) -> object:
    """JSON of an object, or OPTION=VALUE,... with values in JSON or words."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise ValueError(f"expected JSON or OPTION=VALUE,...: {error}") from None
    options: dict[str, Any] = {}
    for pair in _NEXT.split(text) if text else ():
        name, is_pair, said = pair.partition("=")
        name = name.strip()
        if not is_pair or not name:
            raise ValueError(f"expected JSON or OPTION=VALUE,..., got {pair.strip()!r:.60}")
        if name in options:
            raise ValueError(f"{name} is given twice")
        try:
            options[name] = json.loads(said)
        except ValueError:
            options[name] = said.strip()
    return options


OptionsByName = Annotated[dict[str, JsonValue], BeforeValidator(_parsed)]
"""Options as a mapping, or as text of a command line: JSON, or OPTION=VALUE,..."""
