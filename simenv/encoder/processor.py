"""Which vector instructions the processor has: they decide the order of sums, and so the last bits of a vector."""

from __future__ import annotations

import platform
from pathlib import Path

_DECISIVE = ("avx", "avx2", "fma", "f16c", "avx512", "amx", "asimd", "sve", "bf16", "i8mm")


def vector_instructions() -> str:
    """The machine's architecture and those flags of its processor that choose kernels of linear algebra."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux: the processor's name stands for its flags
        return f"{platform.machine()} {platform.processor()}"
    flags = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return " ".join([platform.machine(), *sorted(flag for flag in flags if flag.startswith(_DECISIVE))])
