"""Judges by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.judges.base import Judge
from simenv.judges.click_model import ClickModel
from simenv.judges.embedded_judge import EmbeddedJudge
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import make_llm
from simenv.llm.base import LLM, Capability

JUDGES = ("auto", "click", "llm", "embedded")


def make_judge(
    name: str = "auto",
    *,
    llm: str | LLM = "embedded",
    ensemble: Sequence[str] = (),
    samples: int = 1,
    api_base: str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
    find_llm: Callable[[str], LLM] | None = None,
) -> Judge:
    """Builds a judge by name, as `simenv bench` chooses it.

    Args:
        name: "click" (the click model on the embedded encoder), "embedded" (likelihoods of the embedded model and
            cosines of the encoder), "llm" (a language model), or "auto": the language model if it is capable, else
            the click model.
        llm: The User-LLM, or its name as in `make_llm`.
        ensemble: Names of the members of a `JudgeEnsemble`, instead of `name`: click, embedded or a language model's
            name, each with "#VARIANT" for one of its variants, for instance "openai/gpt-4o-mini#wording2".
        samples: Of language models that give no probabilities; see `LLMJudge`.
        api_base, concurrency, timeout: See `make_llm`; of use only with a name.
        find_llm: Builds a language model from its name; `make_llm` with the options above by default.

    Raises:
        UnknownName: another name or variant than these.
        InputError: an unknown language model, "click" or "embedded" with a language model of one's own, or an
            ensemble of fewer than two.
        MissingWeights: the embedded encoder or model is needed and not installed.
        MissingCapability: the language model can neither judge freely nor under constraints.
    """
    if name not in JUDGES:
        raise UnknownName("judge", name, JUDGES)
    find = cache(find_llm or partial(make_llm, api_base=api_base, concurrency=concurrency, timeout=timeout))
    if ensemble:
        if name != "auto":
            raise InputError(f"give --judge or --judge-ensemble, got {name!r} and {','.join(ensemble)!r}")
        return JudgeEnsemble([_member(spec, find, samples) for spec in ensemble])
    if name in ("click", "embedded"):
        if llm != "embedded" or api_base is not None:
            raise InputError(
                f"the judge {name} asks no language model of yours, got {llm!r}: use the judge llm for that"
            )
        return _member(name, find, samples)
    user_llm = find(llm) if isinstance(llm, str) else llm
    if name == "auto" and not user_llm.follows_formats:
        return ClickModel(default_encoder())
    return _llm_judge(user_llm, samples)


def self_judging(judge: Judge, writer: LLM) -> str | None:
    """A warning if the model that writes the answers is among those that judge them, else None."""
    if writer.address not in [llm.address for llm in getattr(judge, "llms", ())]:
        return None
    return (
        f"{writer.name} writes the answers and judges them: models favour their own text (Panickssery et al. 2024), "
        "so clicks may flatter it"
    )


def _member(spec: str, find_llm: Callable[[str], LLM], samples: int) -> Judge:
    """A judge of an ensemble: NAME or NAME#VARIANT."""
    name, _, variant = spec.partition("#")
    judge: Judge
    if name == "click":
        judge = ClickModel(default_encoder())
    elif name == "embedded":
        judge = EmbeddedJudge(find_llm("embedded"), default_encoder())
    else:
        judge = _llm_judge(find_llm(name), samples)
    if not variant:
        return judge
    variants: dict[str, Judge] = getattr(judge, "variants", {})
    if variant not in variants:
        raise UnknownName(f"variant of the judge {name}", variant, variants)
    return variants[variant]


def _llm_judge(llm: LLM, samples: int) -> LLMJudge:
    # A frame costs two calls an ad instead of one an answer, and gives probabilities where the model knows its own.
    knows = all(llm.can(it) for it in (Capability.CONSTRAINT, Capability.PREFILL, Capability.LOGPROBS))
    return LLMJudge(llm, samples=samples, frame=knows or None)
