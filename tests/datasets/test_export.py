"""The click log as training data, read back with the libraries that people train with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pandas
import pytest

from simenv.background_loop import run_sync
from simenv.datasets.export import CLICK_COLUMNS, export_clicks
from simenv.errors import InputError
from simenv.market.bidders import BidRequest
from simenv.market.values import UniformValues
from simenv.records import Traits, Transition
from simenv.testing import PERSONAS, small_world
from simenv.world import World
from tests.support.fakes import Hesitant
from tests.support.runs import transitions


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(small_world(judge=Hesitant()), "gsp", "organic", "prompted")


def shown(rows: list[Transition]) -> list[tuple[Transition, int]]:
    return [(row, position) for row in rows for position in range(len(row.outcome.placements))]


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_pandas_reads_one_row_per_shown_ad(tmp_path: Path, rows: list[Transition], ending: str) -> None:
    out = tmp_path / f"clicks.{ending}"
    assert export_clicks(rows, out) == len(shown(rows)) > 20
    frame = pandas.read_parquet(out) if ending == "parquet" else pandas.read_json(out, lines=True)
    assert list(frame.columns) == list(CLICK_COLUMNS)
    for read, (row, position) in zip(frame.to_dict("records"), shown(rows), strict=True):
        placement, click = row.outcome.placements[position], row.feedback.clicks[position]
        bid = row.auction.bid_of(placement.ad_id)
        at = (row.mechanism, row.index, row.auction.session_id, row.turn)
        assert (read["mechanism"], read["index"], read["session_id"], read["turn"]) == at
        assert (read["auction_id"], read["persona_id"]) == (row.auction.id, row.persona_id)
        assert (read["profile"], read["query"]) == (row.auction.profile, row.auction.query.text)
        assert (read["ad_id"], read["ad_title"], read["ad_body"]) == (bid.ad.id, bid.ad.title, bid.ad.body)
        assert (read["ad_category"], read["position"]) == (bid.ad.category, position)
        assert (read["bid"], read["price"]) == (bid.amount, pytest.approx(placement.price))
        assert read["response"][read["span_start"] : read["span_end"]] == bid.ad.link
        if click.clicked is None:
            assert pandas.isna(read["clicked"])
            assert pandas.isna(read["click_prob"])
        else:
            assert read["clicked"] == click.clicked
            assert read["click_prob"] == pytest.approx(click.click_prob)
    assert {True, False} <= set(frame["clicked"].dropna().astype(bool))
    assert frame["clicked"].isna().any()
    assert frame["click_prob"].dropna().between(0, 1).all()


@pytest.mark.parametrize(("ending", "builder"), [("parquet", "parquet"), ("jsonl", "json")])
def test_datasets_reads_it_with_abstentions_as_null(
    tmp_path: Path, rows: list[Transition], ending: str, builder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    import datasets

    out = tmp_path / f"clicks.{ending}"
    export_clicks(rows, out)
    loaded = datasets.load_dataset(builder, data_files=str(out), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == list(CLICK_COLUMNS)
    dtypes = {name: loaded.features[name].dtype for name in ("clicked", "click_prob", "bid", "index", "response")}
    assert dtypes["clicked"] == "bool"
    assert dtypes["click_prob"] == dtypes["bid"] == "float64"
    assert dtypes["index"] == "int64"
    assert dtypes["response"] in ("string", "large_string")
    clicks = [row.feedback.clicks[position] for row, position in shown(rows)]
    assert loaded["clicked"][:] == [click.clicked for click in clicks]
    assert loaded["click_prob"][:] == [click.click_prob and pytest.approx(click.click_prob) for click in clicks]
    assert None in loaded["clicked"][:]
    assert None in loaded["click_prob"][:]


def test_a_run_without_ads_exports_no_rows_and_all_columns(tmp_path: Path) -> None:
    rows = transitions(small_world(), "organic")
    assert export_clicks(rows, tmp_path / "clicks.parquet") == 0
    frame = pandas.read_parquet(tmp_path / "clicks.parquet")
    assert list(frame.columns) == list(CLICK_COLUMNS)
    filled = pandas.read_parquet(_exported(tmp_path / "filled.parquet"))
    assert dict(frame.dtypes) == dict(filled.dtypes)
    assert export_clicks(rows, tmp_path / "clicks.jsonl") == 0
    assert (tmp_path / "clicks.jsonl").read_text(encoding="utf-8").split() == []


def _exported(out: Path) -> Path:
    assert export_clicks(transitions(small_world(judge=Hesitant()), "gsp"), out) > 0
    return out


def test_another_ending_is_refused_before_the_run_is_read(tmp_path: Path) -> None:
    def unread() -> Iterator[Transition]:
        yield pytest.fail("was read")

    with pytest.raises(InputError, match=r"clicks\.csv: cannot write files of type '\.csv', expected \.parquet"):
        export_clicks(unread(), tmp_path / "clicks.csv")
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist"):
        export_clicks(unread(), tmp_path / "nowhere" / "clicks.jsonl")


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_what_cannot_be_written_is_named_and_leaves_nothing(
    tmp_path: Path, ending: str, rows: list[Transition]
) -> None:
    out = tmp_path / f"clicks.{ending}"
    out.mkdir()
    with pytest.raises(InputError) as caught:
        export_clicks(rows, out)
    assert str(caught.value).startswith(f"cannot write {out}: ")
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_failed_export_leaves_the_older_file(tmp_path: Path, rows: list[Transition]) -> None:
    def torn() -> Iterator[Transition]:
        yield rows[0]
        raise InputError("torn")

    out = tmp_path / "clicks.jsonl"
    out.write_text("older", encoding="utf-8")
    with pytest.raises(InputError, match="torn"):
        export_clicks(torn(), out)
    assert out.read_text(encoding="utf-8") == "older"


@pytest.fixture
def secretive(monkeypatch: pytest.MonkeyPatch) -> World:
    """A world whose private numbers and texts are nowhere else: values, traits, tastes, attitudes."""

    class Seven:
        name = "seven"

        def bid(self, request: BidRequest) -> float:
            return 7.0

    monkeypatch.setattr(UniformValues, "value", lambda self, auction_id, ad: 90210.125)
    traits = Traits(
        ad_tolerance=0.123456789, price_sensitivity=0.234567891, patience=0.345678912, affinity={"shoes": -0.456789123}
    )
    private = {"traits": traits, "attitude": "a-secret-attitude", "income": "secret-income", "region": "secret-region"}
    return small_world(bidder=Seven(), personas=[p.model_copy(update=private) for p in PERSONAS])


def leaks(text: str) -> list[str]:
    return re.findall("90210|123456|234567|345678|456789|secret", text)


def test_an_auction_tells_nothing_private(secretive: World) -> None:
    private = secretive.personas[0].model_dump_json()
    assert len(set(leaks(private))) == 5  # four numbers and the texts: the search does find them
    for number in range(4):
        session = run_sync(secretive.session, 0, number)
        for turn in range(secretive.horizon):
            auction = secretive.auction(session, turn)
            assert leaks(auction.model_dump_json()) == []
            assert {bid.amount for bid in auction.bids} == {7.0}


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_an_export_tells_nothing_private(tmp_path: Path, secretive: World, ending: str) -> None:
    rows = transitions(secretive, "gsp", "prompted")
    assert leaks(rows[0].model_dump_json()) != []  # the run's own folder does hold the values
    out = tmp_path / f"clicks.{ending}"
    assert export_clicks(rows, out) > 0
    frame = pandas.read_parquet(out) if ending == "parquet" else pandas.read_json(out, lines=True)
    assert leaks(frame.to_json()) == []
