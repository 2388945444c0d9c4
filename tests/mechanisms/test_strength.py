"""`rewrite` with a strength: the contrast of two distributions, and what a model's text has to keep to."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mechanisms.rewrite import Rewrite
from mechanisms.strength import NEEDED, Contrast, level
from simenv import check_mechanism
from simenv.errors import InputError, MissingCapability
from simenv.llm import Capability, EnsembleCompletion, Request, ScriptedLLM
from simenv.llm.base import Combine, EnsembleRequest
from simenv.mechanism import run_mechanism
from simenv.records import Outcome
from tests.support.auctions import make_auction

AUCTION = make_auction([30.0, 60.0, 10.0], max_ads=2)
ORGANIC = "Take your time. Compare two or three."


class Joint(ScriptedLLM):
    """A fake model whose joint decoding writes `rest` with the link of the ad in place of LINK."""

    def __init__(self, rest: str, *, finish: str = "stop", follows_formats: bool = False) -> None:
        super().__init__(self._text, follows_formats=follows_formats)
        self.rest, self.finish = rest, finish
        self.asked: list[EnsembleRequest] = []

    def _text(self, request: Request) -> str:
        return ORGANIC if request.key[1] == "answer" else "good at 0."

    async def _decode_jointly(self, request: EnsembleRequest, combine: Combine) -> EnsembleCompletion:
        self.asked.append(request)
        made = await super()._decode_jointly(request, combine)
        (link,) = request.constraint.links
        return made.model_copy(update={"text": self.rest.replace("LINK", link), "finish": self.finish})


def run(llm: ScriptedLLM, strength: float | None = 1.0, slots: int = 2) -> Outcome:
    return asyncio.run(run_mechanism(Rewrite(llm, slots=slots, strength=strength), AUCTION))


@pytest.mark.parametrize("strength", [-1.0, -0.5, 0.0, 0.5, 2.0, 16.0])
def test_the_contrast_is_the_softmax_of_combined_logits_over_plausible_tokens(strength: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = rng.normal(scale=2.0, size=(2, 12))
        logprobs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        columns, probs = Contrast(strength=strength).mix(logprobs)
        plausible = np.exp(logits[0]) >= 0.1 * np.exp(logits[0]).max()
        assert list(columns) == list(np.flatnonzero(plausible))
        weights = np.exp(logits[0] + strength * (logits[0] - logits[1]))[plausible]
        assert probs == pytest.approx(weights / weights.sum())


def test_a_token_that_the_plain_prompt_rules_out_wins_and_is_no_error() -> None:
    logprobs = np.log(np.array([[0.5, 0.5], [1.0, 1e-300]]))
    logprobs[1, 1] = -np.inf
    drawn = Contrast(strength=1.0)(logprobs, np.random.default_rng(0))
    assert (drawn.token, drawn.logprob) == (1, pytest.approx(0.0))


def test_draws_follow_the_contrast() -> None:
    """4,000 draws; a false alarm has a probability below 1e-6 (5 standard errors)."""
    logprobs = np.log(np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]]))
    rule = Contrast(strength=0.5)
    _, probs = rule.mix(logprobs)
    rng = np.random.default_rng(0)
    counts = np.bincount([rule(logprobs, rng).token for _ in range(4000)], minlength=3) / 4000
    assert np.abs(counts - probs).max() < 5 * np.sqrt(0.25 / 4000)


def test_two_prompts_continue_the_text_up_to_its_first_sentence_or_last_link() -> None:
    llm = Joint(" For that, LINK is good. Compare two or three.")
    made = run(llm)
    first, second = llm.asked
    assert [prompt.prefill for prompt in first.prompts] == ["Take your time."] * 2
    assert second.prompts[0].prefill == "Take your time. For that, @Product 1@[c1] is good."
    assert first.prompts[0].user.endswith("One option worth a look is @Product 1@[c1]: It is good at 1.")
    assert "@" not in first.prompts[1].user
    assert "strength=1.0" in first.rule
    assert made.details["strength_by"] == "contrast"


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        (" For that, LINK is good at 1. Compare two or three.", "For that, LINK is good at 1. Compare two or three."),
        ("Product 1LINK is good at 1.", "LINK is good at 1."),  # the title before the link
        (" It won 7 prizes. LINK is good at 1.", "LINK is good at 1."),  # a number from nowhere
        (" Visit Lisbon in Spain. LINK is good at 1.", "LINK is good at 1."),  # names from nowhere
        (" LINK is a luxury hotel in Lisbon.", "LINK: It is good at 1."),  # more than the copy says
        (" LINK is good at 1. Go, go, go, go.", "LINK is good at 1."),  # a loop
    ],
)
def test_what_is_kept_of_a_contrasted_text(rest: str, text: str) -> None:
    made = run(Joint(rest), slots=1)
    assert made.response == f"Take your time. {text.replace('LINK', '@Product 1@[c1]')}"
    assert (made.details["rewritten"], made.violations) == (["c1"], ())


@pytest.mark.parametrize(
    ("rest", "finish"), [(" Compare.", "stop"), (" LINK or LINK.", "stop"), (" LINK is", "length"), ("", "stop")]
)
def test_an_ad_without_a_valid_link_gets_a_sentence_at_the_end(rest: str, finish: str) -> None:
    made = run(Joint(rest, finish=finish), slots=1)
    assert made.response == f"{ORGANIC} One option worth a look is @Product 1@[c1]: It is good at 1."
    assert made.details["rewritten"] == []


def test_a_capable_model_without_joint_decoding_is_asked_by_levels() -> None:
    asked = []
    for strength in (-1.0, 0.5, 1.5, 10.0, None):
        llm = ScriptedLLM(lambda _: "Take your time.", follows_formats=True, capabilities=frozenset())
        made = run(llm, strength, slots=1)
        asked.append(next(r.prompt.user for r in llm.requests if r.key[1] == "rewrite"))
        assert made.details.get("strength_by") == (None if strength is None else "prompt")
    *told, plain = asked
    assert [prompt.removesuffix(plain).strip() for prompt in told] == [level(s) for s in (-1.0, 0.5, 1.5, 10.0)]
    assert len({level(s) for s in (-1.0, 0.0, 0.5, 1.5, 3.0)}) == 4


def test_claims_hold_at_any_strength() -> None:
    for strength in (-1.0, 2.0):
        assert "truthful_um" in check_mechanism(Rewrite(ScriptedLLM(), strength=strength), auctions=4).claims


@pytest.mark.parametrize("strength", [-1.5, 1e308, float("inf"), float("nan"), True, "strong"])
def test_wrong_strengths_are_refused(strength: object) -> None:
    with pytest.raises(InputError, match="strength must be a number from -1 to 1,000,000, got"):
        Rewrite(ScriptedLLM(), strength=strength)


def test_a_small_model_needs_joint_decoding() -> None:
    for capability in NEEDED:
        with pytest.raises(MissingCapability, match=f"lacks '{capability}'"):
            Rewrite(ScriptedLLM(capabilities=frozenset(Capability) - {capability}), strength=1.0)
