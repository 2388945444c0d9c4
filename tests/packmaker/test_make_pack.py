"""make-pack: balance, what is refused, that nothing written is lost, and what the manifest says."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from simenv.cli import main as cli
from simenv.errors import DataFileError, InputError, LLMRefused, UnknownName, UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.llm import Request, ScriptedLLM
from simenv.market.catalog import load_catalog
from simenv.packmaker.cells import balanced_cells
from simenv.packmaker.duplicates import KnownTexts
from simenv.packmaker.filters import bad_query, bad_text, commercial
from simenv.packmaker.kinds import AGES, ATTITUDES, INCOMES, REGIONS, make_kind
from simenv.packmaker.write import PackResult, make_pack
from simenv.runs.folder import records_hash
from simenv.testing import ADS, PERSONAS, FakeEncoder, FakeOpenAI
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, load_queries
from tests.support.fake_author import FakeAuthor

FACTORS = {"age": tuple(AGES), "region": REGIONS, "income": INCOMES, "attitude": tuple(ATTITUDES)}


@pytest.fixture(autouse=True)
def like(tmp_path: Path) -> dict[str, str]:
    """Small packs to be unlike: to encode the embedded ones would take a minute."""
    queries = "What is the plural of octopus?\nWhy does ice float on water?\n"
    for name, text in (
        ("personas.jsonl", "".join(f"{p.model_dump_json()}\n" for p in PERSONAS)),
        ("ads.jsonl", "".join(f"{ad.model_dump_json()}\n" for ad in ADS)),
        ("queries.txt", queries),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {kind: str(tmp_path / f"{kind}.{'txt' if kind == 'queries' else 'jsonl'}") for kind in KINDS}


KINDS = ("personas", "ads", "queries")


def model(author: FakeAuthor) -> ScriptedLLM:
    def reply(request: Request) -> str:
        prompt = request.prompt
        return author([{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}])

    return ScriptedLLM(reply, name="fake-author", follows_formats=True)


def write(out: Path, author: FakeAuthor, kind: str = "personas", n: int = 8, **options: Any) -> PackResult:
    like = out.parent / ("queries.txt" if kind == "queries" else f"{kind}.jsonl")
    built = make_kind(kind, options.pop("categories", ()))
    return asyncio.run(make_pack(built, model(author), out, n=n, like=str(like), encoder=FakeEncoder(4096), **options))


def manifest(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(out.with_name(f"{out.name}.manifest.json").read_text(encoding="utf-8"))
    return found


def test_every_beginning_of_the_cells_is_balanced() -> None:
    """Over each factor the counts differ by one at most; over pairs by three, at chance they would by 12."""
    cells = balanced_cells(FACTORS, 300, seed=3)
    for n in (7, 24, 50, 144, 300):
        for factor, levels in FACTORS.items():
            counts = Counter(cell[factor] for cell in cells[:n])
            assert max(counts.values()) - min(counts[level] for level in levels) <= 1, (n, factor)
    for one in FACTORS:
        for other in [factor for factor in FACTORS if factor != one]:
            pairs = Counter((cell[one], cell[other]) for cell in cells)
            assert len(pairs) == len(FACTORS[one]) * len(FACTORS[other])
            assert max(pairs.values()) - min(pairs.values()) <= 3, (one, other)
    assert balanced_cells(FACTORS, 50, seed=3) == cells[:50]
    assert balanced_cells(FACTORS, 50, seed=4) != cells[:50]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Likes to walk in the hills.", None),
        ("Likes to walk @ the hills.", "markup"),
        ("Likes to walk **in** the hills.", "markup"),
        ("Likes to walk\nin the hills.", "markup"),
        ("Walks.", "length"),
        ("walk " * 11, "length"),
        ("w" * 130 + " in hills", "length"),
        ("As an AI I walk in hills.", "banned"),
        ("See https://walk.example/ for more hills", "banned"),
    ],
)
def test_texts_that_no_pack_should_hold(text: str, reason: str | None) -> None:
    assert bad_text(text, 3, 10) == reason


def test_questions_about_ads_or_of_buyers_are_told() -> None:
    assert bad_query("Why do I see so many ads here?") == "mentions-ads"
    assert bad_query("Is this answer sponsored by anybody?") == "mentions-ads"
    assert bad_query("What is the Latin word for star?") is None
    assert commercial("where can I buy a used piano")
    assert commercial("Is a telescope under $200 any good?")
    assert commercial("which stores have the best pens")
    assert not commercial("Why do onions make you cry?")
    assert not commercial("In what order do squirrels store nuts, and do they remember a great deal of it?")


def test_the_embedded_packs_keep_these_rules() -> None:
    """Rules that the packs in use break would be wrong. Four of their 1,500 queries speak of ads, one has a blank."""
    personas, ads = load_personas(), load_catalog()
    texts = [(p.info, 8, 45) for p in personas] + [(p.attitude, 8, 55) for p in personas]
    texts += [(i, 1, 6) for p in personas for i in p.interests] + [(ad.title, 2, 7) for ad in ads]
    texts += [(ad.body, 15, 45) for ad in ads] + [(ad.advertiser, 1, 4) for ad in ads]
    assert [text for text, least, most in texts if bad_text(text, least, most)] == []
    refused = Counter(bad_query(query) for p in personas for query in p.queries)
    assert refused == {None: 1496, "mentions-ads": 4}
    plain = [question.text for question in load_queries("no_commercial_intent")]
    assert [text for text in plain if commercial(text)] == []


def test_what_is_there_already_is_noticed() -> None:
    known = KnownTexts(FakeEncoder(4096), [{"info": ["A baker of thirty in Lyon."], "name": ["Blue Fox"]}], {"info"})

    def reason(*info: str, name: Sequence[str] = ()) -> str | None:
        return known.reason({"info": info, "name": name})

    assert reason("a baker of thirty, in Lyon") == "duplicate"
    assert reason("In Lyon lives a baker of thirty.") == "near-duplicate"
    assert reason("Two nurses share this flat.", "This flat two nurses share.") == "near-duplicate"
    assert reason("Two nurses share a flat.", name=["blue fox"]) == "duplicate"
    assert reason("Two nurses share a flat.", name=["Fox Blue"]) is None, "names are not compared by cosine"
    known.add({"info": ["A baker of thirty sings and paints under bridges at night."]})
    assert reason("A baker of thirty sells old maps, compasses and globes to sailors.") == "template"
    assert reason("Sells old maps, compasses and globes to sailors.") is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_loads_and_says_how_it_came_about(tmp_path: Path, kind: str, like: dict[str, str]) -> None:
    out = tmp_path / "mine.jsonl"
    author = FakeAuthor()
    written = write(out, author, kind, n=30, seed=5)
    assert (written.records, written.rejected) == (30, {})
    found = manifest(out)
    assert {name: found[name] for name in ("kind", "model", "seed", "records", "calls", "rejected")} == {
        **{"kind": kind, "model": "fake-author", "seed": 5, "records": 30},
        **{"calls": len(author.prompts), "rejected": {}},
    }
    assert found["prompt"]["system"] == read_prompt("simenv.packmaker", f"pack_{kind}")
    assert found["usage"]["calls"] == written.calls
    assert found["like"]["name"] == like[kind]
    assert found["stopped"] is not None
    cells = [", ".join(f"{f}: {v}" for f, v in c.items()) for c in balanced_cells(make_kind(kind).factors, 30, 5)]
    assert [json.loads(line)["cell"] for line in out.read_text(encoding="utf-8").splitlines()] == cells
    if kind == "personas":
        personas = load_personas(out)
        assert found["sha256"] == records_hash(personas)
        for person, cell in zip(personas, balanced_cells(FACTORS, 30, 5), strict=True):
            (low, high), (least, most) = AGES[cell["age"]], ATTITUDES[cell["attitude"]]
            assert (person.region, person.income) == (cell["region"], cell["income"])
            assert low <= (person.age or 0) <= high
            assert least <= person.traits.ad_tolerance <= most
        assert set(personas[0].traits.affinity) <= {ad.category for ad in load_catalog()}
        assert (personas[0].id, personas[29].id) == ("mine-001", "mine-030")
    elif kind == "ads":
        ads = load_catalog(out)
        assert found["sha256"] == records_hash(ads)
        assert len({ad.category for ad in ads}) == 30
        assert all(ad.url.endswith(".example/") for ad in ads)
    else:
        assert found["sha256"] == FileQueries(out).hash
        assert len({question.topic for question in load_queries(out)}) == 12


def test_a_call_is_told_the_cells_examples_and_what_was_written(tmp_path: Path) -> None:
    author = FakeAuthor()
    write(tmp_path / "mine.jsonl", author, n=20, categories=["tea", "boats", "hats"])
    first, last = author.prompts[0], author.prompts[-1]
    assert first.startswith("Categories: tea; boats; hats\n\nWrite 4 records:\n1. age: ")
    assert sum(persona.info in first for persona in PERSONAS) == 2
    assert "Written just now" not in first
    assert load_personas(tmp_path / "mine.jsonl")[15].info in last


SPOILT = {
    "unreadable": [{"age": "old"}, {"extra": 1}, {"number": 99}],
    "misfit": [{"age": 99}, {"ad_tolerance": 2.0}, {"affinity": [{"category": "no such", "taste": -1.0}] * 4}],
    "length": [{"info": "Short."}, {"queries": ["Which tea is good for me today?"]}, {"interests": []}],
    "markup": [{"attitude": "Clicks on [everything] that somebody shows there every day"}],
    "banned": [{"info": "A persona of thirty who lives in a small house by the sea"}],
    "mentions-ads": [{"queries": [f"Why are there ads number {i} in my answers?" for i in range(5)]}],
    "duplicate": [{"info": PERSONAS[1].info}],
    "near-duplicate": [{"info": PERSONAS[2].info.replace("evening", "morning")}],
}


@pytest.mark.parametrize(("reason", "change"), [(reason, change) for reason, of in SPOILT.items() for change in of])
def test_a_bad_record_is_counted_and_asked_for_again(tmp_path: Path, reason: str, change: dict[str, Any]) -> None:
    """The third record of the first call is spoilt; the second call asks for its cell alone."""
    if reason == "near-duplicate":  # whose length is that of a record
        change = {"info": "A nurse of 35 from Lyon who cooks each evening."}
    author = FakeAuthor(lambda number, record: {**record, **change} if number == 3 else record)
    written = write(tmp_path / "mine.jsonl", author, n=4)
    assert (written.records, written.rejected, written.calls) == (4, {reason: 1}, 2)
    assert author.cells[4:] == [author.cells[2]]
    assert len(load_personas(tmp_path / "mine.jsonl")) == 4


@pytest.mark.parametrize("reply", ["I would rather not.", '{"records": 3}', "[[[", '{"records": []}'])
def test_tries_are_bounded(tmp_path: Path, reply: str) -> None:
    out = tmp_path / "mine.jsonl"
    llm = ScriptedLLM(lambda _: reply, name="stubborn", follows_formats=True, capabilities=frozenset())  # no schemas
    with pytest.raises(
        UnreadableReply, match=r"stubborn wrote 0 of 2 ads; .* rejected in 3 tries each \(unreadable 3\)"
    ):
        asyncio.run(
            make_pack(make_kind("ads"), llm, out, n=2, like=str(tmp_path / "ads.jsonl"), tries=3, encoder=FakeEncoder())
        )
    assert [request.constraint for request in llm.requests] == [None] * 3
    assert len({request.key for request in llm.requests}) == 3, "another try is another draw"
    assert manifest(out)["rejected"] == {"unreadable": 3}


def test_what_one_try_refused_another_may_write(tmp_path: Path) -> None:
    """Given up on the fifth cell; the same command asks for it alone, and the counts go on."""
    out = tmp_path / "mine.jsonl"
    fifth: list[str] = []

    def spoil(number: int, record: dict[str, Any]) -> Any:
        if number == 5 or (fifth and stubborn.cells[-1] == fifth[0]):
            fifth[:] = fifth or [stubborn.cells[-1]]
            return {**record, "age": 99}
        return record

    stubborn = FakeAuthor(spoil)
    with pytest.raises(UnreadableReply, match="wrote 7 of 8 personas"):
        write(out, stubborn, tries=2)
    willing = FakeAuthor(name="willing")
    written = write(out, willing, tries=2)
    assert willing.cells == fifth
    assert (written.records, written.rejected) == (8, {"misfit": 2})
    assert written.calls == len(stubborn.prompts) + 1
    assert manifest(out)["sha256"] == records_hash(load_personas(out))


def test_nothing_written_is_lost_when_the_model_fails(tmp_path: Path) -> None:
    """The third call of the first four fails: what the two before it brought is kept, a torn line is not."""
    out = tmp_path / "mine.jsonl"
    author = FakeAuthor()

    def reply(request: Request) -> str:
        if len(author.prompts) == 2:
            raise LLMRefused("out of credit")
        return author([{"content": request.prompt.system}, {"content": request.prompt.user}])

    llm = ScriptedLLM(reply, name="fake-author", follows_formats=True)
    like = str(tmp_path / "personas.jsonl")
    with pytest.raises(LLMRefused, match="out of credit"):
        asyncio.run(make_pack(make_kind("personas"), llm, out, n=20, like=like, encoder=FakeEncoder(4096)))
    before = out.read_bytes()
    assert manifest(out)["records"] == before.count(b"\n") == 8
    with out.open("ab") as file:
        file.write('{"id": "mine-009", "info": "A bäcker'.encode()[:-7])
    written = write(out, FakeAuthor(name="other"), n=20)
    assert written.records == 20
    assert out.read_bytes().startswith(before)
    assert len(load_personas(out)) == 20
    balance = Counter(json.loads(line)["cell"] for line in out.read_text(encoding="utf-8").splitlines())
    assert balance == Counter(", ".join(f"{f}: {v}" for f, v in c.items()) for c in balanced_cells(FACTORS, 20, 0))


def test_a_pack_may_grow_and_a_full_one_costs_nothing(tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    author = FakeAuthor()
    write(out, author, "queries", n=5)
    files = {path: path.read_bytes() for path in tmp_path.glob("mine*")}
    assert write(out, author, "queries", n=5).records == 5
    assert {path: path.read_bytes() for path in tmp_path.glob("mine*")} == files
    assert write(out, author, "queries", n=9).records == 9
    assert out.read_bytes().startswith(files[out])


def test_what_cannot_be_written_is_named(tmp_path: Path) -> None:
    out = tmp_path / "mine.jsonl"
    author = FakeAuthor()
    write(out, author, n=2)
    with pytest.raises(InputError, match=r"cannot resume .*mine.jsonl: seed was 0, now 1 \(give a new file\)"):
        write(out, author, n=2, seed=1)
    with pytest.raises(InputError, match=r'kind was "personas", now "ads"'):
        write(out, author, "ads", n=2)
    with pytest.raises(DataFileError, match=r"ads.jsonl exists and has no ads.jsonl.manifest.json: give a new file"):
        write(tmp_path / "ads.jsonl", author, "ads")
    with pytest.raises(DataFileError, match=r"cannot write files of type '.csv', expected .jsonl"):
        write(tmp_path / "mine.csv", author)
    with pytest.raises(InputError, match="n must be at least 1, got 0"):
        write(out, author, n=0)
    with pytest.raises(InputError, match="scripted is not capable of writing a pack"):
        asyncio.run(make_pack(make_kind("ads"), ScriptedLLM(), out, n=2))
    with pytest.raises(UnknownName, match="unknown kind of pack 'persons': did you mean personas"):
        make_kind("persons")
    out.write_text('{"id": "mine-001"}\n', encoding="utf-8")
    with pytest.raises(DataFileError, match=r"mine.jsonl:1: not a record of a pack"):
        write(out, author, n=2)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["make-pack", *arguments])
    out, err = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, out, err


@pytest.mark.weights
@pytest.mark.parametrize("takes_schemas", [True, False])
def test_the_command_with_a_server(
    tmp_path: Path, like: dict[str, str], capsys: pytest.CaptureFixture[str], takes_schemas: bool
) -> None:
    """Over HTTP, with the real encoder, faults of the server on the way; --n goes from 6 to 10 in a second start."""
    out = tmp_path / "mine.jsonl"
    author = FakeAuthor()
    with FakeOpenAI(author, takes_schemas=takes_schemas) as server:
        options = ["--llm", "openai/x", "--api-base", server.url, "--like", like["personas"], "--out", str(out)]
        code, said, _ = run(capsys, "personas", "--n", "6", *options)
        assert (code, len(load_personas(out))) == (0, 6)
        assert said.startswith(f"6 personas in {out}; 2 calls, ")
        server.fail_next(1, "500")
        code, said, _ = run(capsys, "personas", "--n", "10", *options)
        assert (code, len(load_personas(out))) == (0, 10)
        schemas = [
            body.get("response_format") for body in server.bodies if body["max_tokens"] > 64
        ]  # not the first call
    if takes_schemas:
        assert all(schema["json_schema"]["schema"]["required"] == ["records"] for schema in schemas)
    else:
        assert [schema is None for schema in schemas].count(True) == 3


def test_a_model_that_is_too_small_is_refused_before_it_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mine.jsonl"
    hint = "(give local:FOLDER or PROVIDER/MODEL)"
    for llm in ("embedded", "scripted"):
        code, said, err = run(capsys, "ads", "--llm", llm, "--out", str(out))
        assert (code, said, err) == (2, "", f"simenv: {llm} is not capable of writing a pack {hint}\n")
    code, said, err = run(capsys, "ads", "--llm", "openai/x", "--api-base", "http://127.0.0.1:9/v1", "--out", str(out))
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert err.startswith("simenv: openai/x at http://127.0.0.1:9/v1 gave no completion: ")
    assert not list(tmp_path.glob("mine*"))
