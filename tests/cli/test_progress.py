"""Progress says what runs, how fast, and how long it still takes, with and without a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.cli.progress import RunProgress
from simenv.encoder import MiniLM
from simenv.encoder.store import VectorStore
from simenv.llm import ScriptedLLM
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.llm.server_health import ServerHealth
from simenv.mechanism import Mechanism
from simenv.runs.rollout import Finished, rollout
from simenv.testing import small_world


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shown(RunProgress):
    """Written to a string, with a clock that is moved by hand."""

    def __init__(self, terminal: bool = False) -> None:
        self.clock = Clock()
        self.file = io.StringIO()
        super().__init__(Console(file=self.file, force_terminal=terminal, width=100), self.clock)

    def passes(self, seconds: int) -> None:
        """Time, with the ticks of every second."""
        for _ in range(seconds):
            self.clock.now += 1
            self.tick()

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


def test_without_a_terminal_a_line_comes_every_half_minute() -> None:
    shown = Shown()
    shown.stage("loading")
    shown.passes(29)
    assert shown.lines == []
    shown.passes(1)
    shown.stage("encoding")
    shown.counted(320, 10_000)
    shown.passes(30)
    shown.counted(640, 10_000)
    shown.passes(30)
    shown.started(40)
    for _ in range(10):
        shown.passes(6)
        shown.answered()
    assert shown.lines == [
        "loading",
        "encoding 320/10000",
        "encoding 640/10000",
        "answers 4/40, 0.13/s, 4:30 left",
        "answers 9/40, 0.15/s, 3:27 left",
    ]
    shown.end()
    assert shown.lines[-1] == "answers 10/40, 0.17/s, 3:00 left"


def test_a_run_that_is_short_says_one_line_and_one_that_fails_before_none() -> None:
    shown = Shown()
    shown.stage("loading")
    shown.end()
    assert shown.lines == []
    shown.started(4)
    shown.end()
    assert shown.lines == ["answers 0/4"]


def test_rates_are_those_of_answers_that_ran_now() -> None:
    shown = Shown()
    shown.started(1000)
    for _ in range(900):
        shown.clock.now += 0.003
        shown.skipped()
    assert shown.rate is None
    assert shown.text() == "answers 900/1000"
    for _ in range(5):
        shown.passes(10)
        shown.answered()
    assert shown.rate == pytest.approx(0.1)
    assert shown.text() == "answers 905/1000, 0.10/s, 15:50 left"
    for _ in range(30):
        shown.passes(20)
        shown.answered()
    assert shown.rate == pytest.approx(0.05), "of the last ten minutes"
    shown.passes(1000)
    assert shown.rate is None, "nothing comes any more"


def test_on_a_terminal_there_is_a_bar_for_each_stage() -> None:
    shown = Shown(terminal=True)
    shown.stage("encoding")
    shown.counted(32, 64)
    shown.started(8)
    shown.clock.now += 2
    shown.answered()
    shown.end()
    written = shown.file.getvalue()
    assert "encoding" in written
    assert "answers" in written
    assert "1/8" in written
    assert "0.50/s  0:14 left" in written


def fresh_answers(mechanisms: dict[str, Mechanism], done: list[Finished] | None = None) -> list[bool]:
    fresh: list[bool] = []
    known = {(row.index, row.mechanism): row for chunk in done or [] for row in chunk.transitions}

    async def go() -> None:
        await rollout(
            small_world(), mechanisms, n=3, seed=1, on_chunk=lambda _: None, on_answer=fresh.append, done=known
        )

    run_sync(go)
    return fresh


def test_what_a_cassette_answers_is_no_work(tmp_path: Path) -> None:
    """Of both mechanisms: the second one's completions are those of the first, from memory."""

    def through(cassette: Cassette) -> dict[str, Mechanism]:
        llm = CassetteLLM(cassette, ScriptedLLM())
        return {name: make_mechanism(name, context={"llm": llm}) for name in ("organic", "fixed_slots")}

    file = str(tmp_path / "texts.jsonl")
    assert fresh_answers(through(Cassette(file, "cache"))) == [True] * 6
    assert fresh_answers(through(Cassette(file, "cache"))) == [False] * 6


def test_what_a_log_has_is_no_work() -> None:
    mechanisms: dict[str, Mechanism] = {"organic": make_mechanism("organic", context={"llm": ScriptedLLM()})}
    chunks: list[Finished] = []

    async def go() -> None:
        await rollout(small_world(), mechanisms, n=2, seed=1, on_chunk=chunks.append)

    run_sync(go)
    assert fresh_answers(mechanisms, chunks) == [False, False, True]


def test_a_new_catalog_is_encoded_with_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder itself is FAKE here: only its bookkeeping runs."""
    encoder = MiniLM.__new__(MiniLM)
    encoder._known = {}
    encoder._store = VectorStore(tmp_path / "vectors.sqlite", "fake", 384)
    monkeypatch.setattr(MiniLM, "_forward", lambda self, texts: [np.full(384, len(t), np.float32) for t in texts])
    seen: list[tuple[int, int]] = []
    texts = [f"text {i}" for i in range(70)]
    encoder.remember(texts, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 70), (64, 70), (70, 70)]
    seen.clear()
    encoder._known = {}
    encoder.remember(texts, lambda done, total: seen.append((done, total)))
    assert seen == [], "they are in the cache"


def test_a_server_that_asks_to_wait_is_shown() -> None:
    shown = Shown()
    server = ServerHealth("openai/fake", concurrency=1, attempts=6, max_wait=20.0, clock=shown.clock)
    shown.started(10)
    shown.clock.now += 2
    shown.answered()
    server.replied({"retry-after": "17"})
    shown.clock.now += 4
    assert shown.text() == "answers 1/10, 0.17/s, 0:54 left, no calls for 13 s: openai/fake asks to wait"
    shown.clock.now += 13
    assert "wait" not in shown.text()
