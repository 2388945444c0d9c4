"""Who judges: the one place that decides it, for environments, runs, audits, training and validation alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from simenv import registry
from simenv.abilities import AsksModels
from simenv.encoder import Encoder, default_encoder
from simenv.errors import InputError, UnknownName
from simenv.judges.base import JUDGE, HasVariants, Judge
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import load_world
from simenv.judges.embedded_judge import EmbeddedJudge
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import make_llm
from simenv.llm.base import LLM, Capability
from simenv.registry import Lazy, Spec

FindLLM = Callable[[str], LLM]


def asks_user_llm(name: str) -> bool:
    """Whether the judge of this name may ask a User-LLM: all but the click model, in any world, and embedded."""
    return name.partition(":")[0] not in ("click", "embedded")


def pick_user_llm(name: str, llm: LLM | None, ad_llm: LLM | None) -> LLM | None:
    """The language model that plays the users: it writes their queries, and judges if the judge is an LLM.

    Args:
        name: The judge's name, as in `make_judge`.
        llm: The model that was named for it, if one was.
        ad_llm: The model that writes the answers, if there is one.

    Returns:
        The model that was named; else the Ad-LLM, where the judge is "llm" or the Ad-LLM follows formats; else None:
        frozen queries, and the click model judges. None for the judges click and embedded.

    Raises:
        InputError: click or embedded with a language model.
    """
    if not asks_user_llm(name):
        if llm is not None:
            raise InputError(f"the judge {name} asks no User-LLM, got {llm.name!r}: the judge llm does")
        return None
    if llm is not None:
        return llm
    return ad_llm if ad_llm is not None and (name == "llm" or ad_llm.follows_formats) else None


def make_judge(
    name: str = "auto",
    *,
    llm: str | LLM | None = None,
    ad_llm: LLM | None = None,
    ensemble: Sequence[str] = (),
    samples: int = 1,
    encoder: Encoder | None = None,
    find_llm: FindLLM | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Judge:
    """Builds a judge by name.

    Args:
        name: "click" (the click model on the embedded encoder), "click:WORLD" (the same in another world: rare,
            labels, fatigue or a .toml file), "embedded" (likelihoods of the embedded model and cosines of the encoder),
            "llm" (a language model), package.module:Class, file.py:Class, or "auto": an LLM judge where `pick_user_llm`
            finds a model, else the click model.
        llm: The User-LLM, or its name as in `make_llm`.
        ad_llm: The model that writes the answers; it may play the users too, see `pick_user_llm`.
        ensemble: Names of the members of a `JudgeEnsemble`, instead of `name`: judges, or language models, each with
            "#VARIANT" for one of its variants, for instance "openai/gpt-4o-mini#wording2".
        samples: Verdicts per answer of language models that give no probabilities; see `LLMJudge`.
        encoder: Text encoder; the embedded one by default.
        find_llm: Builds a language model from its name; `make_llm` by default.
        options: Options of judges by their name.

    Raises:
        UnknownName: another name or variant.
        InputError: an unknown language model, "click" or "embedded" with a language model, or an ensemble of fewer
            than two.
        MissingWeights: the embedded encoder or model is needed and not installed.
        MissingCapability: the language model can neither judge freely nor under constraints.
    """
    if ensemble and name != "auto":
        raise InputError(f"judge and judge_ensemble exclude each other, got {name!r} and {','.join(ensemble)!r}")
    find: FindLLM = cache(find_llm or make_llm)
    user_llm = pick_user_llm(name, find(llm) if isinstance(llm, str) else llm, ad_llm)
    context: dict[str, Any] = {
        "encoder": Lazy(default_encoder) if encoder is None else encoder,
        "embedded_llm": Lazy(lambda: find("embedded")),
        "samples": samples,
        "llm": user_llm if user_llm is not None else Lazy(lambda: find("embedded")),
        "user_llm": user_llm,
    }

    def build(member: str) -> Judge:
        return registry.find(JUDGE, member, (options or {}).get(member)).build(context)

    if not ensemble:
        return build(name if name != "auto" else "click" if user_llm is None else "llm")
    return JudgeEnsemble([_member(spec, build, find, samples) for spec in ensemble])


def click_judge(encoder: Encoder, world: str = "v1") -> ClickModel:
    """Click model: clicks with known probabilities, in world v1, rare, labels, fatigue or a .toml file: click:WORLD."""
    return ClickModel(encoder, load_world(world))


def check_click_world(judge: Spec[Judge]) -> None:
    """Reads the world of a click judge that was found, so that a wrong file is refused before anything slow is built.

    Raises:
        SimenvError: as `load_world`. Nothing for other judges.
    """
    if judge.factory is click_judge and "world" in judge.options:
        load_world(judge.options["world"])


def llm_judge(llm: LLM, samples: int = 1, frame: bool | None = None, wording: int = 1) -> LLMJudge:
    """A language model reads the answer as the persona and gives verdicts in JSON, with reasons."""
    if frame is None:
        # A frame costs two calls an ad instead of one an answer; it gives probabilities where the model knows its own.
        known = all(llm.can(it) for it in (Capability.CONSTRAINT, Capability.PREFILL, Capability.LOGPROBS))
        frame = known or None
    return LLMJudge(llm, samples=samples, frame=frame, wording=wording)


def embedded_judge(embedded_llm: LLM, encoder: Encoder, wording: int = 1) -> EmbeddedJudge:
    """Clicks from cosines of the encoder and likelihoods of the embedded language model; reads no persona traits."""
    return EmbeddedJudge(embedded_llm, encoder, wording=wording)


def self_judging(judge: Judge, writer: LLM) -> str | None:
    """A warning if the model that writes the answers is among those that judge them, else None."""
    llms = judge.llms if isinstance(judge, AsksModels) else ()
    if writer.address not in [llm.address for llm in llms]:
        return None
    return (
        f"{writer.name} writes the answers and judges them: models favour their own text (Panickssery et al. 2024), "
        "so clicks may flatter it"
    )


def _member(spec: str, build: Callable[[str], Judge], find_llm: FindLLM, samples: int) -> Judge:
    """A judge of an ensemble: NAME or NAME#VARIANT, where NAME is a judge or a language model."""
    name, _, variant = spec.partition("#")
    judge = build(name) if registry.is_name_of(JUDGE, name) else llm_judge(find_llm(name), samples)
    if not variant:
        return judge
    variants = judge.variants if isinstance(judge, HasVariants) else {}
    if variant not in variants:
        raise UnknownName(f"variant of the judge {name}", variant, variants)
    return variants[variant]
