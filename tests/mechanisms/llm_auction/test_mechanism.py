"""LLM-Auction without any weights: the slim format, the losses, the reward model, and the mechanism's plumbing."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
import torch

from mechanisms.llm_auction.irpo import Config, distribution_facts, loss_of, teaches
from mechanisms.llm_auction.levels import Group, sample
from mechanisms.llm_auction.policy import cell
from mechanisms.llm_auction.slim import LABELS, REPEATS, digits, offer, repeats
from mechanisms.llm_auction.split import only, part_of
from mechanisms.llm_auction.written import TunedWriter, page
from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.check import check_mechanism
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.llm import ScriptedLLM
from simenv.market.catalog import load_catalog
from simenv.mechanism import lottery_of, run_mechanism
from simenv.records import Auction
from simenv.users.personas import load_personas
from tests.support.auctions import GivenCTR, make_auction


def with_bid(auction: Auction, place: int, amount: float) -> Auction:
    bids = list(auction.bids)
    bids[place] = bids[place].model_copy(update={"amount": amount})
    return auction.model_copy(update={"bids": tuple(bids)})


def test_the_bid_is_shown_by_a_count_that_is_linear_on_average_and_never_falls() -> None:
    auctions = [make_auction([50.0], name=f"count.{i}") for i in range(400)]
    for bid in (7.0, 33.0, 50.0, 91.0):
        counts = [repeats(auction, with_bid(auction, 0, bid).bids[0]) for auction in auctions]
        # Each count is one of two neighbours, so its standard deviation is at most 0.5: false alarm below 1e-4 each.
        assert abs(np.mean(counts) - REPEATS * bid / 100) < 4 * 0.5 / math.sqrt(len(counts))
    one = auctions[0]
    sweep = [repeats(one, with_bid(one, 0, float(bid)).bids[0]) for bid in range(1, 101)]
    assert sweep == sorted(sweep)
    assert sweep[-1] == REPEATS == repeats(one, with_bid(one, 0, 1e9).bids[0])


def test_an_offer_lists_who_may_win_and_its_answers_read_back() -> None:
    auction = make_auction([50.0, 0.0, 9.0, 80.0], [0.7, 0.5, 0.4, 0.1], reserve=10.0)
    offered = offer(auction)
    assert [bid.ad.id for bid in offered.bids] == ["c0", "c3"]
    assert offered.choices() == [(), (0,), (1,), (0, 1), (1, 0)]
    assert [offered.answer(choice) for choice in offered.choices()] == [" None", " A None", " B None", " A B", " B A"]
    assert [offered.read(offered.answer(choice)) for choice in offered.choices()] == offered.choices()
    lines = offered.prompt.user.splitlines()
    assert lines[1].startswith("A Product It is good 8 A A")
    assert lines[2].startswith("B Product It is good 1 B B B")
    assert offer(auction, order=[3, 2, 1, 0]).bids[0].ad.id == "c3"
    assert offer(auction, show_score=False).prompt.user.splitlines()[1].startswith("A Product It is good A")
    assert len(offer(make_auction([1.0] * 64)).bids) == len(LABELS)
    one = offer(make_auction([5.0, 5.0], max_ads=1))
    assert [one.answer(choice) for choice in one.choices()] == [" None", " A", " B"]


@pytest.mark.parametrize("follows_formats", [False, True])
def test_it_conforms_on_a_scripted_model(follows_formats: bool) -> None:
    report = check_mechanism(
        make_mechanism("llm_auction", context={"llm": ScriptedLLM(follows_formats=follows_formats)}), auctions=5
    )
    assert report.claims == ("individually_rational",)


def test_its_lottery_is_the_policys_distribution_and_every_call_is_counted() -> None:
    auction = make_auction([50.0, 20.0], [0.6, 0.5])
    mechanism = make_mechanism("llm_auction", context={"llm": ScriptedLLM()})
    lottery = run_sync(lottery_of, mechanism, auction)
    assert [prob for prob, _ in lottery] == pytest.approx([1 / 5] * 5)  # the scripted model: uniform over options
    outcome = run_sync(run_mechanism, mechanism, auction)
    assert outcome.details["propensity"] == pytest.approx(1 / 5)
    shown = {placement.ad_id: placement.price for placement in outcome.placements}
    assert shown.items() <= {"c0": 50.0, "c1": 20.0}.items()
    assert outcome.usage.calls == 1 + 1 + len(shown)  # the choice, the answer, a sentence for each ad
    paper = make_mechanism("llm_auction", context={"llm": ScriptedLLM(follows_formats=True)})
    assert run_sync(run_mechanism, paper, auction).usage.calls == 1


def test_the_digit_and_the_order_may_be_those_of_a_predicted_click_probability() -> None:
    auction = make_auction([50.0, 9.0, 80.0], [0.7, 0.4, 0.1], reserve=10.0)
    ctr = GivenCTR([0.02, 0.9, 0.1])
    lines = offer(auction, score="pctr", ctr=ctr).prompt.user.splitlines()
    assert lines[1].startswith("A Product It is good 5 A A A")  # 9 * log(0.1 / 0.01) / log(0.5 / 0.01) = 5.3
    assert lines[2].startswith("B Product It is good 2 B B")  # the second bid is below the reserve
    assert [bid.ad.id for bid in offer(auction, score="pctr", ctr=ctr).bids] == ["c2", "c0"]
    assert [bid.ad.id for bid in offer(auction, score="pctr", ctr=ctr, order=[0, 1, 2]).bids] == ["c0", "c2"]
    asked = page(auction, shown=digits(auction, "pctr", ctr))
    assert [ad.id for ad in asked.ads] == ["c2", "c0"]
    assert [line[:3] for line in asked.prompt.user.splitlines()[-2:]] == ["A 5", "B 2"]
    assert [ad.id for ad in page(auction, shown={}).ads] == ["c0", "c2"]  # without digits: the retriever's
    shown = digits(auction, "pctr", GivenCTR([0.0, 0.9, 0.01]))
    assert shown == {"c0": " 0", "c1": " 9", "c2": " 0"}
    assert list(shown) == ["c1", "c2", "c0"]
    with pytest.raises(InputError, match='the score "pctr" needs a CTR model, got none'):
        offer(auction, score="pctr")


def test_the_digit_and_the_order_may_be_those_of_the_bid_times_the_probability() -> None:
    auction = make_auction([50.0, 10.0, 80.0], [0.7, 0.4, 0.1])
    ctr = GivenCTR([0.02, 0.9, 0.1])
    offered = offer(auction, score="ecpm", ctr=ctr)
    assert [bid.ad.id for bid in offered.bids] == ["c1", "c2", "c0"]  # 9, 8 and 1
    assert offered.digits == {"c1": " 7", "c2": " 6", "c0": " 3"}  # 9 * log(9 / 0.1) / log(50 / 0.1) = 6.5
    assert offered.prompt.user.splitlines()[1].startswith("A Product It is good 7 A")
    llm = ScriptedLLM()
    asyncio.run(TunedWriter(llm, score="ecpm", ctr=ctr).own_choice(auction, show_bids=True))
    asyncio.run(TunedWriter(llm, score="ecpm", ctr=ctr).own_choice(auction, show_bids=False))
    constraints = [request.constraint for request in llm.requests]
    links = {bid.ad.id: bid.ad.link for bid in auction.bids}
    assert [getattr(one, "links", ())[0] for one in constraints] == [links["c1"], links["c1"]]
    moved = make_auction([50.0, 1.0, 80.0], [0.7, 0.4, 0.1])
    assert list(digits(moved, "ecpm", ctr)) == ["c2", "c0", "c1"]
    asyncio.run(TunedWriter(llm, score="ecpm", ctr=ctr).own_choice(moved, show_bids=False))
    hidden = llm.requests[-1].constraint  # an order by bids would show them
    assert [*getattr(hidden, "links", ())] == [links[i] for i in ("c1", "c2", "c0")]


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(UnknownName, match="score of llm_auction 'cosine'"):
        make_mechanism("llm_auction", context={"llm": ScriptedLLM()}, score="cosine")
    for options, got in (({}, "no adapter"), ({"format": "json"}, "the json format")):
        with pytest.raises(InputError, match=f"needs an adapter and no json format, got {got}"):
            make_mechanism("llm_auction", context={"llm": ScriptedLLM()}, score="pctr", **options)
    with pytest.raises(UnknownName, match="format of llm_auction 'xml'"):
        make_mechanism("llm_auction", context={"llm": ScriptedLLM()}, format="xml")
    with pytest.raises(DataFileError, match="somewhere: no adapter"):
        make_mechanism("llm_auction", context={"llm": ScriptedLLM()}, adapter="somewhere")


def test_parts_are_disjoint_and_of_the_stated_size() -> None:
    for records in (load_personas(), load_catalog()):
        parts = {part: only(records, part) for part in ("train", "validation", "test")}
        assert sum(map(len, parts.values())) == len(records)
        assert all(part_of(record) == part for part, owned in parts.items() for record in owned)
        for part, share in (("train", 0.60), ("validation", 0.15), ("test", 0.25)):
            # Binomial: 4 standard deviations, a false alarm of 1e-4 for a pack of other ids.
            slack = 4 * math.sqrt(share * (1 - share) / len(records))
            assert abs(len(parts[part]) / len(records) - share) < slack


def test_the_regressions_optimum_is_the_tilted_distribution() -> None:
    config = Config(loss="regression", kl_weight=10.0)
    ref = torch.tensor([0.2, -0.4, 0.1]).log_softmax(0)
    scores = torch.tensor([30.0, 5.0, 0.0])
    group = Group([(0,), (1,), ()], ref.tolist(), scores.tolist())
    tilted = (ref + scores / 10.0).log_softmax(0)
    at_optimum = loss_of(tilted, group, config)
    assert float(at_optimum) < 1e-12
    logits = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(600):
        loss = loss_of(logits.log_softmax(0), group, config)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.allclose(logits.softmax(0), tilted.exp(), atol=1e-3)


def test_dpo_prefers_the_winner_to_all_that_lose_by_more_than_delta() -> None:
    config = Config(loss="dpo", beta=0.5, delta=10.0)
    ref, now = torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0.6, 0.3, 0.1]).log()
    group = Group([(0,), (1,), ()], ref.tolist(), [30.0, 21.0, 0.0])
    margin = 0.5 * ((now[0] - ref[0]) - (now[2] - ref[2]))  # the second loses by 9 alone
    assert float(loss_of(now, group, config)) == pytest.approx(-math.log(1 / (1 + math.exp(-margin))))
    assert teaches(group, config)
    assert not teaches(group._replace(rewards=[30.0, 25.0, 21.0]), config)
    assert not teaches(Group([(0,)], [0.0], [1.0]), config)
    assert not teaches(Group([(0,)], [0.0], [1.0]), Config(loss="regression"))


def test_samples_follow_the_distribution_and_facts_are_exact() -> None:
    logs = torch.tensor([[-math.inf, 0.5, 0.2], [0.1, -math.inf, 0.1], [-math.inf, -math.inf, 0.1]])
    logs = torch.where(torch.isfinite(logs), logs.clamp(min=1e-9).log(), logs)
    drawn = sample(logs, 4000, "test")
    assert sample(logs, 4000, "test") == drawn
    for choice, prob in (((0, 1), 0.5), ((0,), 0.2), ((1, 0), 0.1), ((1,), 0.1), ((), 0.1)):
        assert logs[cell(choice, 2)].exp() == pytest.approx(prob)
        # 4 standard deviations: false alarm below 1e-4 each
        assert abs([one.response for one in drawn].count(choice) / 4000 - prob) < 4 * math.sqrt(
            prob * (1 - prob) / 4000
        )
    values = np.where(np.isfinite(logs.numpy()), 0.0, -np.inf)
    values[0, 1] = 20.0
    facts = distribution_facts([logs], [logs], [values], kl_weight=10.0)
    assert facts["reward"] == pytest.approx(10.0)
    assert facts["share"] == pytest.approx(0.5)
    assert facts["kl"] == pytest.approx(0.0)
    e2 = math.exp(2)
    assert facts["tv_tilted"] == pytest.approx(0.5 * e2 / (0.5 * e2 + 0.5) - 0.5, abs=1e-6)
    assert "reward" not in distribution_facts([logs], [logs], None, kl_weight=10.0)
