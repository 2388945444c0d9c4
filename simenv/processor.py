"""The processor: its name, and the instructions that numeric libraries choose their code by.

Other instructions add numbers in another order, so the last bits of vectors, and of all that comes of them, differ.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

_NUMERIC = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "bf16", "i8mm")
"""How the names of instructions begin that numeric libraries choose their code by, on x86 and on ARM."""


def processor_name() -> str:
    """The processor's name."""
    return _field("model name") or platform.processor() or platform.machine()


def numeric_instructions() -> str:
    """The processor's maker and its numeric instructions; "" where Linux's list does not tell them."""
    flags = (_field("flags") or _field("Features")).split()
    return " ".join([_field("vendor_id"), *sorted(flag for flag in flags if flag.startswith(_NUMERIC))]).strip()


@cache
def _field(name: str) -> str:
    """A field of the first processor in Linux's list; "" if there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0] == name), "")
