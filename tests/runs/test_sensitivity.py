"""Sensitivity: a run's answers judged again in other worlds."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simenv.background_loop import run_sync
from simenv.cli.main import main
from simenv.errors import DataFileError, InputError
from simenv.judges.click_worlds import load_world
from simenv.llm import ScriptedLLM
from simenv.market.bidders import Budgeted, make_bidder
from simenv.mechanism import make_mechanism
from simenv.records import Transition
from simenv.runs.folder import RunFolder
from simenv.runs.rollout import Finished, observers, rollout
from simenv.runs.sensitivity import sensitivity, sensitivity_of_run
from simenv.runs.summary import summarize
from simenv.testing import FakeEncoder, small_world

WORLD = small_world()
NAMES = ("organic", "fixed_slots", "gsp")


@pytest.fixture(scope="module")
def log() -> list[Transition]:
    rows: list[Transition] = []

    def keep(finished: Finished) -> None:
        rows.extend(finished.transitions)

    llm = ScriptedLLM()
    mechanisms = {name: make_mechanism(name, llm=llm) for name in NAMES}
    run_sync(lambda: rollout(WORLD, mechanisms, n=24, seed=0, on_chunk=keep))
    return rows


def test_the_world_as_it_is_gives_the_runs_own_means(log: list[Transition]) -> None:
    report = sensitivity(log, WORLD.personas, WORLD.judge)  # type: ignore[arg-type]
    table = {c.mechanism: c.estimate.value for c in summarize(log).cells if c.metric == "revenue"}
    assert report.base.means == pytest.approx(table)
    assert report.base.rank_correlation == pytest.approx(1)
    assert report.base.holds == len(report.conclusions)


def test_every_number_is_moved_both_ways(log: list[Transition]) -> None:
    report = sensitivity(log, WORLD.personas, WORLD.judge, measure="reward")  # type: ignore[arg-type]
    moved = [s.changed for s in report.worlds]
    for name in WORLD.judge.params.numbers():  # type: ignore[attr-defined]
        assert moved.count(name) == 2
    assert moved.count("world") == 3
    for s in report.worlds:
        assert s.holds + s.open + len(s.reversed) == len(report.conclusions)
    by_base = {s.value: s.means["gsp"] for s in report.worlds if s.changed == "attraction.base"}
    assert by_base[-1.6] < report.base.means["gsp"] < by_base[0.4]


def test_a_conclusion_that_the_world_decides_is_reversed_somewhere(log: list[Transition]) -> None:
    """The same answers, paid by click or by a fixed fee of 85% of what clicks pay in the world as it is."""
    gsp = [row for row in log if row.mechanism == "gsp"]
    fee = [row.model_copy(update={"mechanism": "fee", "outcome": _for_a_fee(row)}) for row in gsp]
    report = sensitivity([*gsp, *fee], WORLD.personas, WORLD.judge)  # type: ignore[arg-type]
    assert [c[:2] for c in report.conclusions] == [("gsp", "fee")]
    reversed_at = {(s.changed, s.value) for s in report.worlds if s.reversed}
    assert ("attraction.base", -1.6) in reversed_at
    assert ("attraction.base", 0.4) not in reversed_at
    assert report.survivors() == []


def _for_a_fee(row: Transition) -> object:
    assert row.expected_payments is not None
    free = tuple(p.model_copy(update={"price": 0.0}) for p in row.outcome.placements)
    fees = {ad_id: amount * 0.85 for ad_id, amount in row.expected_payments.items()}
    return row.outcome.model_copy(update={"placements": free, "transfers": fees})


@pytest.fixture
def folder(log: list[Transition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """The folder of that run, as if it had been run with other options and facts."""
    encoder = FakeEncoder()
    for module in ("simenv.encoder", "simenv.runs.sensitivity"):
        monkeypatch.setattr(f"{module}.default_encoder", lambda: encoder, raising=False)

    def write(options: dict[str, Any] | None = None, **facts: Any) -> Path:
        run = RunFolder(tmp_path / "run")
        run.begin({"bidder": "truthful", "personas": "everyday", **(options or {})}, facts, {})
        sessions = {n: run_sync(WORLD.session, 0, n) for n in range(24 // WORLD.horizon)}
        run.save_sessions(sessions)
        run.append(Finished(log, {}))
        return tmp_path / "run"

    return write


def test_the_personas_are_those_of_the_runs_own_sessions(
    folder: Callable[..., Path], log: list[Transition], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pack that the run names has none of them: it has changed since, or is another machine's file."""
    run, out = folder(), tmp_path / "table.csv"
    with pytest.raises(SystemExit) as ended:
        main(["sensitivity", str(run), "--measure", "welfare", "--out", str(out)])
    assert (ended.value.code, capsys.readouterr().err) == (0, "")
    report = sensitivity(log, WORLD.personas, WORLD.judge, measure="welfare")  # type: ignore[arg-type]
    assert sensitivity_of_run(run, "welfare") == report
    table = out.read_text(encoding="utf-8").splitlines()
    assert len(table) == 2 + len(report.worlds)
    assert table[1].startswith(f",,{report.base.rank_correlation},{report.base.holds}")


@pytest.mark.parametrize(
    ("options", "facts", "said"),
    [
        ({"budget": 50.0}, {}, "its bidders have a budget and observe what they pay, .* its bids depend on the clicks"),
        ({"bidder": "learning"}, {}, "its bidders learn from clicks, .* its bids depend on the clicks"),
        ({"bidder": "exp3"}, {}, "its bidders learn from clicks, .* its bids depend on the clicks"),
        ({}, {"observers": ["bidders"]}, "its bidders observe transitions, .* its bids depend on the clicks"),
        ({}, {"observers": ["gsp", "mine"]}, "gsp, mine observe transitions, .* the answers depend on the clicks"),
    ],
)
def test_runs_in_which_somebody_observes_clicks_are_refused(
    folder: Callable[..., Path], options: dict[str, Any], facts: dict[str, Any], said: str
) -> None:
    with pytest.raises(SystemExit):
        main(["sensitivity", str(run := folder(options, **facts))])
    with pytest.raises(InputError, match=f"^{re.escape(str(run))}: {said}"):
        sensitivity_of_run(run)


def test_who_observes_is_known_of_a_world_and_its_mechanisms() -> None:
    class Learns:
        def observe(self, transition: Transition) -> None: ...

    assert observers(WORLD, {"gsp": make_mechanism("gsp", context={"llm": ScriptedLLM()})}) == []
    assert observers(small_world(bidder=make_bidder("learning")), {"mine": Learns()}) == ["bidders", "mine"]  # type: ignore[dict-item]
    assert observers(small_world(bidder=Budgeted(make_bidder("truthful"), 5.0)), {}) == ["bidders"]


def test_a_run_without_its_sessions_is_refused(folder: Callable[..., Path]) -> None:
    run = folder()
    lines = (run / "sessions.jsonl").read_bytes().splitlines(keepends=True)
    (run / "sessions.jsonl").write_bytes(lines[0])
    with pytest.raises(InputError, match=r"the personas .* of the run's answers are not among those given"):
        sensitivity_of_run(run)
    (run / "sessions.jsonl").unlink()
    with pytest.raises(DataFileError, match=r"no sessions\.jsonl: not the folder of a run"):
        sensitivity_of_run(run)


def test_what_cannot_be_compared_is_refused(log: list[Transition]) -> None:
    with pytest.raises(InputError, match="unknown measure 'profit'"):
        sensitivity(log, WORLD.personas, WORLD.judge, measure="profit")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fewer than two"):
        sensitivity([row for row in log if row.mechanism == "gsp"], WORLD.personas, WORLD.judge)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not among those given"):
        sensitivity(log, WORLD.personas[:1], WORLD.judge)  # type: ignore[arg-type]


def test_conclusions_are_tested_in_other_worlds(
    folder: Callable[..., Path], log: list[Transition], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('like = "v1"\nworld = "mine"\n[attraction]\nbase = -3.0\n', encoding="utf-8")
    run = folder()
    with pytest.raises(SystemExit) as ended:
        main(["sensitivity", str(run), "--worlds", f"v1,rare,{mine}"])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert "difference per answer, 95% interval" in printed
    assert re.search(r"\d of \d conclusions hold in every world, 0 are reversed in some world", printed)
    report = sensitivity_of_run(run, worlds=["v1", "rare", str(mine)])
    assert [(s.changed, s.value) for s in report.worlds] == [("world", "rare"), ("world", "mine")]  # v1 is the original
    rare, other = (s.means["gsp"] for s in report.worlds)
    assert rare < other < report.base.means["gsp"]
    judge = WORLD.judge.with_params(load_world(mine))  # type: ignore[attr-defined]
    assert sensitivity(log, WORLD.personas, judge, worlds=[]).base.means == report.worlds[1].means
    for s in report.worlds:
        assert [c[:2] for c in s.now] == [c[:2] for c in report.conclusions]


def test_the_original_world_is_that_of_the_run(folder: Callable[..., Path], tmp_path: Path) -> None:
    run = folder({"judge": "click:rare"}, judge_sha256=load_world("rare").sha256)
    report = sensitivity_of_run(run, worlds=["v1"])
    assert [s.value for s in report.worlds] == ["v1"]
    assert report.base.means["gsp"] < report.worlds[0].means["gsp"]


def test_worlds_that_changed_or_share_a_name_are_refused(folder: Callable[..., Path], tmp_path: Path) -> None:
    run, files = folder({"judge": f"click:{tmp_path / 'one.toml'}"}, judge_sha256="0" * 64), []
    for name, base in (("one", -3.0), ("two", -2.0)):
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text(f'like = "v1"\nworld = "mine"\n[attraction]\nbase = {base}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r"its world .*one.toml was 000000000000, now [0-9a-f]{12}"):
        sensitivity_of_run(run)
    with pytest.raises(InputError, match="two different worlds share a name in v1, mine, mine"):
        sensitivity([], WORLD.personas, WORLD.judge, worlds=[load_world(file) for file in files])  # type: ignore[arg-type]
