"""The kernels that torch keeps are bounded: memory of a long run must not grow with the lengths of its prompts."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A layer in the embedded model's precision, on inputs of 300 lengths, the first once more, and the last once more.
SCRIPT = """
from simenv.llm.torch_env import set_torch_defaults
if {limited}:
    set_torch_defaults()
import torch
layer = torch.nn.Linear(32, 32).bfloat16()
with torch.inference_mode():
    for rows in [*range(100, 400), 100, 399]:
        print("rows", rows, flush=True)
        layer(torch.zeros(rows, 32, dtype=torch.bfloat16))
print("rows end")
"""


def builds_again(limited: bool) -> dict[str, bool]:
    """Whether the kernel of the first and of the last length is built anew when that length comes again."""
    env = {"ONEDNN_VERBOSE": "profile_create", "PATH": "", "OMP_NUM_THREADS": "1"}  # none of the caller's own limits
    command = [sys.executable, "-c", SCRIPT.format(limited=limited)]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    parts = said.split("rows ")
    if "cache_miss" not in parts[1]:
        pytest.skip("this processor's torch does not multiply through oneDNN")
    return {"first": "cache_miss" in parts[-3], "last": "cache_miss" in parts[-2]}


def test_kernels_of_shapes_long_past_are_dropped() -> None:
    assert builds_again(limited=False) == {"first": False, "last": False}, "torch itself keeps them all"
    assert builds_again(limited=True) == {"first": True, "last": False}
