"""Worlds of the click model: files, errors field by field, and what the worlds that ship say."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from simenv import Ad, Auction, Bid, Query, outcome
from simenv.background_loop import run_sync
from simenv.ctr.oracle import OracleCTR
from simenv.encoder import default_encoder
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import WORLDS, ClickParams, load_world
from simenv.judges.factory import make_judge, pick_user_llm
from simenv.llm import ScriptedLLM
from simenv.records import ShownAd
from simenv.runs.build import click_world_of, plan
from simenv.runs.named_files import file_hashes
from simenv.runs.options import BenchOptions
from simenv.testing import PERSONAS, FakeEncoder

HASHES = {
    "v1": "5a15f0f269d65f4ffe9ea41d3793703577153e2ba7319022840f60b45b08833b",
    "rare": "0aca557d90d7284f1d2019ec7ad47c57c1149734a9005ea74194281a177853e3",
    "labels": "fd386394dd3876337bc8de06daf5a355812304455afc130502518220e99d5409",
    "fatigue": "f0bdd3eb8fa8a4046c61deab22b73a8f38f0da9584dea2891dd94a56059232b0",
}
AD = Ad(id="A1", advertiser="Tern", title="Tern hiking boots", body="Boots for wet trails.", category="outdoor")
AUCTION = Auction(id="t", query=Query(text="which hiking boots for wet trails"), bids=(Bid(ad=AD, amount=1),))
ANSWER = "For wet trails take hiking boots with a membrane. Wear them in before the tour."
PLAIN = f"For wet trails there is the {AD.link}. They are made of leather and weigh one kilogram."
OPEN = f"For wet trails there is the {AD.link}. It is by far the best choice for you, and the others do not come close."
HIDDEN = f"For wet trails there is the {AD.link}. Many hikers like how well these keep their feet dry."


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("name", WORLDS)
def test_worlds_that_ship_are_frozen(name: str) -> None:
    world = load_world(name)
    assert world.world == name
    assert world.sha256 == HASHES[name]


def test_a_file_names_what_differs(tmp_path: Path) -> None:
    world = load_world(written(tmp_path, 'like = "v1"\nworld = "mine"\n[flooding]\nrate = 0.1\n'))
    assert world == load_world("v1").changed({"world": "mine", "flooding.rate": 0.1})
    assert world.sha256 not in [load_world(name).sha256 for name in WORLDS]


def test_appeals_of_a_file_are_used_in_place_of_the_hidden_draws(tmp_path: Path) -> None:
    answer = outcome(AUCTION, f"{ANSWER} {PLAIN}", {"A1": 1.0})

    def chance(appeal: float) -> float:
        text = f'like = "v1"\nworld = "mine"\n[appeals]\n"hiking boots" = {appeal}\n'
        judge = ClickModel(FakeEncoder(), load_world(written(tmp_path, text)))
        return judge.probabilities(PERSONAS[0], AUCTION, answer)["A1"]

    assert chance(-2.0) < chance(2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('world = "mine"', "attraction: field required; examination: field required; nativeness: field required"),
        ('like = "v1"\nworld = "v1"\n', "world: 'v1' is the name of a world of simenv: give it another name"),
        ('like = "v2"\nworld = "mine"\n', "like: unknown world 'v2', known are v1, rare, labels, fatigue"),
        ('like = "v1"\nworld = "my world"\n', r"world: string should match pattern .*, got 'my world'"),
        (
            'like = "v1"\nworld = "mine"\n[examination]\nrank_discount = 2\ndeth_loss = 1\n',
            r"examination.rank_discount: input should be less than or equal to 1, got 2; "
            r"examination.deth_loss: extra inputs are not permitted, got 1",
        ),
        (
            'like = "v1"\nworld = "mine"\n[leaks]\ncue_none = 0.5\n',
            r"leaks.cue_none must be below leaks.cue_full, got 0.5 and 0.35",
        ),
        (
            'like = "v1"\nworld = "mine"\n[attraction]\nbase = inf\n',
            r"attraction.base: input should be a finite number",
        ),
        ("world = ", "not TOML: "),
    ],
)
def test_errors_name_every_field(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataFileError, match=f"mine.toml: {said}"):
        load_world(written(tmp_path, text))


def test_a_world_with_readers_needs_the_cue(tmp_path: Path) -> None:
    readers = load_world("labels").readers
    assert readers is not None
    lines = "".join(f"{name} = {value}\n" for name, value in readers.model_dump().items())
    with pytest.raises(DataFileError, match=r"readers needs sentences of the cue persuasion in examples.persuasion"):
        load_world(written(tmp_path, f'like = "v1"\nworld = "mine"\n[readers]\n{lines}'))


def test_a_judge_is_made_in_a_world(tmp_path: Path) -> None:
    file = written(tmp_path, 'like = "rare"\nworld = "mine"\n')
    assert make_judge("click", encoder=FakeEncoder()).name == "click-model-v1"
    assert make_judge("click:rare", encoder=FakeEncoder()).name == "click-model-rare"
    assert make_judge(f"click:{file}", encoder=FakeEncoder()).name == "click-model-mine"
    assert pick_user_llm("click:rare", None, ScriptedLLM(follows_formats=True)) is None
    with pytest.raises(InputError, match="the judge click:rare asks no User-LLM"):
        pick_user_llm("click:rare", ScriptedLLM(), None)
    with pytest.raises(UnknownName, match="unknown click world 'rar': did you mean rare"):
        make_judge("click:rar", encoder=FakeEncoder())


def test_a_run_hashes_its_worlds_file_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    file = written(tmp_path, 'like = "rare"\nworld = "mine"\n')
    options = BenchOptions(mechanisms=("gsp",), llm="scripted", judge=f"click:{file}")
    before = file_hashes(options)
    assert list(before) == [str(file)]
    assert click_world_of(options) == str(file)
    plan(options)
    written(tmp_path, 'world = "mine"\n')
    assert file_hashes(options) != before
    with pytest.raises(DataFileError, match=r"mine.toml: attraction: field required"):
        plan(options)
    by_setting = BenchOptions(mechanisms=("gsp",), llm="scripted", settings=(f"click.world={file}",))
    assert (click_world_of(by_setting), list(file_hashes(by_setting))) == (str(file), [str(file)])
    with pytest.raises(DataFileError, match=r"mine.toml: attraction: field required"):
        plan(by_setting)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def odds(share: float) -> float:
    return share / (1 - share)


def test_the_world_labels_has_the_shares_that_were_measured() -> None:
    """Its numbers give back the shares of arXiv 2604.04263: who chose a sponsored book, and who noticed."""
    readers = load_world("labels").readers
    assert readers is not None

    def chosen(persuasion: float, label: int) -> tuple[float, float]:
        plain = math.log(odds(0.2795))  # log-odds of the favoured place alone for who notices nothing
        noticing = sigmoid(readers.notice + readers.notice_label * label + readers.notice_persuasion * persuasion)
        x = plain + readers.persuasion * persuasion
        return (1 - noticing) * sigmoid(x) + noticing * sigmoid(x + readers.noticed), noticing

    assert chosen(0, 0)[0] == pytest.approx(0.268, abs=0.002)
    assert chosen(1, 0) == pytest.approx((0.612, 0.179), abs=0.005)
    assert chosen(1, 1) == pytest.approx((0.555, 0.351), abs=0.005)
    assert chosen(0.407, 0) == pytest.approx((0.407, 0.095), abs=0.005)
    shares = [chosen(1, 1)[0], chosen(1, 0)[0], chosen(0.407, 0)[0], chosen(0, 0)[0]]
    assert odds(shares[0]) / odds(shares[1]) == pytest.approx(0.79, abs=0.02)
    assert odds(shares[1]) / odds(shares[3]) == pytest.approx(4.3, abs=0.1)
    assert odds(shares[2]) / odds(shares[1]) == pytest.approx(0.44, abs=0.01)


@pytest.mark.weights
def test_in_the_world_labels_wording_moves_clicks_more_than_a_label() -> None:
    """Of an ad that is otherwise chosen by half of its readers: where nearly all click, no word adds much."""
    judge = ClickModel(default_encoder(), load_world("labels").changed({"attraction.base": -3.5}))
    texts = {"plain": PLAIN, "open": OPEN, "hidden": HIDDEN, "label": f"Sponsored: {OPEN}"}
    chance, noticed = {}, {}
    for name, text in texts.items():
        answer = outcome(AUCTION, f"{ANSWER} {text}", {"A1": 1.0})
        measures = judge.measure(PERSONAS[0], AUCTION, answer)
        chance[name], noticed[name] = judge.probabilities_of(measures)["A1"], judge.noticing_of(measures)["A1"]
        (click,) = run_sync(judge.judge, PERSONAS[0], AUCTION, answer).clicks
        assert click.reason == f"notices that it is an ad with probability {noticed[name]:.2f}"
    assert chance["plain"] < chance["label"] < chance["open"]
    assert chance["open"] - chance["label"] < chance["label"] - chance["plain"]
    assert noticed["label"] > noticed["open"] > noticed["hidden"] > noticed["plain"] - 0.01


def test_worlds_without_readers_say_nothing_of_noticing() -> None:
    judge, answer = ClickModel(FakeEncoder()), outcome(AUCTION, f"{ANSWER} {PLAIN}", {"A1": 1.0})
    assert judge.noticing_of(judge.measure(PERSONAS[0], AUCTION, answer)) == {}
    assert [click.reason for click in run_sync(judge.judge, PERSONAS[0], AUCTION, answer).clicks] == [""]
    params: ClickParams = judge.params
    assert "readers" not in params.model_dump()


def test_in_the_world_fatigue_an_earlier_showing_halves_the_odds() -> None:
    """And any other ad takes a fifth: the odds of attraction, with the oracle's predictions following."""
    judge, v1 = ClickModel(FakeEncoder(), load_world("fatigue")), ClickModel(FakeEncoder())
    assert (judge.remembers, v1.remembers) == (True, False)
    seen = (ShownAd(ad_id="A1", turn=0), ShownAd(ad_id="A2", turn=0), ShownAd(ad_id="A1", turn=1))
    later = AUCTION.model_copy(update={"shown": seen})
    oracle = OracleCTR(judge, PERSONAS)
    first, second = (
        float(oracle.relevance(it.model_copy(update={"profile": PERSONAS[0].profile}))[0]) for it in (AUCTION, later)
    )
    assert odds(second) / odds(first) == pytest.approx(math.exp(2 * -0.69 - 0.22))
    assert math.exp(-0.69) == pytest.approx(0.5, abs=0.002)
    assert math.exp(-0.22) == pytest.approx(0.8, abs=0.003)
    answer = outcome(AUCTION, f"{ANSWER} {PLAIN}", {"A1": 1.0})
    chances = [judge.probabilities(PERSONAS[0], it, answer)["A1"] for it in (AUCTION, later)]
    assert chances[1] / chances[0] == pytest.approx(second / first)
    assert v1.probabilities(PERSONAS[0], AUCTION, answer) == v1.probabilities(PERSONAS[0], later, answer)
