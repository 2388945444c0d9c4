"""The sentence encoder on one thread: onnxruntime in batches against transformers text by text, and against itself.

python -m benchmarks.speed.encoder

Texts are those of the simulation: queries of personas, ads of the catalog, and whole answers, here of several sentences
of ads. No vector is known before. The last claim is what batches bring: the same texts, two at a time, as an auction
asks for them, and 16 auctions' texts together.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.speed.measure import Aim, compare
from simenv.encoder import MiniLM
from simenv.llm.torch_env import set_torch_defaults
from simenv.llm.weights import encoder_path
from simenv.market.catalog import load_catalog
from simenv.text import sentences
from simenv.users.personas import load_personas

TEXTS = 96
"""Texts of a round."""


class TextByText:
    """The encoder as it was: transformers on one thread, a text at a time."""

    def __init__(self) -> None:
        set_torch_defaults()
        import torch
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(1)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(encoder_path())
        self._model: Any = AutoModel.from_pretrained(encoder_path()).eval()

    def encode(self, texts: Sequence[str]) -> list[npt.NDArray[np.float32]]:
        import torch

        vectors = []
        with torch.inference_mode():
            for text in texts:
                read = self._tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
                pooled = self._model(**read).last_hidden_state[0].mean(0)
                vectors.append((pooled / pooled.norm()).numpy())
        return vectors


def kinds() -> dict[str, list[str]]:
    """Texts by kind."""
    ads = load_catalog()
    bodies = [ad.body for ad in ads]
    return {
        "queries": [query for persona in load_personas() for query in persona.queries],
        "ad cards": [ad.text for ad in ads],
        "whole answers": [" ".join(bodies[i : i + 4]) for i in range(0, len(bodies) - 4, 2)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    new, old = MiniLM(), TextByText()
    for kind, texts in kinds().items():
        sample = [texts[i * len(texts) // TEXTS] for i in range(TEXTS)]
        tokens = np.mean([len(new._tokenizer.encode(text).ids) for text in sample])
        worst = np.abs(np.stack(new._forward(sample)) - np.stack(old.encode(sample))).max()
        compare(
            f"encoder on one thread: {kind}",
            "texts/s",
            {
                "onnxruntime, batches": rate(new._forward, sample),
                "transformers, text by text": rate(old.encode, sample),
            },
            aim=Aim(2),
            rounds=rounds,
            note=f"{tokens:.0f} tokens a text; numbers of the vectors differ by at most {worst:.1g}.",
        )
    sample = [sentence for ad in load_catalog() for sentence in sentences(ad.body)][:TEXTS]
    pairs = [sample[i : i + 2] for i in range(0, TEXTS, 2)]
    compare(
        "encoder on one thread: texts of 16 auctions in common batches, or two by two",
        "texts/s",
        {
            "common batches": rate(new._forward, sample),
            "two by two": rate(lambda texts: [new._forward(pair) for pair in pairs], sample),
        },
        rounds=rounds,
        note="Sentences of ads.",
    )


def rate(encode: Callable[[Sequence[str]], object], texts: Sequence[str]) -> Callable[[], float]:
    def once() -> float:
        started = time.perf_counter()
        encode(texts)
        return len(texts) / (time.perf_counter() - started)

    return once


if __name__ == "__main__":
    main()
