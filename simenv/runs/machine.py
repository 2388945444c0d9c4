"""The machine that a run is on, as far as its bytes depend on it.

Vectors of texts, and with them relevances and click probabilities, differ in their last bits between kinds of
processors: libraries choose their code by the instructions that a processor has. A local model's answers also depend on
the number of threads and on the device.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from simenv.llm import LLM

_NUMERIC = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")
"""How the names of instructions begin that numeric libraries choose their code by, on x86 and on ARM."""


def machine_of(llms: Iterable[LLM]) -> dict[str, Any]:
    """Describes this machine.

    Returns:
        `cpu`: the processor's name; `instructions`: its maker and the instructions that numeric libraries choose their
        code by; `libc`: the C library; `threads` (the processors, where PyTorch is not loaded) and `device` of local
        models: both None where none runs.
    """
    here = any(getattr(llm, "runs_here", False) for llm in llms)
    torch = sys.modules.get("torch")  # loaded with a model that runs on it
    gpu = torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else None
    threads = torch.get_num_threads() if torch is not None else os.cpu_count()
    return {
        "cpu": _of_cpu("model name") or platform.processor() or platform.machine(),
        "instructions": _instructions(),
        "libc": " ".join(platform.libc_ver()).strip(),
        "threads": threads if here else None,
        "device": (gpu or "cpu") if here else None,
    }


def bits_of(machine: Mapping[str, Any]) -> dict[str, Any]:
    """What the bytes of a run depend on, of a machine as `machine_of` describes it.

    Of a run with a local model, that is all of it. Where the instructions are unknown, the processor's name stands for
    them.
    """
    if machine.get("threads") is not None:
        return {name: machine.get(name) for name in ("cpu", "instructions", "libc", "threads", "device")}
    return {name: machine.get(name) for name in ("instructions" if machine.get("instructions") else "cpu", "libc")}


def other_machine(now: Mapping[str, Any], before: Any) -> str | None:
    """Warns where a run goes on on a machine that gives other bytes, or with other threads; otherwise None.

    Args:
        now: The machine that the run goes on on.
        before: That of the manifest, or None if it has none.
    """
    if not isinstance(before, Mapping):
        return None
    bits = bits_of(now)
    changed = [name for name in bits if name in before and before[name] != bits[name]]
    if not changed:
        return None
    differing = "; ".join(f"{name} was {before[name]}, is {bits[name]}" for name in changed)
    what = "a local model's answers" if now["threads"] is not None else "the last digits of numbers"
    return (
        f"the run goes on on another machine ({differing}): {what} may differ from those that the first one would have "
        "given"
    )


def _instructions() -> str:
    flags = (_of_cpu("flags") or _of_cpu("Features")).split()
    return " ".join([_of_cpu("vendor_id"), *sorted(flag for flag in flags if flag.startswith(_NUMERIC))]).strip()


@cache
def _of_cpu(field: str) -> str:
    """A field of the first processor in Linux's list; "" if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0] == field), "")
