"""Where ads are inserted, and what a model may do to a text that it smooths."""

from __future__ import annotations

import asyncio
from itertools import combinations

import numpy as np
import pytest

from simenv import make_mechanism, make_writer, markup
from simenv.llm import Capability, Request, ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction
from simenv.testing import FakeEncoder
from simenv.writer.gaps import best_places, disruption, gaps, with_sentences
from simenv.writer.insert import InsertWriter, SmoothWriter, keeps
from tests.support.auctions import make_auction

AUCTION = make_auction([40.0, 55.0, 20.0])
ADS = [bid.ad for bid in AUCTION.bids]
ANSWER = "Wash it in cold water. Dry it in the shade. Then iron it on the inside."


def capable(*, smooth: str | None = None, chat: str = "", answer: str = ANSWER) -> ScriptedLLM:
    """A fake model that follows formats. `smooth` has "LINK0" where the first ad's link stands."""

    def reply(request: Request) -> str:
        given = {"answer": answer, "smooth": smooth or "", "chat": chat}[str(request.key[1])]
        for i, ad in enumerate(ADS):
            given = given.replace(f"LINK{i}", ad.link)
        return given

    return ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())


def parts(text: str) -> list[str]:
    cuts = gaps(text)
    return [text[a:b].strip() for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two is more. Three.", ["One.", "Two is more.", "Three."]),
        ("1. Wash it.\n2. Dry it.", ["1. Wash it.", "2. Dry it."]),
        ("Ask Dr. Miller, e.g. by phone. Then go.", ["Ask Dr. Miller, e.g. by phone.", "Then go."]),
        ("It costs 1.5 dollars (see A. Or B. There). Go on.", ["It costs 1.5 dollars (see A. Or B. There).", "Go on."]),
        ("**Wash. Dry.** Then iron.", ["**Wash. Dry.** Then iron."]),
        ('He said "Go. Now." So go. Yes.', ['He said "Go. Now." So go.', "Yes."]),
        ("Run it.\n```\na. B = 1. C\n```\nDone. Bye.", ["Run it.", "```\na. B = 1. C\n```\nDone.", "Bye."]),
        ("Wash it. then dry it.", ["Wash it. then dry it."]),
        ("No stop at all", ["No stop at all"]),
        ("", [""]),
    ],
)
def test_gaps_are_between_sentences_and_nowhere_else(text: str, expected: list[str]) -> None:
    assert parts(text) == expected


def test_disruption_is_what_the_ad_takes_from_the_cosine_of_its_neighbours() -> None:
    encoder = FakeEncoder()
    a, b, c, *theirs = encoder.encode([*parts(ANSWER), *(ad.text for ad in ADS)])
    expected = [[x @ y - (ad @ x + ad @ y) / 2 for x, y in ((a, b), (b, c))] for ad in theirs]
    assert asyncio.run(disruption(encoder, ANSWER, gaps(ANSWER), ADS)) == pytest.approx(np.array(expected), abs=1e-6)


def test_places_have_the_least_sum_of_all_ascending_ones() -> None:
    """300 random tables against all combinations."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        count = int(rng.integers(1, 8))
        costs = rng.normal(size=(int(rng.integers(0, min(count, 4) + 1)), count))
        best = min(
            combinations(range(count), len(costs)), key=lambda places: sum(costs[i, j] for i, j in enumerate(places))
        )
        assert best_places(costs) == list(best)


def test_sentences_at_offsets() -> None:
    assert with_sentences("A. B.\nC.", [2, 5, 8, 8], ["1.", "2.", "3.", "4."]) == "A. 1. B. 2.\nC. 3. 4."
    assert with_sentences("", [0], ["1."]) == "1."


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_ads_are_inserted_in_order_with_one_call(count: int) -> None:
    llm = capable()
    text = asyncio.run(InsertWriter(llm, FakeEncoder()).with_ads(AUCTION, ADS[:count]))
    assert len(llm.requests) == 1
    parsed = markup.parse(text, AUCTION)
    assert (list(parsed.links), parsed.violations) == ([ad.id for ad in ADS[:count]], ())
    for piece in parts(ANSWER):
        assert piece in text
    if count < 3:
        assert text.startswith("Wash it")
        assert text.endswith("inside.")  # between sentences, while there is place
    assert "One option worth a look is @Product 0@[c0]: It is good at 0." in text or not count


def test_an_ad_stands_at_the_end_of_an_answer_of_one_sentence() -> None:
    text = asyncio.run(InsertWriter(capable(answer="Wash it."), FakeEncoder()).with_ads(AUCTION, ADS[:1]))
    assert text == "Wash it. One option worth a look is @Product 0@[c0]: It is good at 0."


BEFORE = "Wash it in cold water. One option worth a look is LINK0: It is good at 0. Dry it in the shade for 2 hours."


@pytest.mark.parametrize(
    ("after", "kept"),
    [
        ("Wash it in cold water. For that, LINK0 is good at 0. Then dry it in the shade for 2 hours.", True),
        ("Wash it in cold water. For that, LINK0 is good at 0.", False),  # loses a sentence
        ("Wash it in cold water. For that, LINK0 is good at 0. Dry it in the shade for 3 hours.", False),  # a number
        ("Wash it in cold water. For that, LINK0 is good at 0. Do not dry it in the shade for 2 hours.", False),
        ("Wash it in cold water. For that, LINK0 is good at 7. Dry it in the shade for 2 hours.", False),  # the copy
        ("Wash it in cold water. For that, LINK1 is good at 0. Dry it in the shade for 2 hours.", False),  # another ad
        ("Wash it in cold water. For that, @Product@[c0] is good. Dry it in the shade for 2 hours.", False),  # title
        ("For that, LINK0 is good at 0. Wash it in cold water. Dry it in the shade for 2 hours.", False),  # the order
        ("Wash it in cold water. Buy LINK0. It is best. Dry it in the shade for 2 hours.", False),  # adds a sentence
        ("Wash it in cold water. The ad that bids most is LINK0. Dry it in the shade for 2 hours.", False),  # a leak
        ("", False),
    ],
)
def test_a_smoothed_text_changes_words_around_the_ad_alone(after: str, kept: bool) -> None:
    def linked(text: str) -> str:
        return text.replace("LINK0", ADS[0].link).replace("LINK1", ADS[1].link)

    assert keeps(AUCTION, linked(BEFORE), linked(after)) is kept


@pytest.mark.parametrize("good", [True, False])
def test_the_log_says_whether_the_text_was_smoothed(good: bool) -> None:
    answer = "Wash it in cold water. Dry it in the shade."
    smooth = "Wash it in cold water. Here LINK0 is good at 0. Dry it in the shade." if good else "Buy LINK0 now."
    llm = capable(smooth=smooth, answer=answer)
    told = asyncio.run(SmoothWriter(llm, FakeEncoder()).told(AUCTION, ADS[:1]))
    assert told.details == {"smoothed": good}
    assert (told.text == smooth.replace("LINK0", ADS[0].link)) is good
    assert ("One option worth a look is" in told.text) is not good
    assert len(llm.requests) == 2


@pytest.mark.parametrize(
    ("chat", "text", "woven"),
    [
        ("Take LINK0, good at 0. LINK1 helps too.", "Take LINK0, good at 0. LINK1 helps too.", ["c0", "c1"]),
        ("Just wash it.", "Just wash it. One option worth a look is LINK0: It is good at 0. You could also consider "
                          "LINK1: It is good at 1.", []),
        ("Wash it. Take LINK0.", "Wash it. Take LINK0. You could also consider LINK1: It is good at 1.", ["c0"]),
        ("Wash it. Take LINK1. First see LINK0.", "Wash it. First see LINK0. You could also consider LINK1: It is good "
                                                  "at 1.", ["c0"]),
        ("Wash it. The ad LINK0 pays most.", "Wash it. One option worth a look is LINK0: It is good at 0. You could "
                                             "also consider LINK1: It is good at 1.", []),
        ("Wash it. Take @Product 9@[c9].", "Wash it. One option worth a look is LINK0: It is good at 0. You could "
                                          "also consider LINK1: It is good at 1.", []),
        ("", f"{ANSWER} One option worth a look is LINK0: It is good at 0. You could also consider LINK1: It is good "
             "at 1.", []),
    ],
)  # fmt: skip
def test_chat_keeps_what_is_valid_and_adds_the_rest(chat: str, text: str, woven: list[str]) -> None:
    llm = capable(chat=chat)
    told = asyncio.run(make_writer("chat", llm).told(AUCTION, ADS[:2]))
    assert told.text == text.replace("LINK0", ADS[0].link).replace("LINK1", ADS[1].link)
    assert told.details == {"woven": woven}
    assert len(llm.requests) == (1 if chat else 2)
    parsed = markup.parse(told.text, AUCTION)
    assert (list(parsed.links), parsed.violations) == (["c0", "c1"], ())


@pytest.mark.parametrize("writer", ["insert", "insert_smooth", "chat"])
def test_writers_change_the_text_and_not_who_is_shown_at_what_price(
    writer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simenv.writer.insert.default_encoder", FakeEncoder)

    def result(auction: Auction, **options: str):
        return asyncio.run(run_mechanism(make_mechanism("gsp", context={"llm": ScriptedLLM()}, **options), auction))

    for count in (1, 3):
        auction = make_auction([30.0, 60.0, 10.0][:count], max_ads=2)
        plain, other = result(auction), result(auction, writer=writer)
        assert [(p.ad_id, p.price) for p in other.placements] == [(p.ad_id, p.price) for p in plain.placements]
        assert other.violations == ()
        assert (other.details == {}) is (writer == "insert")


def test_small_models_are_constrained_to_the_links() -> None:
    llm = ScriptedLLM()
    assert Capability.CONSTRAINT in llm.capabilities
    asyncio.run(make_writer("chat", llm).with_ads(AUCTION, ADS[:2]))
    assert llm.requests[0].constraint.links == (ADS[0].link, ADS[1].link)
