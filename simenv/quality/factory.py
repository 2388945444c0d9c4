"""Quality measures by name."""

from __future__ import annotations

from simenv.encoder import Encoder
from simenv.errors import InputError, UnknownName
from simenv.llm.base import LLM
from simenv.quality.embedded import EmbeddedQuality, QualityMeasure
from simenv.quality.likelihood import LikelihoodQuality
from simenv.quality.llm_quality import LLMQuality

QUALITIES = ("none", "embedded", "likelihood", "llm")


def make_quality(name: str, encoder: Encoder, llm: LLM | None = None) -> QualityMeasure | None:
    """Builds a quality measure by name.

    Args:
        name: "embedded" (embeddings), "likelihood" (these, and how a language model expects the ad sentences), "llm"
            (a language model grades by a rubric: one more call an answer) or "none".
        encoder: For the embedded measures.
        llm: For "likelihood", a model that scores continuations; for "llm", a capable one.

    Raises:
        UnknownName: another name than these.
        InputError: a language model is needed and there is none, or it is not capable.
        MissingCapability: the model cannot score continuations.
    """
    if name not in QUALITIES:
        raise UnknownName("quality measure", name, QUALITIES)
    if name in ("none", "embedded"):
        return EmbeddedQuality(encoder) if name == "embedded" else None
    if llm is None:
        whose = "a capable User-LLM" if name == "llm" else "a language model"
        raise InputError(f"quality {name} needs {whose}, and there is none", hint="embedded needs no model")
    return LLMQuality(llm) if name == "llm" else LikelihoodQuality(EmbeddedQuality(encoder), llm)
