"""A run of refusals, of empty answers or of an unreadable judge says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from simenv.llm import ScriptedLLM
from simenv.records import Failure, Quality, Transition
from simenv.runs.summary import summarize
from simenv.runs.useless import Findings, is_empty, is_refusal
from tests.support.command_line import bench
from tests.support.hand_made import turn

REFUSALS = [
    "I can't help with that.",
    "I’m sorry, but I can’t assist with that request.",
    "I'm sorry, but as an AI language model, I cannot provide that.",
    "Sorry, I cannot answer this question.",
    "Unfortunately, I am unable to help. Please ask a professional.",
    "I apologize, but I must decline.",
    "I won't discuss this.",
    "I don't feel comfortable answering.",
]
ANSWERS = [
    "That depends on what you need.",
    "You can't go wrong with boots.",
    "I can help with that: take boots.",
    "I'm happy to help.",
    "I cannot stress enough how much dry socks matter.",
    "Sorry to hear that. Boots help.",
    "I can't tell which is best for you, but here is what to look for. " + "Look at the soles and the seams. " * 12,
]


def answered(text: str, *, index: int = 0, ad: bool = False, ad_free: str | None = None) -> Transition:
    made = turn(index, {"a": (True, None)} if ad else {}, text=text)
    feedback = made.feedback.model_copy(update={"quality": Quality(ad_free=ad_free)})
    return made.model_copy(update={"feedback": feedback})


def unread(index: int) -> Transition:
    made = turn(index, {"a": (None, None)})
    click = made.feedback.clicks[0].model_copy(update={"reason": "unreadable: no verdicts in JSON; got 'Boots'"})
    return made.model_copy(update={"feedback": made.feedback.model_copy(update={"clicks": (click,)})})


@pytest.mark.parametrize("ad", [False, True])
def test_refusals_are_told_from_answers(ad: bool) -> None:
    assert [text for text in REFUSALS if not is_refusal(answered(text, ad=ad))] == []
    assert [text for text in ANSWERS if is_refusal(answered(text, ad=ad))] == []


@pytest.mark.parametrize(
    ("text", "ad", "ad_free", "empty"),
    [
        ("", False, None, True),
        (" \n", False, "Boots.", True),
        ("", True, "", True),
        ("", True, "Boots.", False),  # an answer of one sentence, with its ad
        ("", True, None, False),
        ("Boots.", True, "", False),
        ("Boots.", False, None, False),
    ],
)
def test_an_answer_of_ads_alone_is_empty_where_the_model_says_nothing(
    text: str, ad: bool, ad_free: str | None, empty: bool
) -> None:
    assert is_empty(answered(text, ad=ad, ad_free=ad_free)) == empty


def rows(*texts: str) -> list[Transition]:
    return [answered(text, index=i) for i, text in enumerate(texts)]


def test_each_kind_has_a_column_only_where_there_is_one() -> None:
    assert not {"refusals", "empty", "errors", "asked_again"} & {c.metric for c in summarize(rows("Boots.")).cells}
    cells = {c.metric: c.estimate.value for c in summarize(rows("Boots.", "I can't help.", "", "")).cells}
    assert (cells["refusals"], cells["empty"]) == (0.25, 0.5)


FAILED = answered("").model_copy(update={"error": Failure(kind="LLMRefused", text="withholds the answer")})


def problems(log: Sequence[Transition], limit: float) -> list[str]:
    """What is said of a log; half of it is counted apart, as by another process."""
    findings, later = Findings(), Findings()
    for place, transition in enumerate(log):
        (findings if place < len(log) / 2 else later).add(transition)
    findings.add_all(later)
    return findings.problems(limit, 0.2)


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (rows("Boots.", "Shoes."), []),
        (rows("I can't help.", *["Boots."] * 4), []),
        (rows("I can't help.", *["Boots."] * 3), ["answers are refusals: 1 of 4 of m; the first: 'I can\\'t help. '"]),
        (rows("", "", "Boots."), ["answers are empty: 2 of 3 of m; the first: ' '"]),
        ([FAILED, *rows("Boots.")], ["1 of 2 answers failed; the first: withholds the answer"]),
        ([unread(0), *rows("Boots.")], ["none of the judge's 1 verdicts could be read: unreadable: no verdicts"]),
        ([unread(0), turn(1, {"a": (True, None)})], []),
    ],
)
def test_above_the_limit_the_run_says_so(log: Sequence[Transition], said: list[str]) -> None:
    found = problems(log, 0.2)
    assert len(found) == len(said)
    for sentence, expected in zip(found, said, strict=True):
        assert sentence.replace('"', "'").startswith(expected.replace("\\'", "'")), sentence


def test_a_limit_of_one_allows_all() -> None:
    assert problems(rows("", ""), 1.0) == []


class Refuser(ScriptedLLM):
    """Refuses every question."""

    def __init__(self) -> None:
        super().__init__(lambda request: "I can't help with that.")


@pytest.mark.weights
def test_the_command_ends_with_1_and_leaves_the_tables(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--llm", f"{__file__}:Refuser", "--judge", "click", "--mechanisms", "organic", "--quality", "none"]
    out = tmp_path / "run"
    assert bench(out, *options, "--queries", "no_commercial_intent", *files, "--n", "2", "--horizon", "2") == 1
    printed = capsys.readouterr()
    assert 'simenv: answers are refusals: 2 of 2 of organic; the first: "I can\'t help with that."' in printed.err
    assert "refusals" in printed.out
    assert "refusals" in (out / "table.csv").read_text(encoding="utf-8")
