"""Judges by name."""

from __future__ import annotations

from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.llm import make_llm
from simenv.llm.base import LLM
from simenv.users.click_model import ClickModel
from simenv.users.judge import Judge
from simenv.users.llm_judge import LLMJudge

JUDGES = ("auto", "click", "llm")


def make_judge(
    name: str = "auto",
    *,
    llm: str | LLM = "embedded",
    api_base: str | None = None,
    concurrency: int = 16,
    timeout: float = 120.0,
) -> Judge:
    """Builds a judge by name, as `simenv bench` chooses it.

    Args:
        name: "click" (the click model on the embedded encoder), "llm" (a language model), or "auto": the language
            model if it is capable, else the click model.
        llm: The User-LLM, or its name as in `make_llm`.
        api_base, concurrency, timeout: See `make_llm`; of use only with a name.

    Raises:
        UnknownName: another name than these.
        InputError: an unknown language model, or "click" with a language model of one's own.
        MissingWeights: the embedded encoder or model is needed and not installed.
        MissingCapability: the language model can neither judge freely nor under constraints.
    """
    if name not in JUDGES:
        raise UnknownName("judge", name, JUDGES)
    if name == "click":
        if llm != "embedded" or api_base is not None:
            raise InputError(f"the click model asks no language model, got {llm!r}: use the judge llm for that")
        return ClickModel(default_encoder())
    user_llm = (
        make_llm(llm, api_base=api_base, concurrency=concurrency, timeout=timeout) if isinstance(llm, str) else llm
    )
    if name == "auto" and not user_llm.capable:
        return ClickModel(default_encoder())
    return LLMJudge(user_llm)
