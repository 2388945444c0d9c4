"""The whole loop with a language model in every role, through the real command line, against a fake server."""

from __future__ import annotations

import csv
import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simenv.cli import main as cli
from simenv.records import Transition
from simenv.runs.folder import read_transitions
from simenv.seeding import keyed_int
from tests.fake_openai import FakeOpenAI
from tests.fakes import ADS, PERSONAS

QUESTIONS = (
    "Which hiking boots stay dry on wet trails?",
    "Where are quiet campsites near a lake?",
    "What knife should I buy for cooking?",
)


def clicked(ad_id: str) -> bool:
    """What the fake judge clicks: ads of even number."""
    return int(ad_id.removeprefix("ad-")) % 2 == 0


def unreadable(answer: str) -> bool:
    """About which answers the fake judge speaks in prose: a third, by their text."""
    return keyed_int("unreadable", answer) % 3 == 0


class Roles:
    """Replies in every role, told apart by their prompts; `seen` counts them."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self.once: Callable[[], None] = lambda: None

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        user = messages[-1]["content"]
        roles = {
            "judge": "You simulate one user" in system,
            "one_call": "paid for by advertisers" in system,
            "answer": "Answer the question in two or three" in system,
            "queries": "You are role-playing this person" in user,
            "sentence": "Write ONE sentence" in user,
            "preflight": user == "Hello",
        }
        (role,) = [name for name, fits in roles.items() if fits]  # any other prompt: status 500, the run fails
        self.seen[role] = self.seen.get(role, 0) + 1
        reply: str = getattr(self, role)(user)
        return reply

    def preflight(self, user: str) -> str:
        return "Hi"

    def queries(self, user: str) -> str:
        self.once()
        self.once = lambda: None
        return "\n".join(f"{i}. {text}" for i, text in enumerate(QUESTIONS, start=1))

    def answer(self, user: str) -> str:
        return f"That depends on what you need. You asked: {user}"

    def one_call(self, user: str) -> str:
        listed = re.search(r"\(JSON\):\n(.*)\n", user)
        assert listed
        ads = json.loads(listed[1])
        best = sorted(ads, key=lambda ad: (-ad.get("bid", 0), ad["id"]))[:2]
        return "It depends. " + " ".join(f"Many like @{ad['title']}@[{ad['id']}] for it." for ad in best)

    def sentence(self, user: str) -> str:
        link = re.search(r"character by character: (.*)", user)
        assert link
        # Now and then the link is copied badly: the mechanism must not show it so.
        return f"Have a look at {link[1] if clicked(link[1].rpartition('[')[2][:-1]) else link[1].lower()} some day."

    def judge(self, user: str) -> str:
        answer = re.search(r"<answer (\w+)>\n(?P<text>.*)\n</answer \1>", user, re.DOTALL)
        shown = re.search(r"by Ad-ID: (.*)", user)
        assert answer
        assert shown
        if unreadable(answer["text"]):
            return "As this person I would click the first one, I think."
        rows = [{"ad_id": i, "clicked": clicked(i), "reason": "it is even or not"} for i in shown[1].split(", ")]
        return f"```json\n{json.dumps({'verdicts': rows})}\n```"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that name a small catalog and small personas without queries of their own."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    personas = [persona.model_copy(update={"queries": ()}) for persona in PERSONAS]
    for name, records in (("ads", ADS), ("personas", personas)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in records), encoding="utf-8")
    return ["--catalog", str(tmp_path / "ads.jsonl"), "--personas", str(tmp_path / "personas.jsonl")]


def bench(out: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "--out", str(out), *options])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


MECHANISMS = {"organic": 1, "prompted": 1, "gsp": 3, "best_of_n": 4}
"""Name -> completions per answer: GSP writes two sentences to its answer, best of n is run with n = 3."""


@pytest.mark.weights
def test_a_language_model_in_every_role(tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    roles, out = Roles(), tmp_path / "run"
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
    assert "answers with an abstention are left out" in " ".join(printed.out.split())


def check(row: Transition) -> None:
    """One transition against what the fake roles say."""
    assert row.auction.query.text == QUESTIONS[row.turn]
    assert row.outcome.usage.calls == MECHANISMS[row.mechanism]
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
    assert row.feedback.usage.calls == (1 if shown else 0)
    if shown and unreadable(row.outcome.response):
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
    """table.csv against the transitions: what is unknown is left out, not counted as zero."""
    with (out / "table.csv").open(encoding="utf-8", newline="") as file:
        table = {(cell["mechanism"], cell["metric"]): cell for cell in csv.DictReader(file)}
    for name, calls in MECHANISMS.items():
        of = [row for row in rows if row.mechanism == name]
        rewards = [row.reward for row in of if row.reward is not None]
        assert int(table[name, "reward"]["auctions"]) == len(rewards)
        assert float(table[name, "reward"]["mean"]) == pytest.approx(sum(rewards) / len(rewards))
        assert float(table[name, "abstentions"]["mean"]) == pytest.approx(sum(row.abstentions for row in of) / 6)
        assert float(table[name, "llm_calls"]["mean"]) == calls
        assert table[name, "reward"]["baseline"] == "organic"
        assert table[name, "reward"]["expected_over_clicks"] == "False"


@pytest.mark.weights
def test_users_may_be_another_model_than_the_writer(tmp_path: Path, files: list[str]) -> None:
    roles, out = Roles(), tmp_path / "run"
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
    ads, users, out = Roles(), Roles(), tmp_path / "run"
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
    with FakeOpenAI(Roles(), api_key="right") as server:
        options = ["--llm", "openai/fake", "--api-base", server.url, "--mechanisms", "organic"]
        assert bench(tmp_path / "run", *options, *files) == 2
    assert server.count == 1
    said = capsys.readouterr().err
    assert re.fullmatch(rf"simenv: openai/fake at {server.url} refuses the API key: .*\n", said)
