"""The precision of a model on torch, on processors with and without instructions for bfloat16."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from simenv.llm import torch_runtime
from simenv.llm.local import LocalLLM
from simenv.llm.torch_runtime import dtype_for


class FakeProcessor:
    """A processor that says whether it has instructions for bfloat16."""

    def __init__(self, bfloat16: bool) -> None:
        self.bfloat16 = bfloat16

    def __call__(self) -> bool:
        return self.bfloat16


@pytest.mark.parametrize(("bfloat16", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_the_precision_is_what_the_processor_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, tiny: Path, bfloat16: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch_runtime, "cpu_has_bfloat16", FakeProcessor(bfloat16))
    llm = LocalLLM(tiny, device="cpu")
    assert llm._model.dtype == getattr(torch, dtype)
    assert llm.arithmetic == f"torch {dtype}"
    assert dtype_for("cpu", "float32") == "float32"
    assert dtype_for("cuda") == "bfloat16"


def test_the_processor_can_be_asked() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    assert torch_runtime.cpu_has_bfloat16() or "avx512_bf16" not in flags
