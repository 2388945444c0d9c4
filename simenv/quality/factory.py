"""Quality measures by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simenv import registry
from simenv.encoder import Encoder, default_encoder
from simenv.errors import InputError
from simenv.llm.base import LLM
from simenv.quality.embedded import EmbeddedQuality, QualityMeasure
from simenv.quality.gem import GemQuality
from simenv.quality.gem_rubric import Rubric
from simenv.quality.likelihood import LikelihoodQuality
from simenv.quality.llm_quality import LLMQuality
from simenv.registry import Kind, Lazy

QUALITY: Kind[QualityMeasure] = Kind(
    "quality", "simenv.quality", ("measure",), "measures the quality of an answer, apart from its clicks"
)


def likelihood(encoder: Encoder, llm: LLM | None = None) -> LikelihoodQuality:
    """The embedded measures, and the surprise of the ad sentences to a language model."""
    if llm is None:
        raise InputError("quality likelihood needs a language model", hint="embedded needs none")
    return LikelihoodQuality(EmbeddedQuality(encoder), llm)


def rubric(user_llm: LLM | None = None) -> LLMQuality:
    """A language model grades the answer by a rubric; one additional call per answer."""
    if user_llm is None:
        raise InputError("quality llm needs a User-LLM that follows formats", hint="embedded needs none")
    return LLMQuality(user_llm)


def gem(encoder: Encoder) -> GemQuality:
    """The embedded measures, and GEM-Bench's quantities from sentence embeddings."""
    return GemQuality(encoder)


def gem_judged(encoder: Encoder, llm: LLM | None = None, user_llm: LLM | None = None) -> GemQuality:
    """The same, and GEM-Bench's six grades by a language model; six additional calls per answer."""
    judge = user_llm or llm
    if judge is None:
        raise InputError("quality gem_judged needs a language model", hint="gem needs none")
    return GemQuality(encoder, Rubric(judge))


def make_quality(
    name: str = "embedded",
    encoder: Encoder | None = None,
    *,
    llm: LLM | None = None,
    user_llm: LLM | None = None,
    options: Mapping[str, Any] | None = None,
) -> QualityMeasure | None:
    """Builds a quality measure by name.

    Args:
        name: "embedded" (sentence embeddings), "likelihood" (these, and how a language model expects the ad sentences),
            "llm" (a language model grades by a rubric), "gem" (GEM-Bench's quantities too), "gem_judged" (and its six
            grades), "none", package.module:Class or file.py:Class.
        encoder: Text encoder; the embedded one by default.
        llm: For "likelihood": a model that scores continuations. For "gem_judged": the judge if there is no `user_llm`.
        user_llm: For "llm": a model that follows formats. For "gem_judged": the judge.
        options: The measure's own options.

    Raises:
        UnknownName: another name.
        InputError: a language model is needed and missing, or it does not follow formats.
        MissingCapability: the model cannot score continuations.
    """
    if name == "none":
        return None
    context = {"encoder": Lazy(default_encoder) if encoder is None else encoder, "llm": llm, "user_llm": user_llm}
    return registry.find(QUALITY, name, options).build(context)
