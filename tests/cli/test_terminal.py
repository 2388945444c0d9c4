"""What a terminal gets: no mark-up, no control characters, only characters that it has; and a terminal that fails."""

from __future__ import annotations

import ast
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

import pytest
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

import simenv.cli
from simenv.cli import console
from simenv.cli.console import Terminal, harmless
from simenv.cli.main import main

HOSTILE = "gsp[/x] :smile: [bold]\x1b[31m\x1b]0;owned\x07\u202e\x9b2J\r\u2028 caf\u00e9 \u00b1"


def printed(*things: object, encoding: str = "utf-8", width: int = 200) -> str:
    raw = io.BytesIO()
    terminal = Terminal(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True), width=width)
    for thing in things:
        terminal.print(thing)
    return raw.getvalue().decode(encoding)


def table() -> Table:
    made = Table(title=HOSTILE, box=SIMPLE_HEAD, caption=HOSTILE)
    made.add_column(HOSTILE)
    made.add_column("numbers \u00b1", justify="right")
    made.add_row(HOSTILE, "1.00 \u00b10.10")
    made.add_row(Text(HOSTILE), Text("23.00 \u00b10.10"))
    return made


@pytest.mark.parametrize("thing", [HOSTILE, Text(HOSTILE), table()], ids=["string", "text", "table"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_nothing_printed_is_obeyed(thing: object, encoding: str) -> None:
    shown = printed(thing, encoding=encoding)
    assert not set(shown) & set("\x1b\x07\x9b\r\u202e\u2028")
    assert "gsp[/x] :smile: [bold]\\x1b[31m" in shown
    assert ("caf\u00e9" in shown) == (encoding != "ascii")


def test_a_table_has_its_columns_in_any_encoding() -> None:
    for encoding in ("utf-8", "ascii"):
        lines = [line for line in printed(table(), encoding=encoding).splitlines() if "0.10" in line]
        assert len({len(line) for line in lines}) == 1
        assert all("+-0.10" in line if encoding == "ascii" else "\u00b10.10" in line for line in lines)


def test_ordinary_text_stays() -> None:
    text = "Caf\u00e9, na\u00efve, \u65e5\u672c, 1 < 2, x[0], \U0001f469\u200d\U0001f680, tab\there\nnext line"
    assert harmless(text) == text
    assert harmless("\ud800") == "\\ud800"


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.error("first\nsimenv: all is well\x1b[2K")
    console.warn("a\nb")
    assert capsys.readouterr().err == "simenv: first simenv: all is well\\x1b[2K\nsimenv: a b\n"


def test_what_the_library_logs_is_printed_by_the_console(capsys: pytest.CaptureFixture[str]) -> None:
    console.begin()
    console.begin()
    logging.getLogger("simenv.llm.hosted").warning("%s refuses it", "gpt\x1b[2J")
    assert capsys.readouterr().err == "simenv: gpt\\x1b[2J refuses it\n"


@pytest.fixture
def full() -> Iterator[TextIO]:
    file = open("/dev/full", "w", encoding="utf-8")  # noqa: SIM115
    yield file
    with suppress(OSError):
        file.close()


@pytest.fixture
def closed_pipe() -> Iterator[TextIO]:
    reader, writer = os.pipe()
    os.close(reader)
    file = open(writer, "w", encoding="utf-8")  # noqa: SIM115
    yield file
    with suppress(OSError):
        file.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    ("arguments", "code"), [(["list", "penalty"], 1), (["--help"], 1), (["list", "no-such-kind"], 2)]
)
def test_a_full_disk_is_one_line(
    arguments: list[str],
    code: int,
    full: TextIO,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", full)
    with pytest.raises(SystemExit) as end:
        main(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert end.value.code == code
    if code == 1:
        assert lines == ["simenv: cannot write to standard output: No space left on device"]
    else:
        assert "no-such-kind" in lines[0]


@pytest.mark.skipif(os.name == "nt", reason="pipes of Unix")
def test_a_closed_pipe_is_silent(
    closed_pipe: TextIO, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", closed_pipe)
    with pytest.raises(SystemExit) as end:
        main(["list", "penalty"])
    assert end.value.code == 141
    assert capsys.readouterr().err == ""


def test_a_failing_terminal_ends_no_work(closed_pipe: TextIO) -> None:
    """Printing goes on, to nowhere: what a command does after it printed is done."""
    terminal = Terminal(file=closed_pipe)
    terminal.print("one")
    terminal.print("two")
    assert isinstance(terminal.failure, BrokenPipeError)


def test_commands_print_by_the_console_alone() -> None:
    """No command writes to a stream past it, and nothing in simenv makes another console for a terminal."""
    root = Path(simenv.__file__).parent
    own = root / "cli" / "console.py"
    for path in [*root.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or path == own:
                continue
            called = ast.unparse(node.func)
            assert called not in ("print", "Console", "typer.echo", "typer.secho", "rich.print"), (path, node.lineno)
            writes = called in ("sys.stdout.write", "sys.stderr.write", "sys.stdout.buffer.write")
            assert not writes, (path, node.lineno)
