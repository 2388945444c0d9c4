"""LiteLLM, which takes seconds to import: only where it is needed."""

from __future__ import annotations

import os
import warnings
from typing import Any


def load_litellm() -> Any:
    """LiteLLM, imported without a download and without messages of its own."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise the import downloads a price list
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # The client warns, in its own words, of every reply that is not exactly of OpenAI's types.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    warnings.filterwarnings("ignore", message="Item .* on TypedDict class", category=UserWarning)  # of its own types
    return litellm


def dollars(price: Any, **arguments: Any) -> float:
    """What LiteLLM's function says, 0 if it knows no price."""
    try:
        return max(0.0, float(price(**arguments) or 0.0))
    except Exception:  # for a model without a listed price, LiteLLM may raise any exception
        return 0.0
