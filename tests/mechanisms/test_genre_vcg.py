"""Genre VCG: matching and payments against brute force, where its ads stand, and what its coherence is."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from mechanisms.genre_vcg import GenreVCG, best_of_each
from mechanisms.matching import best_places, losses
from simenv import Auction
from simenv.check.expected import TOLERANCE, broken, expectation, grid
from simenv.ctr.models import Floats
from simenv.errors import InputError
from simenv.llm import Capability, ScriptedLLM
from simenv.mechanism import Claim, run_mechanism
from simenv.records import Outcome
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder
from tests.support.auctions import make_auction

PARAGRAPHS = "Tents keep rain out. Look at the seams.\n\n- Boots matter\n- Socks too.\n \nAt last, coffee."
SENTENCE = "Tents keep rain out.  Then boots.\nAt last, coffee!"


def auctioneer(text: str = PARAGRAPHS, **options: object) -> GenreVCG:
    return GenreVCG(ScriptedLLM(lambda _: text), encoder=FakeEncoder(), **options)  # type: ignore[arg-type]


def random_auction(index: int, *, max_ads: int | None = None) -> Auction:
    rng = keyed_rng("genre-auction", index)
    n = int(rng.integers(1, 8))
    return make_auction(
        [float(b) for b in rng.choice([0.0, 10.0, 30.0, *rng.uniform(0, 100, 6)], n)],
        max_ads=int(rng.integers(0, 4)) if max_ads is None else max_ads,
        reserve=float(rng.choice([0.0, 0.0, 15.0])),
        name=f"genre.{index}",
        categories=[str(g) for g in rng.choice(["tents", "boots", "coffee"], n)],
    )


def random_coherence(auction: Auction, index: int) -> Floats:
    """Coherence of each genre at 1 to 4 points; some are 0, some are equal."""
    rng = keyed_rng("coherence", index)
    kinds = len({bid.ad.category for bid in auction.bids})
    shape = (kinds, int(rng.integers(1, 5)))
    return np.asarray(np.where(rng.random(shape) < 0.2, rng.choice([0.0, 0.5], shape), rng.random(shape)))


def best_sum(gains: Floats, most: int) -> float:
    """The greatest sum over all matchings of at most `most` ads, by trying them all."""
    n, m = gains.shape
    best = 0.0
    for k in range(1, min(n, m, most) + 1):
        for columns in itertools.combinations(range(m), k):
            for ads in itertools.permutations(range(n), k):
                best = max(best, sum(gains[i, j] for i, j in zip(ads, columns, strict=True)))
    return best


def all_gains(auction: Auction, coherence: Floats) -> Floats:
    """(b - reserve) C of every ad, none left out: shape (n, points)."""
    kinds = sorted({bid.ad.category for bid in auction.bids})
    rows = [max(0.0, b.amount - auction.reserve) * coherence[kinds.index(b.ad.category)] for b in auction.bids]
    return np.array(rows)


def test_matching_and_payments_are_those_of_brute_force_over_all_ads() -> None:
    """300 auctions: although only the best K + 1 ads of each genre are matched, sum and payments are those of all."""
    mechanism, shown, worst = auctioneer(), 0, 0.0
    for index in range(300):
        auction = random_auction(index)
        coherence = random_coherence(auction, index)
        gains = all_gains(auction, coherence)
        places, paid = mechanism.allocate(auction, coherence)
        won = {i: j for i, bid in enumerate(auction.bids) for ad_id, j in places.items() if bid.ad.id == ad_id}
        assert len(set(won.values())) == len(won) <= auction.max_ads
        total = sum(gains[i, j] for i, j in won.items())
        worst = max(worst, abs(total - best_sum(gains, auction.max_ads)))
        for i, j in won.items():
            without = best_sum(np.delete(gains, i, axis=0), auction.max_ads)
            payment = paid[auction.bids[i].ad.id]
            worst = max(worst, abs(payment - (without - (total - gains[i, j]))))
            assert 0 <= payment <= gains[i, j]
            shown += 1
    assert shown > 200
    assert worst < 1e-9


def test_losses_are_those_of_a_second_matching() -> None:
    """Larger cases than brute force can try, with fewer ads than positions, as many, and more."""
    for index, (n, m, most) in enumerate([(12, 8, 8), (12, 8, 3), (5, 9, 9), (5, 9, 2), (9, 9, 9), (30, 6, 5)] * 4):
        gains = np.maximum(0, keyed_rng("losses", index).normal(1, 1, (n, m)))
        places = best_places(gains, most)
        total = sum(gains[i, j] for i, j in places.items())
        for i, lost in losses(gains, places).items():
            others = np.delete(gains, i, axis=0)
            without = sum(others[k, j] for k, j in best_places(others, most).items())
            assert lost == pytest.approx(without - (total - gains[i, places[i]]), abs=1e-9)


def test_with_one_ad_it_is_second_price_on_bid_times_coherence() -> None:
    """Where coherence does not depend on the place; with places, the second price is at each ad's best place."""
    mechanism = auctioneer()
    for index in range(30):
        auction = random_auction(index, max_ads=1).model_copy(update={"reserve": 0.0})
        coherence = random_coherence(auction, index)
        scores = sorted(all_gains(auction, coherence).max(axis=1), reverse=True)
        places, paid = mechanism.allocate(auction, coherence)
        assert list(paid.values()) == (pytest.approx([[*scores, 0.0][1]]) if scores[0] > 0 else [])
        assert len(places) == len(paid)


def test_the_best_of_each_genre_are_kept_and_ties_go_to_the_earlier() -> None:
    values, kinds = np.array([5.0, 7.0, 7.0, 1.0, 0.0, -2.0, 7.0]), np.array([0, 0, 0, 1, 1, 1, 0])
    assert list(best_of_each(values, kinds, 2)) == [1, 2, 3]
    assert list(best_of_each(values, kinds, 4)) == [0, 1, 2, 3, 6]
    assert list(best_of_each(values[:0], kinds[:0], 2)) == []


@pytest.mark.parametrize(
    "options",
    [{}, {"charge": "answer"}, {"coherence": "judge", "slots": 3}],
)
def test_claims_hold_with_several_genres(options: dict[str, object]) -> None:
    """`check_mechanism` has ads of one genre; here, the same rules on auctions with three."""
    mechanism = auctioneer(**options)
    assert "truthful_um" in mechanism.claims
    for index in range(8):
        auction = random_auction(index)
        for bid in auction.bids[:3]:
            responses = {
                amount: expectation([(1.0, made)], mechanism.ctr_model, other, bid.ad.id)
                for amount in grid(max(1.0, bid.amount))
                for other, made in [outcome_at(mechanism, auction, bid.ad.id, amount)]
            }
            for claim in (Claim.MONOTONE, Claim.TRUTHFUL_UM):
                assert broken(claim, responses, TOLERANCE * 100) is None


def outcome_at(mechanism: GenreVCG, auction: Auction, ad_id: str, amount: float) -> tuple[Auction, Outcome]:
    bids = tuple(b.model_copy(update={"amount": amount}) if b.ad.id == ad_id else b for b in auction.bids)
    other = auction.model_copy(update={"bids": bids})
    return other, asyncio.run(run_mechanism(mechanism, other))


def test_ads_are_labelled_lines_after_the_paragraphs_that_their_genre_fits() -> None:
    auction = make_auction([50.0, 40.0, 30.0], max_ads=2, categories=["coffee", "boots", "rain"])
    made = asyncio.run(run_mechanism(auctioneer(), auction))
    assert made.response == (
        "Tents keep rain out. Look at the seams.\n\n- Boots matter\n- Socks too.\n\n"
        "Sponsored: @Product 1@[c1] It is good at 1.\n\n"
        "At last, coffee.\n\nSponsored: @Product 0@[c0] It is good at 0."
    )
    assert made.violations == ()
    assert made.details["points"] == 3


def test_one_paragraph_has_its_sentence_ends_as_points() -> None:
    auction = make_auction([50.0, 40.0], max_ads=2, categories=["coffee", "rain"])
    made = asyncio.run(run_mechanism(auctioneer(SENTENCE), auction))
    assert made.response.split("\n") == [
        "Tents keep rain out.",
        "Sponsored: @Product 1@[c1] It is good at 1.",
        "Then boots.",
        "At last, coffee!",
        "Sponsored: @Product 0@[c0] It is good at 0.",
    ]


@pytest.mark.parametrize("coherence", ["embeddings", "judge"])
@pytest.mark.parametrize("text", [PARAGRAPHS, SENTENCE, "", "One line", "A list:\n- one\n- two.\n\n\nBye. Bye."])
def test_predictions_read_from_the_text_are_those_that_were_planned(text: str, coherence: str) -> None:
    mechanism = auctioneer(text, coherence=coherence)
    auction = make_auction([50.0, 80.0, 30.0, 60.0], max_ads=3, categories=["coffee", "boots", "rain", "one"])
    made = asyncio.run(run_mechanism(mechanism, auction))
    probs = mechanism.ctr_model.click_probs(auction, made.response, [p.ad_id for p in made.placements])
    assert probs == made.details["coherence"]
    assert probs


def test_without_winners_the_answer_is_left_as_it_is() -> None:
    text = "One.\n\n\n\nTwo."
    assert asyncio.run(run_mechanism(auctioneer(text), make_auction([5.0], reserve=9.0))).response == text


def test_the_two_charges_are_worth_the_same_by_its_own_predictions() -> None:
    for index in range(20):
        auction = random_auction(index)
        clicks, answer = (
            asyncio.run(run_mechanism(auctioneer(charge=charge), auction)) for charge in ("click", "answer")
        )
        fit = clicks.details["coherence"]
        for one, other in zip(clicks.placements, answer.placements, strict=True):
            assert other.price == auction.reserve
            assert (one.price - auction.reserve) * fit[one.ad_id] == pytest.approx(answer.transfers[one.ad_id])
        assert clicks.transfers == {}


def test_the_judges_expected_grade_is_the_coherence() -> None:
    """The scripted model finds all grades equally likely: 3 of 5 on average, so C = 0.5."""
    auction = make_auction([50.0, 40.0], categories=["coffee", "rain"])
    made = asyncio.run(run_mechanism(auctioneer(coherence="judge"), auction))
    assert made.details["coherence"] == pytest.approx({"c0": 0.5, "c1": 0.5})


def test_a_model_without_probabilities_is_asked_for_a_digit_and_an_unreadable_grade_sells_nothing() -> None:
    def reply(request) -> str:
        if request.key[1] != "genre-fit":
            return PARAGRAPHS
        grades = {"coffee": "5 because it fits", "rain": "It is 4", "boots": "4-5"}
        return grades[request.key[2]] if "coffee" in request.key[3] else "Grade"

    llm = ScriptedLLM(reply, follows_formats=True, capabilities=frozenset[Capability]())
    auction = make_auction([10.0, 90.0, 80.0], max_ads=3, categories=["coffee", "rain", "boots"])
    made = asyncio.run(run_mechanism(GenreVCG(llm, coherence="judge"), auction))
    assert made.details["coherence"] == {"c0": 1.0}
    assert made.details["unreadable"] == 8


def test_a_passage_that_was_not_graded_has_no_prediction() -> None:
    mechanism = auctioneer(coherence="judge")
    with pytest.raises(InputError, match="'general' was not graded after the passage 'Hi'"):
        mechanism.ctr_model.click_probs(make_auction([1.0]), "Hi\n@Product 0@[c0]", ["c0"])


@pytest.mark.parametrize("options", [{"slots": -1}, {"coherence": "guess"}, {"charge": "view"}])
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        auctioneer(**options)
