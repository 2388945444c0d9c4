"""IRPO on single sentences of sampled answers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mechanisms.llm_auction import label_choice, sampling
from mechanisms.llm_auction.irpo import Config, update
from mechanisms.llm_auction.label_choice import Place
from mechanisms.llm_auction.levels import Drawn, Episode, Group, Pages
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.sentence_choice import Sentence, SentenceChoices, first_sentence
from mechanisms.llm_auction.slim import offer
from mechanisms.llm_auction.written import Page, Written, page
from simenv.records import Persona
from tests.support.auctions import make_auction

pytestmark = pytest.mark.weights

AUCTION = make_auction([90.0, 20.0, 55.0])
ADS = [bid.ad for bid in AUCTION.bids]
FIRST, SECOND, THIRD = (f"{ad.link}: {ad.body}" for ad in ADS)
EPISODE = Episode(Persona.model_validate({"id": "p", "info": "x", "traits": {}}), AUCTION, offer(AUCTION))


@pytest.fixture(scope="module")
def policy(tiny: Path) -> AdaptedLLM:
    return AdaptedLLM(tiny, r=2)


def test_a_response_is_what_the_policy_writes_up_to_a_link_or_the_end_of_a_sentence() -> None:
    place = Place("Walk.", True, f"Run. {FIRST} Rest.", "Run. Rest.")

    def response(text: str, *, ended: bool = False) -> Sentence | None:
        return first_sentence(EPISODE, place, Written(text, ended))

    assert response(f" {SECOND} Then") == Sentence("Walk.", "", ADS[1].id, "Run. Rest.")
    assert response(f" For shops, {ADS[1].link}") == Sentence("Walk.", " For shops,", ADS[1].id, "Run. Rest.")
    assert response(f" Swim. {SECOND}") == Sentence("Walk.", " Swim.", None, f"{FIRST} Rest.")  # in place of "Run."
    assert response(" Swim. Th") == Sentence("Walk.", " Swim.", None, f"{FIRST} Rest.")
    assert response(" Swim.", ended=True) == Sentence("Walk.", " Swim.", None, "", ended=True)
    assert response("", ended=True) == Sentence("Walk.", "", None, "", ended=True)
    assert response(" Swim in the") is None
    ad_next = place._replace(after=f"{FIRST} Rest.")
    assert first_sentence(EPISODE, ad_next, Written(" Swim. Th", ended=False)) == Sentence(
        "Walk.", " Swim.", None, f"{FIRST} Rest."
    )


def test_sentences_at_a_place_are_judged_in_the_whole_answer(
    policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(policy)
    level = SentenceChoices(pages)
    monkeypatch.setattr(label_choice, "PLACES", 1)
    answers = [[Drawn(Written("Walk."), 0.0)], [Drawn(Written("Walk"), 0.0)], []]
    monkeypatch.setattr(pages, "respond", lambda *_, **__: answers)
    written = [Written(" Run. It", False), Written(f" For shops, {FIRST}"), Written(" Run. Or", False), Written("")]
    asked: list[Page] = []

    def sample(_: object, named: list[tuple[str, Page]], *__: object) -> list[list[Written]]:
        asked.extend(one for _, one in named)
        return [written]

    monkeypatch.setattr(sampling, "sample", sample)
    drawn, *others = level.respond([EPISODE] * 3, 4, "draw")
    assert others == [[], []]
    assert [one.prompt.prefill for one in asked] == ["Walk."]
    responses = [one.response for one in drawn]
    assert [level.outcome(EPISODE, one).response for one in responses] == [
        "Walk. Run.",
        f"Walk. For shops, {FIRST}",
        "Walk.",
    ]
    with torch.no_grad():
        texts = [Written("Walk. Run.", False), Written(f"Walk. For shops, {ADS[0].link}", False), Written("Walk.")]
        known = policy.written_logps(page(AUCTION, shown=EPISODE.offer.digits), texts)
    assert [one.logp for one in drawn] == pytest.approx(known.tolist(), abs=4e-3)


def test_the_policy_goes_on_behind_a_text(policy: AdaptedLLM) -> None:
    asked = page(AUCTION).behind(f"Walk. {FIRST}")
    links = asked.links()
    assert (links.links, links.labels) == ((ADS[1].link, ADS[2].link), ("B", "C"))  # in the list's letters
    limit = Pages(policy).sampling.model_copy(update={"max_tokens": 24})
    (texts,) = sampling.sample_pages(policy, [asked], 4, limit, "x")
    assert len(texts) == 4
    assert not any(ADS[0].link in text.text or text.text.startswith("Walk.") for text in texts)


def test_places_are_choices_of_their_own(policy: AdaptedLLM) -> None:
    level = SentenceChoices(Pages(policy))
    responses = [
        Sentence("Walk.", " Run.", None, ""),
        Sentence("Walk.", "", ADS[0].id, ""),
        Sentence("Walk. Run.", "", None, "", ended=True),
        Sentence("Walk. Run.", " For shops,", ADS[1].id, ""),
    ]
    group = Group(responses, [-1.0, -2.0, -3.0, -4.0], [0.0, 1.0, 2.0, 3.0])
    (one, first), (two, second) = level.choices(torch.tensor([1.0, 2.0, 3.0, 4.0]), group)
    assert (one.tolist(), first) == ([1.0, 2.0], Group(responses[:2], [-1.0, -2.0], [0.0, 1.0]))
    assert (two.tolist(), second) == ([3.0, 4.0], Group(responses[2:], [-3.0, -4.0], [2.0, 3.0]))


def test_the_sentences_with_ads_at_a_place_are_compared_with_each_other_too(policy: AdaptedLLM) -> None:
    level = SentenceChoices(Pages(policy))
    once, words = Sentence("Walk.", "", ADS[0].id, ""), Sentence("Walk.", " For shops,", ADS[0].id, "")
    plain = Sentence("Walk.", " Run.", None, "")
    group = Group([once, plain, words], [-1.0, -2.0, -3.0], [8.0, 0.0, 12.0])
    (_, all_of), (logps, ads) = level.choices(torch.tensor([1.0, 2.0, 3.0]), group)
    assert all_of == group
    assert (logps.tolist(), ads) == ([1.0, 3.0], Group([once, words], [-1.0, -3.0], [8.0, 12.0]))
    only_ads = group.only([0, 2])
    assert [one for _, one in level.choices(torch.tensor([1.0, 3.0]), only_ads)] == [only_ads]  # no choice twice


def test_a_sentence_that_pays_becomes_more_likely(tiny: Path) -> None:
    policy = AdaptedLLM(tiny, r=4)
    level = SentenceChoices(Pages(policy))
    responses = [Sentence("Walk.", "", ADS[0].id, ""), Sentence("Walk.", " For shops,", ADS[0].id, "")]
    with torch.no_grad():
        (before,) = level.logps([(EPISODE, responses)])
    config = Config(learning_rate=0.05, kl_weight=5.0, warmup=0.0)
    optimizer = torch.optim.AdamW(policy.trained.values())
    for step in range(6):
        update(level, optimizer, [(EPISODE, Group(responses, before.tolist(), [0.0, 20.0]))], config, step)
    with torch.no_grad():
        (after,) = level.logps([(EPISODE, responses)])
    assert float((after - before)[1]) > float((after - before)[0]) + 0.5
    assert all(math.isfinite(value) for value in after.tolist())
