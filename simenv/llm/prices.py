"""What a completion costs, from LiteLLM's list of prices.

LiteLLM takes seconds to import. It is imported once a model's name is in the list: a server of one's own has no price.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simenv.llm.litellm_library import dollars, load_litellm

_LIST = "model_prices_and_context_window_backup.json"


def cost_of(completion: Mapping[str, Any], model: str) -> float:
    """Dollars for a chat completion, 0 for a model without a listed price.

    Args:
        completion: The completion.
        model: The model that was asked for; the completion may name another.
    """
    names = [name for name in (completion.get("model"), model) if isinstance(name, str)]
    listed = next((name for name in names if _is_listed(name)), None)
    if listed is None:
        return 0.0
    litellm = load_litellm()
    reply = litellm.ModelResponse(**completion)
    return dollars(litellm.completion_cost, completion_response=reply, model=listed, custom_llm_provider="openai")


def _is_listed(model: str) -> bool:
    base = ":".join(model.split(":")[:2]) if model.startswith("ft:") else model  # fine-tuned: ft:MODEL:owner:...
    return base in _listed()


@cache
def _listed() -> frozenset[str]:
    """Names of OpenAI's models that have a price."""
    spec = find_spec("litellm")
    folders = spec.submodule_search_locations if spec else None
    try:
        text = Path(next(iter(folders or ())), _LIST).read_text(encoding="utf-8")
        return frozenset(name for name, facts in json.loads(text).items() if facts.get("litellm_provider") == "openai")
    except (OSError, StopIteration, ValueError, AttributeError):  # another LiteLLM keeps its list elsewhere
        return frozenset()
