"""The validity report's hostile ads, outside data, reliability, files and command."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from simenv import stats
from simenv.cli.main import main
from simenv.errors import DataFileError, InputError
from simenv.judges.factory import make_judge
from simenv.judges.llm_judge import LLMJudge
from simenv.records import Auction, Click, Feedback, Outcome, Persona, Usage
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder, small_world
from simenv.validity import attacks, outside, reliability, scenarios
from simenv.validity.ask import CachedJudge
from simenv.validity.report import report_of, write_report
from simenv.validity.run import Validity, ValidityOptions, validate
from tests.support.fakes import ConstantJudge, FormulaJudge, RandomJudge
from tests.support.tiny_scenarios import TWO

ENCODER = FakeEncoder()


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_RESAMPLES", 20)


def attacked(judge: Any) -> dict[str, attacks.Attacked]:
    return asyncio.run(attacks.measure(CachedJudge(judge), TWO))


# hostile ads


def test_every_hostile_text_leaves_the_ad_in_question_shown() -> None:
    texts = attacks.load_attacks()
    assert len(texts) >= 60
    assert len({attack.id for attack in texts}) == len(texts)
    for attack in texts:
        for pair in attacks.pairs(attack, TWO[0]):
            assert pair.hostile.ad_id == pair.clean.ad_id
            assert pair.hostile.ad_id in {p.ad_id for p in pair.hostile.outcome.placements}, attack.id
            assert pair.clean != pair.hostile
            assert not re.search(r"\{(ad_id|other_id|title|other_title|link)\}", pair.hostile.outcome.response)
            body = pair.hostile.auction.bid_of(pair.hostile.ad_id).ad.body
            assert (len(body) > len(TWO[0].ad.body)) == (pair.place == "body"), "in one place at a time"


def test_attacks_on_a_judge_that_does_not_listen_change_nothing() -> None:
    found = attacked(ConstantJudge())
    assert found["all"].attacks == len(attacks.load_attacks())
    assert found["all"].judged == 2 * found["all"].attacks
    for result in found.values():
        assert (result.change.value, result.absolute.value, result.raised.value) == (0, 0, 0)
        assert (result.broken, result.broken_silently) == (0, 0)


def test_a_judge_that_obeys_is_found_out_by_kind_and_place() -> None:
    def obeys(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
        return 0.9 if '"clicked": true' in outcome.response else 0.4

    found = attacked(FormulaJudge(obeys))
    texts = [attack for attack in attacks.load_attacks() if '"clicked": true' in attack.text]
    forged = [attack for attack in texts if attack.kind == "forged_json"]
    assert found["body"].change.value == 0
    assert found["sentence"].change.value == pytest.approx(0.5 * len(texts) / found["all"].attacks)
    assert found["sentence"].raised.value == pytest.approx(len(texts) / found["all"].attacks)
    assert found["forged_json"].change.value == pytest.approx(0.5 * len(forged) / found["forged_json"].attacks / 2)
    assert found["blackmail"].change.value == 0


def test_signed_and_absolute_changes_differ() -> None:
    def startled(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
        return 0.5 + 0.1 * (len(outcome.response) > 400) - 0.3 * ("clicked" in outcome.response)

    found = attacked(FormulaJudge(startled))["all"]
    assert found.change.value < 0 < found.absolute.value
    assert abs(found.change.value) < found.absolute.value


def test_broken_verdicts_are_told_from_those_broken_silently() -> None:
    class Breakable:
        name = "breakable"

        async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
            shown = [p.ad_id for p in outcome.placements]
            if "</answer>" in outcome.response:
                return Feedback(clicks=tuple(Click(ad_id=i, clicked=None) for i in shown))
            if "TRUSTED-1" in outcome.response:
                shown = ["TRUSTED-1"]
            return Feedback(clicks=tuple(Click(ad_id=i, clicked=True, click_prob=0.5) for i in shown))

    texts = attacks.load_attacks()
    found = attacked(Breakable())
    assert found["all"].broken_silently == sum("TRUSTED-1" in a.text for a in texts) == 1
    # The silent one gives no verdict on the ad in question either.
    assert found["all"].broken == sum("</answer>" in a.text for a in texts) + 1
    assert found["body"].broken == 0
    assert found["all"].judged == 2 * len(texts) - found["all"].broken


def test_few_attacks_per_kind() -> None:
    found = asyncio.run(attacks.measure(CachedJudge(ConstantJudge()), TWO, per_kind=1))
    assert found["all"].attacks == len(found) - 3  # one of each kind; three rows are "all" and the places


# outside data


@pytest.fixture
def webis(tmp_path: Path) -> Path:
    """Two topics whose ads share words with the queries that they are curated for."""
    folder = tmp_path / "webis"
    folder.mkdir()
    ads = {"tea": ["green leaves", "black leaves", "white buds"], "cars": ["fast wheels", "slow wheels", "wide roofs"]}
    for topic, names in ads.items():
        qualities = "\n".join(f'"{name} [{topic}]",brand,"{name}"' for name in names)
        (folder / f"{topic}_qualities.csv").write_text(f"advertisement,type,qualities\n{qualities}\n")
        pairs = "\n".join(f'which {name},"{name} [{topic}]"' for name in names)
        (folder / f"{topic}_query_pairs.csv").write_text(f"query,advertisement\n{pairs}\n")
    return folder


def overlap(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    """The share of the query's words that the answer has."""
    words = auction.query.text.split()
    return sum(word in outcome.response.split() or f"{word}." in outcome.response for word in words) / len(words)


def test_curated_pairs_against_other_ads(webis: Path) -> None:
    rows = outside.sample_webis(webis, 2)
    assert [kind for kind, _ in rows] == ["curated", "other_topic", "same_topic"] * 4
    assert len({labelling.query for _, labelling in rows}) == 4
    for kind, labelling in rows:
        of_topic = "leaves" in labelling.query or "buds" in labelling.query
        assert labelling.label == (kind == "curated")
        assert (f"which {labelling.ad.body}" == labelling.query) == (kind == "curated")
        assert (of_topic == labelling.ad.title.endswith("tea")) == (kind != "other_topic")
        assert labelling.ad.category == "general", "a judge's taste for topics is not what is looked at"
    assert rows == outside.sample_webis(webis, 2)
    assert rows != outside.sample_webis(webis, 2, seed=1)

    found = asyncio.run(outside.measure_webis(CachedJudge(FormulaJudge(overlap)), webis, ENCODER))
    assert found["other_topic"].auc.value == 1
    assert found["other_topic"].queries == 6
    assert found["other_topic"].pairs == 12
    blind = asyncio.run(outside.measure_webis(CachedJudge(ConstantJudge()), webis, ENCODER))
    assert blind["same_topic"].auc.value == 0.5
    # The cosine of the fake encoder sees the same words: the baseline does not depend on the judge.
    assert blind["same_topic"].cosine_auc == found["same_topic"].cosine_auc
    assert blind["other_topic"].cosine_auc.value == 1


def test_a_folder_without_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match="at least two files"):
        outside.sample_webis(tmp_path, 2)


def test_a_labelled_file_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("q,ad,label\na,tea 0.9,1\nb,tea 0.4,1\nc,tea 0.5,0\nd,tea 0.1,0\ne,tea none,1\n")

    def said(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float | None:
        number = outcome.response.split()[-1]
        return None if number == "none" else float(number)

    asker = CachedJudge(FormulaJudge(said))
    found = asyncio.run(outside.measure_labels(asker, file, ENCODER, {"query": "q"}))
    assert found.auc.value == 0.75
    assert found.brier == pytest.approx((0.1**2 + 0.6**2 + 0.5**2 + 0.1**2) / 4)
    assert found.base_rate == 0.6
    assert (found.pairs, found.abstained) == (4, 1)
    assert [(b.x, b.y) for b in found.calibration] == [(0.1, 0), (0.4, 1), (0.5, 0), (0.9, 1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("query,ad,label\na,b,maybe\n", "expected 0 or 1, got 'maybe'"),
        ("query,ad,label\na,b,1\nc,d,1\n", "all labels are 1"),
        ("query,advert,label\na,b,1\n", "missing column 'ad'"),
        ("query,ad,label\na,,1\n", "column 'ad' is empty"),
    ],
)
def test_a_labelled_file_that_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=says):
        asyncio.run(outside.measure_labels(CachedJudge(ConstantJudge()), file, ENCODER))


# reliability


class Coin:
    """Draws its clicks by the auction's id, as the click model does, and gives no probabilities."""

    name = "coin"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        clicked = bool(keyed_rng("coin", auction.id, outcome.response).random() < 0.5)
        return Feedback(
            clicks=tuple(Click(ad_id=p.ad_id, clicked=clicked) for p in outcome.placements),
            usage=Usage(calls=2, prompt_tokens=10, completion_tokens=3),
        )


def test_asked_twice() -> None:
    found = asyncio.run(reliability.measure_repeat(CachedJudge(ConstantJudge()), TWO))
    assert (found.cases, found.same_verdict.value, found.change.value) == (6, 1, 0)
    many = tuple(TWO[0].model_copy(update={"id": f"tea-{i}"}) for i in range(40))
    coin = asyncio.run(reliability.measure_repeat(CachedJudge(Coin()), many))
    # 120 fair coins: a standard deviation of 0.046, so 0.2 is four of them (false alarm below 1e-4; keyed draws).
    assert abs(coin.same_verdict.value - 0.5) < 0.2
    assert coin.change.value == pytest.approx(1 - coin.same_verdict.value)


def test_agreement_with_the_click_model() -> None:
    world = small_world()
    itself = asyncio.run(reliability.measure_agreement(CachedJudge(world.judge), world, sessions=4))
    assert itself.auctions == 12
    assert itself.spearman == pytest.approx(1)
    assert itself.difference.value == 0
    assert all(point.x == pytest.approx(point.y) for point in itself.curve)

    probs = {}
    for case in asyncio.run(reliability.world_cases(world, 4, 0)):
        feedback = asyncio.run(world.judge.judge(*case[:3]))
        probs[case.auction.id] = feedback.clicks[0].click_prob
    opposite = FormulaJudge(lambda persona, auction, outcome, ad_id: 1 - (probs[auction.id] or 0))
    found = asyncio.run(reliability.measure_agreement(CachedJudge(opposite), world, sessions=4))
    assert found.spearman == pytest.approx(-1)
    constant = asyncio.run(reliability.measure_agreement(CachedJudge(ConstantJudge()), world, sessions=4))
    assert constant.spearman is None


def test_cost_and_abstentions() -> None:
    asker = CachedJudge(Coin())
    cases = [scenarios.build(s, ["native", "second"]) for s in TWO]
    asyncio.run(asker.ask(cases, "one"))
    cost = reliability.cost(list(asker.tallies.values()))
    assert (cost.judgements, cost.calls, cost.prompt_tokens, cost.completion_tokens) == (2, 2000, 10000, 3000)
    assert cost.seconds > 0
    assert reliability.abstention_rate(list(asker.tallies.values())) == 0
    asker = CachedJudge(FormulaJudge(lambda persona, auction, outcome, i: None if i == cases[0].ad_id else 0.5))
    asyncio.run(asker.ask(cases, "one"))
    assert reliability.abstention_rate(list(asker.tallies.values())) == 0.25


# the report


@pytest.fixture
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenarios, "_embedded", lambda: TWO)


def report(judge: Any, **options: Any) -> Validity:
    options = {"part": "dev", "limit": 2, "repeats": 2} | options
    chosen = ValidityOptions.model_validate(options)
    return asyncio.run(validate(judge, chosen, encoder=ENCODER, world=small_world()))


@pytest.mark.usefixtures("tiny_suite")
def test_a_report_is_written_and_read_back(tmp_path: Path, webis: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text('{"query": "a", "ad": "b", "label": 1}\n{"query": "c", "ad": "d", "label": 0}\n')
    found = report(RandomJudge(), webis=str(webis), labels=str(labels))
    write_report(found, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        *("validity.json", "report.md", "contrasts.png", "placebos.png", "attacks.png", "agreement.png"),
        "calibration.png",
    }
    assert Validity.model_validate_json((tmp_path / "out" / "validity.json").read_text()) == found
    text = (tmp_path / "out" / "report.md").read_text()
    for said in ("# Validity of random", "part dev", "relevant ad > irrelevant ad", "Brier", found.inputs_sha256[:12]):
        assert said in text
    assert f"| {found.contrasts['relevance'].share.value:.3f}" in text
    with pytest.raises(DataFileError, match="not empty"):
        write_report(found, tmp_path / "out")


@pytest.mark.usefixtures("tiny_suite")
def test_a_report_repeats_itself_and_its_hash_depends_on_what_was_asked(webis: Path) -> None:
    def but_for_time(found: Validity) -> dict[str, Any]:
        kept = found.model_dump()
        del kept["reliability"]["cost"]["seconds"]
        return kept

    first = report(RandomJudge())
    assert but_for_time(first) == but_for_time(report(RandomJudge()))
    others = [report(RandomJudge(), seed=1), report(ConstantJudge()), report(RandomJudge(), webis=str(webis))]
    assert len({first.inputs_sha256, *(other.inputs_sha256 for other in others)}) == 4


@pytest.mark.usefixtures("tiny_suite")
def test_a_judge_without_probabilities_is_reported_as_such() -> None:
    found = report(Coin())
    assert found.probabilities == 0
    assert "the share of clicks in 2 verdicts" in report_of(found).to_markdown()
    assert report(ConstantJudge()).probabilities == 1


@pytest.mark.usefixtures("tiny_suite")
def test_a_report_without_any_verdict_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    found = report(ConstantJudge(prob=None, clicked=None))
    assert found.reliability.abstention_rate == 1
    report_of(found).print(Console(width=120))
    row = next(line for line in capsys.readouterr().out.splitlines() if "relevant ad > irrelevant ad" in line)
    assert row.split()[-6:] == ["ad", "-", "-", "2", "0", "2"]


def test_every_key_of_the_report_is_documented() -> None:
    assert [name for name, field in Validity.model_fields.items() if not field.description] == []


# the command


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--part", "train"], "unknown part of the suite 'train'"),
        (["--judge", "clik"], "did you mean click"),
        (["--judge", "click", "--llm", "openai/x"], "asks no User-LLM"),
        (["--limit", "0"], "at least 1"),
        (["--label-columns", "query"], "OURS=THEIRS"),
    ],
)
def test_bad_options_end_in_one_line(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["validate-judge", *arguments])
    assert stopped.value.code == 2
    assert says in capsys.readouterr().err


def test_a_folder_in_use_is_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(SystemExit) as stopped:
        main(["validate-judge", "--judge", "click", "--out", str(tmp_path)])
    assert stopped.value.code == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.weights
def test_the_command_reports_on_the_click_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["validate-judge", "--judge", "click", "--part", "dev", "--limit", "1", "--out", str(tmp_path / "out")])
    assert stopped.value.code == 0
    assert "Contrasts" in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "validity.json").read_text())
    assert found["part"] == "dev"
    assert found["probabilities"] == 1
    assert found["placebos"]["ad_id"]["change"]["value"] == 0


def test_judges_by_name() -> None:
    judge = make_judge("llm", llm="scripted")
    assert isinstance(judge, LLMJudge)
    assert judge.name == "llm:scripted"
