"""Every shape of reply through a client and a judge; the same through whole runs, which is slow."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from simenv import outcome
from simenv.errors import LLMCutShort, LLMError, LLMRefused, LLMUnavailable
from simenv.judges.llm_judge import LLMJudge
from simenv.llm.hosted import HostedLLM
from simenv.records import Auction, Bid, Query
from simenv.runs.folder import read_transitions
from simenv.testing import ADS, PERSONAS, FakeOpenAI, FakeRoles
from simenv.testing.shapes import SHAPES, Shape
from tests.support.command_line import bench
from tests.support.servers import Messages, client

NAMES = [shape.name for shape in SHAPES]
ERRORS = {"retried": LLMUnavailable, "refused": LLMRefused, "cut short": LLMCutShort}
TEXT = "Take good boots."
AUCTION = Auction(id="a1", query=Query(text="Which boots?"), bids=tuple(Bid(ad=ad, amount=1.0) for ad in ADS[:2]))
GOOD = json.dumps({"verdicts": [{"ad_id": ad.id, "clicked": True, "reason": "so"} for ad in ADS[:2]]})


def asked(server: FakeOpenAI, shape: Shape) -> HostedLLM:
    slow = shape.name in ("no reply", "a byte now and then")
    return client(server, attempts=2, timeout=0.2 if slow else 30.0)


def test_there_are_forty_shapes_or_more() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 40


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_a_call_comes_to_what_the_table_says(shape: Shape) -> None:
    with FakeOpenAI(lambda _: shape.make(TEXT)) as server:
        llm = asked(server, shape)
        call = llm.complete("hi", key=("a",))
        if shape.call in ERRORS:
            with pytest.raises(LLMError) as caught:
                asyncio.run(call)
            assert type(caught.value) is ERRORS[shape.call]
            assert str(caught.value).startswith(f"openai/fake at {server.url} ")
            assert llm.retries == (1 if shape.call == "retried" else 0)
            return
        reply = asyncio.run(call)
    assert (server.count, llm.retries) == (1, 0)
    assert (reply.usage.tokens is not None) == shape.tokens
    if shape.call == "empty":
        assert reply.text == ""
    elif shape.name == "half a surrogate pair":
        assert reply.text == "Take ?good boots."
    else:
        assert reply.text == ("I can't help with that." if shape.name == "a refusal in words" else TEXT)


@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
def test_a_judge_makes_of_it_what_the_table_says(shape: Shape) -> None:
    answer = outcome(AUCTION, f"Take {ADS[0].link} or {ADS[1].link}.", {ADS[0].id: 1.0, ADS[1].id: 1.0})
    with FakeOpenAI(lambda _: shape.make(GOOD)) as server:
        judging = LLMJudge(asked(server, shape)).judge(PERSONAS[0], AUCTION, answer)
        if shape.call in ERRORS:
            with pytest.raises(ERRORS[shape.call]):
                asyncio.run(judging)
            return
        feedback = asyncio.run(judging)
    clicked = {"unreadable": [None, None], "in part": [None, True]}.get(shape.verdict or "read", [True, True])
    assert [click.clicked for click in feedback.clicks] == clicked
    assert feedback.asked_again == (shape.verdict == "unreadable")


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.parametrize("shape", SHAPES, ids=NAMES)
@pytest.mark.parametrize("role", ["one_call", "judge"])
def test_a_run_comes_to_what_the_table_says(
    shape: Shape,
    role: str,
    tmp_path: Path,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One role's replies have the shape; all others are sound."""
    monkeypatch.setattr("simenv.testing.fake_roles.unreadable", lambda answer: False)
    roles = FakeRoles()

    def reply(messages: Messages) -> Any:
        before = roles.seen.get(role, 0)
        text = roles(messages)
        return shape.make(text) if roles.seen.get(role, 0) > before else text

    slow = shape.name in ("no reply", "a byte now and then")
    options = ["--mechanisms", "prompted", "--n", "1", "--horizon", "1", "--quality", "none"]
    options += [
        "--set",
        "openai/fake.attempts=2",
        "--set",
        "openai/fake.max_wait=0",
        "--timeout",
        "1" if slow else "30",
    ]
    out = tmp_path / "run"
    with FakeOpenAI(reply) as server:
        code = bench(out, "--llm", "openai/fake", "--api-base", server.url, *options, *files)
    printed = capsys.readouterr()
    (row,) = read_transitions(out)
    assert (out / "table.csv").is_file()
    if shape.call in ERRORS:
        assert row.error is not None
        assert row.error.kind == ERRORS[shape.call].__name__
        assert (code, "1 of 1 answers failed; the first: openai/fake at" in printed.err) == (1, True)
        assert "errors" in printed.out
        return
    assert row.error is None
    if role == "judge":
        unread = shape.verdict == "unreadable"
        assert row.abstentions == {"unreadable": 2, "in part": 1}.get(shape.verdict or "read", 0)
        assert row.feedback.asked_again == unread
        assert (code, "verdicts could be read" in printed.err) == (int(unread), unread)
        return
    useless = {"an empty text": "answers are empty", "a refusal in words": "answers are refusals"}.get(shape.name)
    assert (code, useless is None or useless in printed.err) == (int(useless is not None), True)
    assert (row.outcome.usage.tokens is not None) == shape.tokens
    if useless is None:
        assert len(row.outcome.placements) == 2
