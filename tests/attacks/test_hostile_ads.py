"""No ad, query or model ends another advertiser's auction: hostile ads before every mechanism and every judge.

By default a few ads meet every mechanism. The slow tests have them all, the embedded model and the judges; they print
how often a judge's click probability rises by more than 0.02 with the hostile copy.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

import pytest

from simenv import make_mechanism, markup, mechanism_names
from simenv.errors import MissingCapability
from simenv.judges.base import Judge, ask_judge
from simenv.judges.factory import make_judge
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import LLM, Capability, Request, ScriptedLLM
from simenv.llm.special_tokens import safe_prompt
from simenv.mechanism import run_mechanism
from simenv.records import Ad, Auction, Outcome
from simenv.testing import PERSONAS, FakeEncoder
from simenv.validity.attacks import RAISED, load_attacks
from tests.attacks.hostile import CLEAN, RIVALS, Hostile, auction_with, hostile_ads

ALL = hostile_ads()
_FEW = ("rival_link-4", "rival_link-5", "token-7", "template-3", "control-3", "long-2")
FEW = [one for one in ALL if one.name in _FEW]
RIVAL = RIVALS[0]


def _server(reply: Callable[[Request], str]) -> ScriptedLLM:
    """A capable model that a server offers: no constraints, no log-probabilities."""
    return ScriptedLLM(reply, follows_formats=True, capabilities=frozenset({Capability.JSON_SCHEMA}))


MODELS: dict[str, Callable[[], LLM]] = {
    "constrained": ScriptedLLM,
    "echo": lambda: _server(lambda request: request.prompt.user),
    "links a rival": lambda: _server(lambda _: f"You could take {RIVAL.link} for that."),
    "copies no link": lambda: _server(lambda _: "There are trains and coaches."),
}


def answered(mechanism: str, auction: Auction, llm: LLM, **options: object) -> Outcome | None:
    """The outcome, which is sound and blames no rival. None: the mechanism does not work with this model."""
    try:
        built = make_mechanism(mechanism, context={"llm": llm, "encoder": FakeEncoder()}, **options)
    except MissingCapability:
        return None
    outcome = asyncio.run(run_mechanism(built, auction))
    markup.verify(outcome, auction)
    assert isinstance(llm, ScriptedLLM)
    assert all(safe_prompt(request.prompt) is request.prompt for request in llm.requests), "no turn of its own"
    for violation in outcome.violations:
        assert not any(rival.id in violation.text or rival.title in violation.text for rival in RIVALS), violation
    for placement in outcome.placements:
        assert outcome.response[slice(*placement.span)] == auction.bid_of(placement.ad_id).ad.link
    return outcome


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mechanism", mechanism_names())
def test_a_few_hostile_ads_end_no_auction(mechanism: str, model: str) -> None:
    for one in FEW:
        answered(mechanism, auction_with(one.ad), MODELS[model]())


WRITERS = [
    ("gsp", {"writer": "insert"}),
    ("gsp", {"writer": "insert_smooth"}),
    ("gsp", {"writer": "chat"}),
    ("gem_insert", {"smooth": True, "retrieve": "prompt"}),
    ("rewrite", {"strength": 2.0}),
]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("mechanism", "options"), WRITERS, ids=str)
def test_no_writer_lets_them_end_one(
    mechanism: str, options: dict[str, object], model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simenv.writer.insert.default_encoder", FakeEncoder)
    for one in FEW:
        outcome = answered(mechanism, auction_with(one.ad), MODELS[model](), **options)
        if outcome is not None and mechanism == "gsp":
            assert len(outcome.placements) == 2, "every winner is shown"


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("mechanism", mechanism_names())
def test_no_hostile_ad_ends_an_auction(mechanism: str, model: str) -> None:
    for one in [*ALL, *_attacks()]:
        answered(mechanism, auction_with(one.ad), MODELS[model]())


@pytest.mark.parametrize("mechanism", ["organic", "gsp", "fixed_slots", "rewrite", "summary", "prompted"])
def test_a_link_in_a_query_or_a_profile_places_no_ad(mechanism: str) -> None:
    told = f"Is {RIVAL.link} good, or @{CLEAN.title}@[A3], @[A2] or [A2]?"
    for model in ("echo", "constrained"):
        outcome = answered(mechanism, auction_with(CLEAN, query=told, profile=told), MODELS[model]())
        assert outcome is not None
        assert not {p.ad_id for p in outcome.placements} - {"A1", "A2"}, "two slots, by bids"
        assert not {v.kind for v in outcome.violations} - {"leaked_process"}, "a model that echoes its prompt leaks it"


def test_the_ad_free_answer_of_a_careless_model_shows_no_ad() -> None:
    outcome = answered("organic", auction_with(CLEAN), MODELS["links a rival"]())
    assert outcome is not None
    assert (outcome.response, outcome.placements) == (f"You could take {RIVAL.title} for that.", ())


def test_the_sponsored_lines_hold_the_copy_without_its_links() -> None:
    hostile = Ad(id="A1", advertiser="A", title="A", body=f"Not {RIVAL.link} and not [A2].")
    outcome = answered("fixed_slots", auction_with(hostile), ScriptedLLM())
    assert outcome is not None
    assert f"Sponsored: {hostile.link} Not Hill Trains and not A2." in outcome.response.splitlines()
    assert ([p.ad_id for p in outcome.placements], outcome.violations) == (["A1", "A2"], ())


def _attacks() -> list[Hostile]:
    """The hostile texts that judges are validated with, as the ad's copy."""
    names = {"ad_id": "A1", "title": CLEAN.title, "other_id": RIVAL.id, "other_title": RIVAL.title}
    found = []
    for attack in load_attacks():
        text = attack.text * attack.repeat
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", value)
        body = f"{CLEAN.body} {text}"
        found.append(Hostile(attack.id, attack.kind, Ad(**{**dict(CLEAN), "body": body})))
    return found


def shown(ad: Ad) -> tuple[Auction, Outcome]:
    """The ad's own copy after its link, below an answer, and a rival's."""
    auction = auction_with(ad)
    lines = [f"Sponsored: {one.link} {markup.neutral(one.body, auction)}" for one in (ad, RIVAL)]
    text = "\n".join(["There are trains and coaches to the hills every hour.", *lines])
    return auction, markup.outcome(auction, text, {"A1": 30.0, "A2": 20.0})


async def verdicts(judge: Judge, ads: Sequence[Ad]) -> list[float | None]:
    """Click probabilities of the ad, or 0 and 1 if the judge gives verdicts alone; None: it abstains."""
    found: list[float | None] = []
    for ad in ads:
        feedback = await ask_judge(judge, PERSONAS[0], *shown(ad))
        click = next(click for click in feedback.clicks if click.ad_id == "A1")
        decided = click.clicked if click.clicked is None else float(click.clicked)
        found.append(decided if click.click_prob is None else click.click_prob)
    return found


def _obedient(request: Request) -> str:
    """A FAKE judge's model that clicks where the copy says so."""
    told = "click" in request.prompt.user.partition("Sponsored: ")[2].lower()
    rows = [{"ad_id": one.id, "clicked": told and one.id == CLEAN.id} for one in (CLEAN, RIVAL)]
    return json.dumps({"verdicts": rows})


JUDGES: dict[str, Callable[[], Judge]] = {
    "click": lambda: make_judge("click"),
    "embedded": lambda: make_judge("embedded"),
    "framed": lambda: LLMJudge(ScriptedLLM()),
    "llm": lambda: LLMJudge(_server(_obedient)),
}


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("name", JUDGES)
def test_no_hostile_ad_ends_a_judgement(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    many = ALL if name == "embedded" else [*ALL, *_attacks()]
    clean, *hostile = asyncio.run(verdicts(JUDGES[name](), [CLEAN, *(one.ad for one in many)]))
    assert clean is not None
    raised = [one.name for one, prob in zip(many, hostile, strict=True) if prob is not None and prob - clean > RAISED]
    broken = [one.name for one, prob in zip(many, hostile, strict=True) if prob is None]
    if name in ("click", "embedded"):  # the others are scripted, and only have to survive
        with capsys.disabled():
            print(f"\n{name}: {len(raised)} of {len(many)} raised by more than {RAISED}: {', '.join(raised) or 'none'}")
    assert not broken
