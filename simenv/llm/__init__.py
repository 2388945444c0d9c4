"""Language models behind one async seam: `make_llm(name)` gives one, `await llm.complete(...)` uses it."""

from __future__ import annotations

import os

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
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    Sampling,
    metered,
)
from simenv.llm.scripted import ScriptedLLM


def make_llm(
    name: str = "embedded",
    *,
    api_base: str | None = None,
    api_key: str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
) -> LLM:
    """Builds a language model from its name.

    Args:
        name: "embedded" (SmolLM2-135M-Instruct on this machine), "scripted" (filler text, no model), "local:FOLDER"
            (any transformers model on disk), or a LiteLLM name such as "openai/gpt-4o-mini".
        api_base: Server URL, for LiteLLM names.
        api_key: Key, for LiteLLM names; by default the provider's environment variable.
        concurrency: Most calls in flight, for LiteLLM names.
        timeout: Seconds per call, for LiteLLM names.

    Raises:
        InputError: the name has none of these forms.
        MissingWeights: the embedded model is not installed.
    """
    if name == "scripted":
        return ScriptedLLM()
    if name == "embedded":
        from simenv.llm.local import LocalLLM
        from simenv.llm.weights import embedded_path

        return LocalLLM(embedded_path(), name="embedded", follows_formats=False)
    if name.startswith("local:"):
        from simenv.llm.local import LocalLLM

        return LocalLLM(os.path.expanduser(name.removeprefix("local:")))
    if "/" in name:
        from simenv.llm.hosted import HostedLLM

        return HostedLLM(name, api_base=api_base, api_key=api_key, concurrency=concurrency, timeout=timeout)
    raise InputError(
        f"unknown language model {name!r}: expected embedded, scripted, local:FOLDER, or PROVIDER/MODEL for LiteLLM"
    )


__all__ = [
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
    "LinksOnly",
    "OneOf",
    "Prompt",
    "Request",
    "Sampling",
    "ScriptedLLM",
    "make_llm",
    "metered",
]
