"""The scripted model does not keep every request of a long run."""

from __future__ import annotations

from functools import partial

import pytest

from simenv.background_loop import run_sync
from simenv.llm import ScriptedLLM, scripted


def test_old_requests_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "_KEPT", 3)
    llm = ScriptedLLM(["a", "b", "c", "d", "e", "f", "g", "h"])
    for number in range(7):
        run_sync(partial(llm.complete, f"question {number}", key=("a", "answer", number)))
    assert [request.prompt.user for request in llm.requests] == ["question 3", "question 4", "question 5", "question 6"]
