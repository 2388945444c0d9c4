"""A server that fails 30% of all requests, in every way and in every role, changes no byte of a run's log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from benchmarks.faults import NAMES, run
from simenv.testing import FAULTS, FakeOpenAI, FakeRoles, Fault

N = 6


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, bytes, int]]:
    """A run against the same server without faults: its folder, its log, its number of requests."""
    kept: list[tuple[Path, bytes, int]] = []

    def get() -> tuple[Path, bytes, int]:
        if not kept:
            path = tmp_path_factory.mktemp("undisturbed") / "run"
            with FakeOpenAI(FakeRoles()) as server:
                kept.append((path, run(path, server, N), server.count))
        return kept[0]

    return get


def retries(path: Path) -> int:
    count: int = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["retries"]["openai/fake"]
    return count


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_change_no_byte(
    tmp_path: Path, undisturbed: Callable[[], tuple[Path, bytes, int]], fault: Fault
) -> None:
    whole, expected, requests = undisturbed()
    assert retries(whole) == 0
    assert expected.count(b"\n") == N * len(NAMES)
    roles = FakeRoles()
    with FakeOpenAI(roles) as server:
        server.fail_share(0.3, fault)
        assert run(tmp_path / "run", server, N, timeout=0.5 if fault == "timeout" else 30.0) == expected
    assert (tmp_path / "run" / "sessions.jsonl").read_bytes() == (whole / "sessions.jsonl").read_bytes()
    assert set(roles.seen) == {"queries", "answer", "sentence", "one_call", "judge"}
    again = retries(tmp_path / "run")
    # A time-out may come before the request has arrived: then the server has not counted it.
    assert again >= server.count - requests if fault == "timeout" else again == server.count - requests
    assert 0.15 < again / server.count < 0.45


def test_a_midstream_drop_announces_more_than_it_sends() -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "hello"}]}
    with FakeOpenAI(lambda messages: "word " * 100) as server:
        server.fail_next(1, "midstream")
        with pytest.raises(httpx.RemoteProtocolError, match=r"received [1-9]\d* bytes, expected [1-9]\d\d"):
            httpx.post(f"{server.url}/chat/completions", json=body)
