"""Language models behind one async interface: `make_llm(name)` builds one, `await llm.complete(...)` asks it.

simenv.llm imports records, files and errors only; torch, transformers and litellm are loaded when a model is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simenv import registry
from simenv.errors import InputError
from simenv.llm.base import (
    LLM,
    PLAIN,
    Capability,
    Combine,
    Combined,
    Completion,
    Constraint,
    EnsembleCompletion,
    JSONSchema,
    Key,
    LabelledLinks,
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    Sampling,
    metered,
)
from simenv.llm.scripted import ScriptedLLM
from simenv.llm.server_options import server_options as read_server_options
from simenv.registry import Kind

LANGUAGE_MODEL: Kind[LLM] = Kind("llm", "simenv.llms", ("complete",), "completes prompts")


def make_llm(
    name: str = "embedded",
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
    trust_remote_code: bool = False,
    options: Mapping[str, Any] | None = None,
    server_options: Mapping[str, Any] | None = None,
) -> LLM:
    """Builds a language model from its name.

    Args:
        name: "embedded" (SmolLM2-135M-Instruct on this machine), "scripted" (filler text, no model), "local:FOLDER"
            (any transformers model on disk), package.module:Class, file.py:Class, or a LiteLLM name such as
            "openai/gpt-4o-mini".
        api_base: Server URL, for LiteLLM names.
        api_key: Key, for LiteLLM names; by default the provider's environment variable.
        concurrency: Most calls in flight, for LiteLLM names.
        timeout: Seconds per call, for LiteLLM names.
        trust_remote_code: Run code of a local model's folder, for local:FOLDER.
        options: The model's own options.
        server_options: What each request asks for, for LiteLLM names: temperature, max_tokens, reasoning_effort and
            others of `simenv.llm.server_options.ServerOptions`.

    Raises:
        InputError: the name has none of these forms, or an option is wrong.
        MissingWeights: the embedded model is not installed.
    """
    check_server_options(name, server_options or {})
    server: dict[str, Any] = {"api_base": api_base, "api_key": api_key, "concurrency": concurrency, "timeout": timeout}
    server["trust_remote_code"] = trust_remote_code
    if registry.is_name_of(LANGUAGE_MODEL, name):
        return registry.find(LANGUAGE_MODEL, name, options).build(server)
    if "/" not in name:
        known = ", ".join(name for name in registry.names(LANGUAGE_MODEL) if name != "local")
        raise InputError(
            f"unknown language model {name!r}: expected {known}, local:FOLDER, PROVIDER/MODEL for LiteLLM, "
            "package.module:Class or file.py:Class"
        )
    from simenv.llm.hosted import HostedLLM

    hosted = {"model": name, "server_options": server_options, **(options or {})}
    return registry.Spec(LANGUAGE_MODEL, name, HostedLLM, hosted).build(server)


def check_server_options(name: str, given: Mapping[str, Any], role: str = "llm_options") -> None:
    """Checks the options of a model's server, before the model is built.

    Args:
        name: The model's name.
        given: Its options.
        role: How messages call them.

    Raises:
        InputError: the model is not behind a server, or an option is wrong.
    """
    read_server_options(given, role)
    if given and registry.is_name_of(LANGUAGE_MODEL, name):
        asked = "its sampling is that of the mechanisms and judges that ask it"
        raise InputError(f"{name} is no model behind a server: it takes no {role}; {asked}")


__all__ = [
    "LANGUAGE_MODEL",
    "LLM",
    "PLAIN",
    "Capability",
    "Combine",
    "Combined",
    "Completion",
    "Constraint",
    "EnsembleCompletion",
    "JSONSchema",
    "Key",
    "LabelledLinks",
    "LinksOnly",
    "OneOf",
    "Prompt",
    "Request",
    "Sampling",
    "ScriptedLLM",
    "make_llm",
    "metered",
]
