"""A run that was cut off goes on to the same bytes as one that was not, wherever it was cut."""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simenv import make_mechanism, outcome
from simenv.background_loop import run_sync
from simenv.errors import LLMUnavailable
from simenv.llm import ScriptedLLM
from simenv.market.bidders import Budgeted, Exp3Bidder, ShadedBidder
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome, Persona, Transition
from simenv.runs.folder import RunFolder
from simenv.runs.rollout import Sessions, rollout
from simenv.sessions import SessionStart
from simenv.testing import small_world
from simenv.users.queries import FrozenQueries, Question
from simenv.world import World
from tests.support.session_mechanisms import OnceASession

N, CHUNK = 14, 5  # chunks of 5, 5 and 4 auctions; sessions of 3, so that chunks cut sessions


class Favourite:
    """Learns: shows the candidate with the most clicks so far, at a price that grows with the auctions seen."""

    def __init__(self) -> None:
        self.clicks: Counter[str] = Counter()
        self.seen = 0

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bid = max(auction.bids, key=lambda bid: (self.clicks[bid.ad.id], bid.relevance))
        return outcome(auction, f"Have a look at {bid.ad.link}.", {bid.ad.id: min(bid.amount, self.seen)})

    def observe(self, transition: Transition) -> None:
        self.seen += 1
        self.clicks.update(click.ad_id for click in transition.feedback.clicks if click.clicked)


class Watched:
    """Another mechanism; `answered` says for which auctions it ran. Fails once it has answered `limit`."""

    def __init__(self, inner: Any, limit: float = math.inf) -> None:
        self._inner = inner
        self._limit = limit
        self.answered: list[str] = []
        if hasattr(inner, "observe"):
            self.observe = inner.observe

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        if len(self.answered) >= self._limit:
            raise LLMUnavailable("power cut")
        self.answered.append(auction.id)
        made = self._inner.run(auction, rng)
        return await made if inspect.isawaitable(made) else made


class WatchedSessions(Watched):
    """A session mechanism that is watched; `begun` says which sessions began."""

    def __init__(self, inner: Any, limit: float = math.inf) -> None:
        super().__init__(inner, limit)
        self.begun: list[str] = []

    def begin(self, session: SessionStart) -> Watched:
        self.begun.append(session.id)
        of_session = Watched(self._inner.begin(session), self._limit)
        of_session.answered = self.answered
        return of_session


class Asked(FrozenQueries):
    """Frozen queries; `sessions` says for which sessions they were asked for."""

    def __init__(self) -> None:
        self.sessions: list[int] = []

    async def session(self, persona: Persona, k: int, seed: int, number: int) -> list[Question]:
        self.sessions.append(number)
        return await super().session(persona, k, seed, number)


KINDS = ("stateless", "learning", "budgeted", "observe", "linked")


def go(path: Path, kind: str, *, limit: float = math.inf, resume: bool = False) -> tuple[Watched, Asked]:
    """Runs or resumes; the mechanism of the last chunks' turn fails after `limit` answers."""
    bidder = {
        "learning": Exp3Bidder(rate=0.5),
        "linked learning": Exp3Bidder(rate=0.5),
        "budgeted": Budgeted(ShadedBidder(), 60.0, auctions=5, rate=0.5),
    }.get(kind, ShadedBidder())
    linked = kind.startswith("linked")
    if linked:
        watched: Watched = WatchedSessions(OnceASession(at=1), limit)
    else:
        watched = Watched(Favourite() if kind == "observe" else gsp(), limit)
    queries = Asked()
    world = small_world(bidder=bidder, queries=queries, turns="linked" if linked else "apart")
    if resume:
        run, done, begun = RunFolder.reopen(path)
    else:
        run, done, begun = RunFolder(path), {}, {}
        run.begin({}, {}, {})

    async def roll() -> None:
        mechanisms: dict[str, Mechanism] = {"gsp": gsp(), "watched": watched}
        sessions = Sessions(begun, run.save_sessions)
        await rollout(world, mechanisms, n=N, seed=3, on_chunk=run.append, chunk=CHUNK, sessions=sessions, done=done)

    if math.isfinite(limit):
        with pytest.raises(LLMUnavailable, match="power cut"):
            run_sync(roll)
    else:
        run_sync(roll)
    return watched, queries


def gsp() -> Mechanism:
    return make_mechanism("gsp", context={"llm": ScriptedLLM()})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folders: dict[str, Path] = {}

    def of(kind: str) -> Path:
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind) / "run"
            go(folders[kind], kind)
        return folders[kind]

    return of


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def check_same(path: Path, whole: Path) -> None:
    for name in ("transitions.jsonl", "chunks.jsonl"):
        assert (path / name).read_bytes() == (whole / name).read_bytes(), name
    sessions = sorted(rows(path / "sessions.jsonl"), key=lambda row: row["number"])
    assert sessions == rows(whole / "sessions.jsonl")
    timed = [(row["first_index"], row["mechanism"]) for row in rows(path / "timings.jsonl")]
    assert timed == [(start, name) for start in range(0, N, CHUNK) for name in ("gsp", "watched")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [0, 3, 5, 7, 10, 13])
def test_an_error_in_any_chunk(tmp_path: Path, undisturbed: Callable[[str], Path], kind: str, limit: int) -> None:
    _, before = go(tmp_path / "run", kind, limit=limit)
    kept = limit // CHUNK
    assert (tmp_path / "run" / "chunks.jsonl").is_file() == (kept > 0)
    watched, queries = go(tmp_path / "run", kind, resume=True)
    check_same(tmp_path / "run", undisturbed(kind))
    assert len(watched.answered) == N - CHUNK * kept, "finished chunks are not run again"
    assert before.sessions + queries.sessions == list(range(5)), "a session's queries are asked for once"


def cut(name: str, size: int) -> Callable[[Path, bytes], None]:
    """Cuts bytes off a file's end."""

    def tear(path: Path, _: bytes) -> None:
        content = (path / name).read_bytes()
        (path / name).write_bytes(content[:-size])

    return tear


def add(name: str, part: Callable[[bytes], bytes]) -> Callable[[Path, bytes], None]:
    """Adds to a file's end a part of what the undisturbed run has from there on."""

    def tear(path: Path, rest: bytes) -> None:
        (path / name).write_bytes((path / name).read_bytes() + part(rest))

    return tear


def flip(name: str, field: bytes, place: float) -> Callable[[Path, bytes], None]:
    """Changes one digit or letter of a file into another: the line stays readable."""

    def tear(path: Path, _: bytes) -> None:
        content = bytearray((path / name).read_bytes())
        at = content.index(field, int(place * len(content))) + len(field)
        content[at] = ord("8") if content[at] != ord("8") else ord("9")
        (path / name).write_bytes(content)

    return tear


def lose(name: str) -> Callable[[Path, bytes], None]:
    return lambda path, _: (path / name).unlink()


TEARS: dict[str, tuple[Callable[[Path, bytes], None], int]] = {
    # what happened after two chunks -> how many of them can be kept
    "mid-line": (add("transitions.jsonl", lambda rest: rest[: len(rest) // 3]), 2),
    "one byte": (add("transitions.jsonl", lambda rest: rest[:1]), 2),
    "chunk written, not entered": (add("transitions.jsonl", lambda rest: rest), 2),
    "zeros, as after a power cut": (add("transitions.jsonl", lambda _: bytes(4096)), 2),
    "zeros in chunks.jsonl": (add("chunks.jsonl", lambda _: bytes(64)), 2),
    "chunk entered, not all written": (cut("transitions.jsonl", 10), 1),
    "newline missing": (cut("transitions.jsonl", 1), 1),
    "chunks.jsonl torn": (cut("chunks.jsonl", 20), 1),
    "chunks.jsonl without its newline": (cut("chunks.jsonl", 1), 1),
    "chunks.jsonl lost": (lose("chunks.jsonl"), 0),
    "transitions.jsonl lost": (lose("transitions.jsonl"), 0),
    "sessions.jsonl torn": (cut("sessions.jsonl", 30), 2),
    "sessions.jsonl lost": (lose("sessions.jsonl"), 2),
    "timings.jsonl torn before its last line was whole": (add("timings.jsonl", lambda _: b'{"first_index": 10,'), 2),
    "a digit of the second chunk changed": (flip("transitions.jsonl", b'"amount":', 0.75), 1),
    "a digit of the first chunk changed": (flip("transitions.jsonl", b'"amount":', 0.1), 0),
    "a letter of the last session's question changed": (flip("sessions.jsonl", b'"text": "', 0.9), 2),
    "a digit of chunks.jsonl changed": (flip("chunks.jsonl", b'"end": ', 0.5), 1),
}


@pytest.mark.parametrize("kind", KINDS[:4])
@pytest.mark.parametrize("tear", TEARS)
def test_whatever_is_torn(tmp_path: Path, undisturbed: Callable[[str], Path], kind: str, tear: str) -> None:
    go(tmp_path / "run", kind, limit=12)
    whole = (undisturbed(kind) / "transitions.jsonl").read_bytes()
    length = len((tmp_path / "run" / "transitions.jsonl").read_bytes())
    harm, kept = TEARS[tear]
    harm(tmp_path / "run", whole[length:])
    log, kept_beside = tmp_path / "run" / "transitions.jsonl", tmp_path / "run" / "transitions.jsonl.damaged"
    harmed = log.read_bytes() if log.is_file() else b""
    watched, _ = go(tmp_path / "run", kind, resume=True)
    sound = len(b"".join(whole.splitlines(keepends=True)[: 2 * CHUNK * kept]))
    assert (kept_beside.read_bytes() if kept_beside.is_file() else b"") == harmed[sound:], "nothing is lost"
    check_same(tmp_path / "run", undisturbed(kind))
    assert len(watched.answered) == N - CHUNK * kept


@pytest.mark.parametrize("kind", ["learning", "budgeted", "observe"])
def test_what_was_learned_shows_in_the_last_chunk(undisturbed: Callable[[str], Path], kind: str) -> None:
    """Else the tests above would pass with learners that forget."""
    last = [rows(undisturbed(k) / "transitions.jsonl")[4 * CHUNK :] for k in (kind, "stateless")]
    assert [row["auction"]["id"] for row in last[0]] == [row["auction"]["id"] for row in last[1]]
    assert last[0] != last[1]


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, undisturbed: Callable[[str], Path]) -> None:
    go(tmp_path / "run", "learning")
    watched, queries = go(tmp_path / "run", "learning", resume=True)
    check_same(tmp_path / "run", undisturbed("learning"))
    assert (watched.answered, queries.sessions) == ([], [])


def test_a_session_that_was_cut_begins_once_more_where_it_is_resumed(
    tmp_path: Path, undisturbed: Callable[[str], Path]
) -> None:
    """Chunks of 5 and sessions of 3: the first chunk ends in the middle of session 1."""
    before, _ = go(tmp_path / "run", "linked", limit=7)
    after, _ = go(tmp_path / "run", "linked", resume=True)
    assert [watched.begun[0].split(".")[1] for watched in (before, after) if isinstance(watched, WatchedSessions)] == [
        "0",
        "1",
    ]
    go(tmp_path / "learning", "linked learning", limit=12)
    go(tmp_path / "learning", "linked learning", resume=True)
    check_same(tmp_path / "learning", undisturbed("linked learning"))
    seen = rows(undisturbed("linked") / "transitions.jsonl")
    assert all(len(row["auction"].get("history", ())) == row["turn"] for row in seen)
    once = [row for row in seen if row["mechanism"] == "watched" and row["outcome"]["placements"]]
    assert once
    assert len({row["auction"]["session_id"] for row in once}) == len(once)
    assert min(row["turn"] for row in once) == 1


@pytest.mark.parametrize(
    ("kind", "again"), [("stateless", 0), ("observe", 0), ("learning", 2 * N), ("budgeted", 2 * N)]
)
def test_finished_auctions_are_built_again_only_for_bidders_that_learn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, again: int
) -> None:
    built: list[str] = []
    build = World.auction

    def auction(self: World, *arguments: Any) -> Auction:
        made = build(self, *arguments)
        built.append(made.id)
        return made

    monkeypatch.setattr(World, "auction", auction)
    go(tmp_path / "run", kind)
    assert len(built) == 2 * N, "once for each mechanism"
    built.clear()
    go(tmp_path / "run", kind, resume=True)
    assert len(built) == again
