"""A server that fails 30% of all requests, in every way and in every role, changes no byte of a run's log."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.judges.llm_judge import LLMJudge
from simenv.llm.hosted import HostedLLM
from simenv.runs.folder import RunFolder
from simenv.runs.rollout import Sessions, rollout
from simenv.users.queries import LLMQueries
from tests.cli.test_hosted import Roles
from tests.fake_openai import FAULTS, FakeOpenAI, Fault
from tests.fakes import small_world

N, CHUNK = 6, 4
NAMES = ("gsp", "best_of_n", "fixed_slots")


def run(path: Path, server: FakeOpenAI, timeout: float = 30.0, n: int = N) -> bytes:
    """Runs n auctions with one model in all roles (writes queries and answers, judges); gives the log.

    A request fails all of its 25 attempts with probability 0.3^25 = 8e-14.
    """
    llm = HostedLLM("openai/fake", api_base=server.url, timeout=timeout, attempts=25, max_wait=0)
    world = small_world(queries=LLMQueries(llm), judge=LLMJudge(llm), horizon=3)
    mechanisms = {name: make_mechanism(name, context={"llm": llm}) for name in NAMES}
    folder = RunFolder(path)
    folder.begin({}, {}, {})

    async def go() -> None:
        sessions = Sessions(save=folder.save_sessions)
        await rollout(world, mechanisms, n=n, seed=2, on_chunk=folder.append, chunk=CHUNK, sessions=sessions)

    run_sync(go)
    folder.finish(retries={llm.name: llm.retries})
    return (path / "transitions.jsonl").read_bytes()


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
            with FakeOpenAI(Roles()) as server:
                kept.append((path, run(path, server), server.count))
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
    roles = Roles()
    with FakeOpenAI(roles) as server:
        server.fail_share(0.3, fault)
        assert run(tmp_path / "run", server, timeout=0.5 if fault == "timeout" else 30.0) == expected
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
