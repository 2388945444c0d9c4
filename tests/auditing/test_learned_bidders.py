"""Bidders that bid as those of an audit learned to, over the grid of shares that stands in the audit's file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simenv.auditing import play
from simenv.auditing.learned_bidders import LearnedBidders
from simenv.auditing.records import Audit
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.market.bidders import BidRequest, Budgeted, make_bidder
from simenv.mechanism import Mechanism
from simenv.testing import ADS
from tests.support.bidding import FirstPrice, run
from tests.support.paths import ROOT

OLD = ROOT / "benchmarks" / "results" / "audit" / "1_prompted.json"
"""An audit.json of format 1, without learned strategies."""
REACH: dict[str, Any] = {name: {} for name in ("revenue", "welfare", "efficiency", "bid_share", "spent")}


def audit_file(folder: Path, strategy: list[float], **changes: Any) -> Path:
    """An audit.json in which everybody learned `strategy` under llm_auction; None takes a key away."""
    fields = json.loads(OLD.read_text(encoding="utf-8"))
    play = {"learned": {**REACH, "strategy": strategy}}
    fields["mechanisms"] = {"llm_auction": fields["mechanisms"]["prompted"] | {"play": play}}
    fields = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    file = folder / "audit.json"
    file.write_text(json.dumps(fields), encoding="utf-8")
    return file


def share_bid(file: Path) -> float:
    """Of the value, by those who are sure of it."""
    return LearnedBidders.read(str(file)).of("llm_auction").bid(BidRequest("an auction", "s", 0, ADS[0], 100.0)) / 100


def test_each_mechanism_meets_those_who_learned_under_it() -> None:
    bidders = LearnedBidders({"first_price": {0.2: 0, 0.4: 1}, "other": {0.4: 0, 0.8: 1}})
    mechanisms: dict[str, Mechanism] = {"first_price": FirstPrice(), "other": FirstPrice()}
    for world in (bidders, Budgeted(bidders, 1e6)):
        for row in run(world, mechanisms, n=3):
            share = {"first_price": 0.4, "other": 0.8}[row.mechanism]
            for bid in row.auction.bids:
                assert bid.amount == pytest.approx(share * row.values[bid.ad.id])
    with pytest.raises(UnknownName, match=r"mechanism of learned bidders 'gsp': known are first_price, other"):
        run(bidders, {"gsp": FirstPrice()}, n=1)
    with pytest.raises(InputError, match="differ between mechanisms"):
        bidders.bid(BidRequest("a", "s", 0, ADS[0], 1.0))


def test_the_hash_is_of_strategies_and_grid() -> None:
    hashes = [LearnedBidders({"gsp": strategy}).sha256 for strategy in ({0.2: 1.0}, {0.2: 1.0}, {0.3: 1.0})]
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_grid_is_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever grid this version plays: one of equal length would be taken for it without a word."""
    old = audit_file(tmp_path, [0, 1, 0, 0, 0])
    assert share_bid(old) == pytest.approx(0.4)
    monkeypatch.setattr(play, "SHARES", (0.1, 0.3, 0.5, 0.7, 0.9))
    assert share_bid(old) == pytest.approx(0.4), "format 1 had a grid of its own, and did not say so"
    new = audit_file(tmp_path, [0, 1, 0, 0, 0], format=2, shares=[0.5, 0.6, 0.7, 0.8, 0.9])
    assert share_bid(new) == pytest.approx(0.6)
    assert share_bid(audit_file(tmp_path, [0, 1], format=2, shares=[0.5, 0.75])) == pytest.approx(0.75)
    assert make_bidder(f"learned:{new}").name == f"learned:{new}"


def test_files_of_several_grids_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    fields = json.loads(audit_file(tmp_path / "old", [0, 1, 0, 0, 0]).read_text(encoding="utf-8"))
    fields["mechanisms"]["gsp"] = fields["mechanisms"].pop("llm_auction")
    (tmp_path / "old" / "audit.json").write_text(json.dumps(fields), encoding="utf-8")
    new = audit_file(tmp_path, [0, 1], format=2, shares=[0.5, 0.75])
    bidders = LearnedBidders.read(f"{tmp_path / 'old' / 'audit.json'},{new}")
    assert [
        bidders.of(name).bid(BidRequest("a", "s", 0, ADS[0], 100.0)) for name in ("gsp", "llm_auction")
    ] == pytest.approx([40.0, 75.0])


@pytest.mark.parametrize(
    ("strategy", "changes", "said"),
    [
        ([0, 1], {"format": 2, "shares": [0.5, 0.75, 1.0]}, "a strategy of 2 probabilities over 3 shares"),
        ([0, 1], {}, "a strategy of 2 probabilities over 5 shares"),
        ([0, 1], {"format": 2}, "shares: Field required"),
        ([0, 1], {"format": 3, "shares": [0.5, 0.75]}, "format: .* 2"),
    ],
)
def test_a_strategy_without_its_grid_is_refused(
    strategy: list[float], changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    file = audit_file(tmp_path, strategy, **changes)
    with pytest.raises(DataFileError, match=rf"audit\.json: not an audit: .*{said}"):
        make_bidder(f"learned:{file}")


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", '{"format": 1}', "{"])
def test_what_is_no_audit_is_refused(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(DataFileError, match=r"audit\.json: (not an audit|no such file)"):
        make_bidder(f"learned:{file}")


def test_an_audit_in_which_nobody_learned_is_refused(tmp_path: Path) -> None:
    audit = json.loads(OLD.read_text(encoding="utf-8"))
    file = tmp_path / "audit.json"
    for played in ({}, {"budgets": REACH}):
        audit["mechanisms"]["prompted"]["play"] = played
        file.write_text(json.dumps(audit), encoding="utf-8")
        with pytest.raises(DataFileError, match="no learned strategies"):
            make_bidder(f"learned:{file}")


def test_an_audit_of_format_1_is_written_again_as_format_2() -> None:
    again = json.loads(Audit.model_validate_json(OLD.read_text(encoding="utf-8")).model_dump_json())
    assert (again["format"], again["shares"]) == (2, [0.2, 0.4, 0.6, 0.8, 1.0])
    assert json.loads(Audit.model_validate(again).model_dump_json()) == again
