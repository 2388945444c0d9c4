"""The whole loop with a language model in every role, through the real command line, against a fake server."""

from __future__ import annotations

import csv
import json
import re
import socket
from pathlib import Path

import pytest

from simenv.records import Transition
from simenv.runs.folder import read_transitions
from simenv.testing import FakeOpenAI, FakeRoles
from simenv.testing.fake_roles import QUESTIONS, clicked, unreadable
from tests.support.command_line import bench

MECHANISMS = {"organic": 1, "prompted": 1, "gsp": 3, "best_of_n": 4}
"""Name -> completions per answer: GSP writes two sentences to its answer, best of n is run with n = 3."""


@pytest.mark.weights
def test_a_language_model_in_every_role(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    roles, out = FakeRoles(), tmp_path / "run"
    with FakeOpenAI(roles) as server:
        roles.once = lambda: server.fail_next(1, "500")  # one call is to be made again, wherever it falls
        options = ["--llm", "openai/fake", "--api-base", server.url, "--mechanisms", ",".join(MECHANISMS)]
        code = bench(
            out, *options, *files, "--n", "6", "--horizon", "2", "--concurrency", "4", "--set", "best_of_n.n=3"
        )
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert server.most_in_flight <= 4
    assert server.count == sum(roles.seen.values()) + 1
    assert roles.seen["preflight"] == 1, "one model in all roles is tried once"
    assert roles.seen["queries"] == 3, "once a session"
    assert roles.seen["answer"] == 6, "organic's answer serves the other mechanisms, too"

    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["finished"] is not None
    assert manifest["retries"] == {f"openai/fake at {server.url}": 1}
    assert (manifest["options"]["llm"], manifest["options"]["api_base"]) == ("openai/fake", server.url)
    said = {name: manifest["world"][name] for name in ("ad_llm", "judge", "query_source", "encoder")}
    assert said == {
        "ad_llm": "openai/fake",
        "judge": "llm:openai/fake",
        "query_source": "llm:openai/fake",
        "encoder": "all-MiniLM-L6-v2",
    }

    rows = list(read_transitions(out))
    assert [(row.index, row.mechanism) for row in rows] == [(i, name) for i in range(6) for name in MECHANISMS]
    for row in rows:
        check(row)
    assert sum(row.abstentions for row in rows) > 0, "an unreadable verdict is among them"
    assert sum(bool(row.payments) for row in rows) > 0, "and so are clicks that cost"
    check_table(out, rows)
    assert "that is right if the judge abstains independently of the click among such ads" in " ".join(
        printed.out.split()
    )


def check(row: Transition) -> None:
    """One transition against what the fake roles say."""
    assert row.auction.query.text == QUESTIONS[row.turn]
    calls, least = row.outcome.usage.calls, MECHANISMS[row.mechanism]
    assert calls >= least if row.mechanism == "gsp" else calls == least, (
        "a sentence with a wrong link is asked for again"
    )
    assert row.outcome.usage.completion_tokens > 0
    assert row.outcome.violations == ()
    shown = [placement.ad_id for placement in row.outcome.placements]
    if row.mechanism == "organic":
        assert shown == []
    if row.mechanism == "gsp":
        assert len(shown) == 2, "a badly copied link is replaced by the advertiser's own copy"
    if row.mechanism == "prompted":
        assert shown == [bid.ad.id for bid in sorted(row.auction.bids, key=lambda b: (-b.amount, b.ad.id))[:2]]
    verdicts = {click.ad_id: click.clicked for click in row.feedback.clicks}
    again = bool(shown) and unreadable(row.outcome.response)
    assert row.feedback.asked_again == again
    assert row.feedback.usage.calls == (1 + again if shown else 0)
    if again:
        assert verdicts == dict.fromkeys(shown)
        assert row.abstentions == len(shown)
        assert (row.reward, row.payments) == (None, {})
    else:
        assert verdicts == {ad_id: clicked(ad_id) for ad_id in shown}
        assert row.abstentions == 0
        bids = {bid.ad.id: bid.amount for bid in row.auction.bids}
        assert row.reward == pytest.approx(sum(bids[i] for i in shown if clicked(i)))
        paid = {p.ad_id: p.price * clicked(p.ad_id) for p in row.outcome.placements}
        assert row.payments == pytest.approx(paid)
    assert row.expected_reward is None or not shown, "a judge in words knows no probabilities"


def check_table(out: Path, rows: list[Transition]) -> None:
    """table.csv against the transitions: every answer counts, and what is unknown is neither a yes nor a no."""
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        table = {(cell["mechanism"], cell["metric"]): cell for cell in csv.DictReader(file)}
    for name, calls in MECHANISMS.items():
        of = [row for row in rows if row.mechanism == name]
        verdicts = [(row.auction.bid_of(c.ad_id).amount, c.clicked) for row in of for c in row.feedback.clicks]
        least = sum(amount for amount, clicked in verdicts if clicked) / len(of)
        most = sum(amount for amount, clicked in verdicts if clicked is not False) / len(of)
        assert int(table[name, "reward"]["auctions"]) == len(of)
        if most > least:
            assert least < float(table[name, "reward"]["mean"]) < most
        else:
            assert float(table[name, "reward"]["mean"]) == pytest.approx(least)
        assert float(table[name, "abstentions"]["mean"]) == pytest.approx(sum(row.abstentions for row in of) / 6)
        mean = sum(row.outcome.usage.calls for row in of) / len(of)
        assert mean >= calls
        assert float(table[name, "llm_calls"]["mean"]) == pytest.approx(mean)
        assert table[name, "reward"]["baseline"] == "organic"
        assert table[name, "reward"]["expected_over_clicks"] == "False"


@pytest.mark.weights
def test_users_may_be_another_model_than_the_writer(tmp_path: Path, files: list[str]) -> None:
    roles, out = FakeRoles(), tmp_path / "run"
    with FakeOpenAI(roles) as server:
        options = ["--llm", "scripted", "--judge-llm", "openai/fake", "--judge-api-base", server.url]
        assert bench(out, *options, *files, "--mechanisms", "gsp", "--n", "2", "--horizon", "2") == 0
    assert set(roles.seen) == {"preflight", "queries", "judge"}
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["world"]["ad_llm"] == "scripted"
    assert manifest["world"]["judge"] == "llm:openai/fake"
    assert manifest["retries"] == {"scripted": 0, f"openai/fake at {server.url}": 0}


@pytest.mark.weights
@pytest.mark.parametrize("cassette", [False, True])
def test_two_servers_of_one_model_name_count_their_retries_apart(
    tmp_path: Path, files: list[str], cassette: bool
) -> None:
    ads, users, out = FakeRoles(), FakeRoles(), tmp_path / "run"
    with FakeOpenAI(ads) as writer, FakeOpenAI(users) as judge:
        users.once = lambda: judge.fail_next(2, "500")
        options = ["--llm", "openai/fake", "--api-base", writer.url, "--judge-llm", "openai/fake"]
        options += ["--judge-api-base", judge.url, *(["--record", str(tmp_path / "tape.jsonl")] if cassette else [])]
        assert bench(out, *options, *files, "--mechanisms", "gsp", "--n", "2", "--horizon", "2") == 0
    assert not set(ads.seen) & set(users.seen) - {"preflight"}, "each plays its own role"
    retries = json.loads((out / "manifest.json").read_text(encoding="utf-8"))["retries"]
    assert retries == {f"openai/fake at {writer.url}": 0, f"openai/fake at {judge.url}": 2}


def test_a_server_that_is_not_there_is_one_line(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        options = ["--llm", "openai/fake", "--api-base", url, "--mechanisms", "organic"]
        assert bench(tmp_path / "run", *options, *files) == 2
    said = capsys.readouterr().err
    assert re.fullmatch(rf"simenv: openai/fake at {url} gave no completion: .*\n", said)
    assert not (tmp_path / "run").exists()


def test_a_refused_key_is_one_line(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with FakeOpenAI(FakeRoles(), api_key="right") as server:
        options = ["--llm", "openai/fake", "--api-base", server.url, "--mechanisms", "organic"]
        assert bench(tmp_path / "run", *options, *files) == 2
    assert server.count == 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"simenv: openai/fake at {server.url} refuses the API key: .*\n", said)
