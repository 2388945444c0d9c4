"""The machine that a run is on, as far as the answers of a local model depend on it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from simenv.llm import LLM


def machine_of(llms: Iterable[LLM]) -> dict[str, Any]:
    """Returns `cpu` (its name), and `threads` and `device` of local models: both None where none runs."""
    here = any(getattr(llm, "runs_here", False) for llm in llms)
    torch = sys.modules.get("torch") if here else None  # loaded with the model
    gpu = torch is not None and torch.cuda.is_available()
    return {
        "cpu": _cpu(),
        "threads": torch.get_num_threads() if torch is not None else None,
        "device": None if torch is None else torch.cuda.get_device_name() if gpu else "cpu",
    }


def other_machine(now: Mapping[str, Any], before: Any) -> str | None:
    """Warns where a local model goes on on another machine, or with other threads; None where the bytes are the same.

    Args:
        now: The machine that the run goes on on.
        before: That of the manifest, or None if it has none.
    """
    if now["threads"] is None or not isinstance(before, Mapping):
        return None
    changed = [name for name in now if before.get(name) != now[name]]
    if not changed:
        return None
    differing = "; ".join(f"{name} was {before.get(name)}, is {now[name]}" for name in changed)
    return (
        f"the run goes on on another machine ({differing}): a local model's answers may differ from those that the "
        "first one would have given"
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
