"""Cassettes: a run recorded and replayed without its model, and texts that are used again under other prices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.cli import main as cli
from simenv.errors import DataFileError, InputError, LLMRefused, NotRecorded
from simenv.llm import LLM, Capability, LinksOnly, Prompt, Request, Sampling, ScriptedLLM
from simenv.llm.base import Completion
from simenv.llm.cassette import Cassette, CassetteLLM, Mode
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.rollout import Finished, rollout
from simenv.testing import ADS, PERSONAS, small_world

N = 9


def rows_of(llm: LLM, *names: str, **options: Any) -> list[Transition]:
    chunks: list[Finished] = []
    context = {"llm": llm}
    mechanisms: Mapping[str, Mechanism] = {m: make_mechanism(m, context=context, **options) for m in names}

    async def go() -> None:
        await rollout(small_world(), mechanisms, n=N, seed=1, on_chunk=chunks.append, chunk=4)

    run_sync(go)
    return [row for chunk in chunks for row in chunk.transitions]


def ask(llm: LLM, prompt: str | Prompt, *key: str | int, **options: Any) -> str:
    async def go() -> Completion:
        return await llm.complete(prompt, key=key, **options)

    return run_sync(go).text


def recorded(path: Path, *names: str, mode: Mode = "record", **options: Any) -> tuple[list[Transition], ScriptedLLM]:
    llm = ScriptedLLM()
    return rows_of(CassetteLLM(Cassette(path, mode), llm), *names, **options), llm


def replayed(path: Path, *names: str) -> list[Transition]:
    return rows_of(CassetteLLM(Cassette(path, "replay"), name="scripted"), *names)


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    """A cassette with the answers to two questions, one of them drawn twice."""
    llm = CassetteLLM(Cassette(tmp_path / "tape.jsonl", "record"), ScriptedLLM())
    for question, index in (("Which boots stay dry?", 0), ("Which boots stay dry?", 1), ("Which rail pass?", 0)):
        ask(llm, question, "a", index, sampling=Sampling(max_tokens=9))
    return tmp_path / "tape.jsonl"


def test_a_replayed_run_is_the_recorded_one(tmp_path: Path) -> None:
    names = ("gsp", "best_of_n", "prompted", "organic", "fixed_slots")
    rows, llm = recorded(tmp_path / "tape.jsonl", *names)
    assert replayed(tmp_path / "tape.jsonl", *names) == rows
    assert rows == rows_of(ScriptedLLM(), *names), "recording changes nothing either"
    lines = (tmp_path / "tape.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(llm.requests) > N, "each completion is recorded, and once"


@pytest.mark.weights
def test_record_and_replay_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name, records in (("catalog", ADS), ("personas", PERSONAS)):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(f"{r.model_dump_json()}\n" for r in records), encoding="utf-8")
        files += [f"--{name}", str(file)]
    tape, options = str(tmp_path / "tape.jsonl"), [*files, "--mechanisms", "gsp,best_of_n", "--horizon", "3"]

    def bench(out: str, *more: str) -> int:
        with pytest.raises(SystemExit) as stopped:
            cli.main(["bench", "--out", str(tmp_path / out), "--llm", "scripted", *options, *more])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    assert bench("recorded", "--record", tape, "--n", "5") == 0
    before = Path(tape).read_bytes()
    assert bench("replayed", "--replay", tape, "--n", "5") == 0
    for name in ("transitions.jsonl", "chunks.jsonl", "table.csv"):
        assert (tmp_path / "replayed" / name).read_bytes() == (tmp_path / "recorded" / name).read_bytes()
    capsys.readouterr()
    assert bench("again", "--record", tape, "--n", "5") == 2
    assert capsys.readouterr().err == f"simenv: {tape} exists already: give a new file, nothing is overwritten\n"
    assert bench("more", "--replay", tape, "--n", "6") == 2
    assert re.search(r"simenv: .* has no completion of 'scripted' for key \[.*\(the nearest", capsys.readouterr().err)
    assert bench("both", "--replay", tape, "--cache", tape) == 2
    assert capsys.readouterr().err == "simenv: record, replay and cache exclude each other, got replay and cache\n"
    assert Path(tape).read_bytes() == before


def missed(tape: Path, prompt: str | Prompt, *key: str | int, **options: Any) -> str:
    llm = CassetteLLM(Cassette(tape, "replay"), name="scripted")
    with pytest.raises(LLMRefused) as caught:
        ask(llm, prompt, *key, **({"sampling": Sampling(max_tokens=9)} | options))
    return str(caught.value)


def test_a_miss_says_how_the_prompt_differs(tape: Path) -> None:
    said = missed(tape, "Which boots stay clean?", "a", 0)
    assert said.startswith(f"{tape} has no completion of 'scripted' for key [\"a\", 0] (the nearest prompt has ")
    assert said.endswith("'oots stay dry?' where this one has 'oots stay clean?')")
    assert missed(tape, "Which boots stay dry? Now", "a", 0).endswith(
        "' stay dry?' where this one has ' stay dry? Now')"
    )


def test_a_miss_says_which_field_differs(tape: Path) -> None:
    question = "Which boots stay dry?"
    there = "(it has this question with other values:"
    assert missed(tape, question, "b", 0).endswith(f"{there} key ('a', 0))")
    said = missed(tape, question, "a", 1, sampling=Sampling(max_tokens=8))
    assert f"{there} sampling Sampling(" in said, "the entry with the same key is nearer than the first one"
    assert "max_tokens=9" in said
    said = missed(tape, Prompt(user=question, system="Be brief."), "b", 0)
    assert f"{there} prompt Prompt(" in said
    assert "; key (" in said
    assert f"{there} constraint None)" in missed(tape, question, "a", 0, constraint=LinksOnly())


def test_keys_of_one_number_and_of_its_digits_differ(tape: Path) -> None:
    assert "other values: key (" in missed(tape, "Which boots stay dry?", "a", "0")


def test_a_model_that_is_not_on_the_cassette_is_named(tape: Path, tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"has no completion of 'openai/x'; it has scripted$"):
        CassetteLLM(Cassette(tape, "replay"), name="openai/x")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataFileError, match=r"it is empty$"):
        CassetteLLM(Cassette(tmp_path / "empty.jsonl", "replay"), name="scripted")
    with pytest.raises(DataFileError, match=r"nowhere\.jsonl: no such cassette"):
        Cassette(tmp_path / "nowhere.jsonl", "replay")


@pytest.mark.parametrize("mode", ["record", "cache"])
def test_a_cassette_that_cannot_be_written_is_refused_at_once(tmp_path: Path, mode: Mode) -> None:
    with pytest.raises(InputError, match=r"tape\.jsonl: folder .*no folder does not exist"):
        Cassette(tmp_path / "no folder" / "tape.jsonl", mode)


def test_recording_refuses_a_file_that_exists(tape: Path) -> None:
    before = tape.read_bytes()
    with pytest.raises(DataFileError, match="exists already: give a new file, nothing is overwritten"):
        Cassette(tape, "record")
    assert tape.read_bytes() == before


def test_another_payment_rule_over_the_same_answers_asks_for_nothing(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    gsp, llm = recorded(tape, "gsp", mode="cache")
    assert {request.key[1] for request in llm.requests} == {"answer", "ad-sentence"}
    before = tape.read_bytes()
    rows, llm = recorded(tape, "fixed_slots", mode="cache")
    assert llm.requests == []
    assert tape.read_bytes() == before
    for slots, woven in zip(rows, gsp, strict=True):
        assert woven.outcome.response.startswith(slots.outcome.response.split("\n")[0]), "the same answer"
        assert [(p.ad_id, p.price) for p in slots.outcome.placements] == [
            (p.ad_id, p.price) for p in woven.outcome.placements
        ]
        assert slots.outcome.response != woven.outcome.response


def test_a_cache_adds_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    first, llm = recorded(tape, "fixed_slots", mode="cache")
    assert len(llm.requests) == N
    rows, llm = recorded(tape, "fixed_slots", "gsp", mode="cache")
    assert {request.key[1] for request in llm.requests} == {"ad-sentence"}
    assert [row for row in rows if row.mechanism == "fixed_slots"] == first
    assert len(tape.read_bytes().splitlines()) == N + len(llm.requests)
    again, llm = recorded(tape, "fixed_slots", "gsp", mode="cache")
    assert (again, llm.requests) == (rows, [])


@pytest.mark.parametrize("size", [1, 40, 200])
def test_a_torn_last_line_is_dropped(tape: Path, size: int) -> None:
    whole = tape.read_bytes()
    assert size < len(whole.splitlines()[-1])
    tape.write_bytes(whole[:-size])
    assert "Which" in missed(tape, "Which rail pass?", "a", 0), "to replay, it is not there"
    assert tape.read_bytes() == whole[:-size], "and the file is not touched"
    llm = ScriptedLLM()
    ask(CassetteLLM(Cassette(tape, "cache"), llm), "Which rail pass?", "a", 0, sampling=Sampling(max_tokens=9))
    assert len(llm.requests) == 1
    assert tape.read_bytes() == whole


@pytest.mark.parametrize("mode", ["replay", "cache"])
@pytest.mark.parametrize("line", [b"{", b"", b"null", b'{"model": "scripted"}', b"\xff\xfe"])
def test_an_unreadable_line_is_named(tape: Path, mode: Mode, line: bytes) -> None:
    lines = tape.read_bytes().splitlines()
    tape.write_bytes(b"\n".join([lines[0], line, *lines[1:]]) + b"\n")
    with pytest.raises(DataFileError) as caught:
        Cassette(tape, mode)
    assert str(caught.value).startswith(f"{tape}:2: not a completion: ")
    assert len(str(caught.value).splitlines()) == 1


def test_two_models_in_one_file(tmp_path: Path) -> None:
    cassette = Cassette(tmp_path / "tape.jsonl", "record")
    limited = frozenset({Capability.JSON_SCHEMA})
    for name, capable, can in (("one", False, frozenset(Capability)), ("two", True, limited)):
        inner = ScriptedLLM(
            lambda request, name=name: f"I am {name}.", name=name, follows_formats=capable, capabilities=can
        )
        ask(CassetteLLM(cassette, inner), "Who are you?", "k")
    cassette = Cassette(tmp_path / "tape.jsonl", "replay")
    one, two = CassetteLLM(cassette, name="one"), CassetteLLM(cassette, name="two")
    assert [ask(llm, "Who are you?", "k") for llm in (one, two)] == ["I am one.", "I am two."]
    assert [(llm.name, llm.follows_formats, llm.capabilities) for llm in (one, two)] == [
        ("one", False, frozenset(Capability)),
        ("two", True, limited),
    ]


def test_a_model_is_replayed_where_only_its_adapter_answered(tmp_path: Path) -> None:
    """As under LLM-Auction, whose model with its adapter writes the whole answer."""
    tape = tmp_path / "tape.jsonl"
    name = "scripted with adapter 0123456789ab"
    adapted = ScriptedLLM(lambda request: "I am adapted.", name=name)
    ask(CassetteLLM(Cassette(tape, "record"), adapted), "Who are you?", "k")
    player = CassetteLLM(Cassette(tape, "replay"), name="scripted")
    assert (player.name, player.capabilities) == ("scripted", adapted.capabilities)
    assert ask(player.derived(name, lambda model: model), "Who are you?", "k") == "I am adapted."
    with pytest.raises(NotRecorded, match="has no completion of 'scripted'"):
        ask(player, "Who are you?", "k")


def test_samples_of_one_prompt_are_kept_apart(tmp_path: Path) -> None:
    """Best of n asks the same question n times: a key without the sample's index would give n times one text."""

    def reply(request: Request) -> str:
        if request.key[1] == "one-call":
            ad = ADS[len(llm.requests) % len(ADS)]  # by arrival: only the cassette can tell it again
            return f"Draw {len(llm.requests)}: {ad.title}."
        return "Plain."

    llm = ScriptedLLM(reply, follows_formats=True)
    rows = rows_of(CassetteLLM(Cassette(tmp_path / "tape.jsonl", "record"), llm), "best_of_n", n=4)
    draws = [request for request in llm.requests if request.key[1] == "one-call"]
    assert len({request.prompt for request in draws}) == N
    assert len(draws) == len(set(draws)) == 4 * N
    assert all(row.outcome.details["candidates"] == 5 for row in rows), "four draws and the plain answer"
    player = CassetteLLM(Cassette(tmp_path / "tape.jsonl", "replay"), name="scripted")
    assert rows_of(player, "best_of_n", n=4) == rows
