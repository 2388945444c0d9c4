"""Damages rows in every kind of file that the command line reads. Rule: exit code 0 or 2, one error line, no traceback.

    python benchmarks/fuzz_inputs.py --rows 10000

A valid file of each kind is written. Then one of its rows is damaged (bytes changed, removed or doubled; values
anywhere in it replaced by another type, dropped or renamed), and a command runs on the file: most of them through
`simenv.cli.main.main` in this process, every 200th (--own) in a separate process. Exit code 1 if any run broke the
rule.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simenv.cli import main as cli
from simenv.seeding import keyed_rng

ODD: tuple[Any, ...] = (
    *(None, "", -1, 0, 7, 1e308, float("nan"), [], {}, "@[x]@", "\ud800", True, [[[]]], "null", 10**30, "\u2028"),
    *("a\nb", "\x1b[2J", "[red]", {"x": 1}),
)
PACKS = Path(__file__).parent.parent
SIMENV = Path(sys.executable).with_name("simenv")
RUN = ["--llm", "scripted", "--n", "2", "--horizon", "2", "--candidates", "4", "--quality", "none"]
MECHANISMS = ["--mechanisms", "softmax,gsp"]


class Kind(NamedTuple):
    """A valid file, and the command that reads a damaged copy of it: (copy, unused path, number) -> arguments."""

    file: Path
    command: Callable[[Path, Path, int], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--kinds", help="only these, comma separated")
    parser.add_argument("--own", type=int, default=200, help="interval of rows that run in a separate process")
    chosen = parser.parse_args()
    rows = chosen.rows
    broken = 0
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # a damaged option may name a file to write
        kinds = make_kinds(Path(name))
        if chosen.kinds:
            kinds = {kind: kinds[kind] for kind in chosen.kinds.split(",")}
        for kind, (file, command) in kinds.items():
            counts: Counter[str] = Counter()
            for i in range(rows // len(kinds)):
                scratch = Path(name) / "scratch"
                scratch.mkdir()
                target = scratch / file.name
                target.write_bytes(damaged(file.read_bytes().splitlines(), keyed_rng("fuzz", kind, i)))
                arguments = command(target, scratch / "out", i)
                result, output = (in_process if i % chosen.own else in_own_process)(arguments)
                counts[result] += 1
                counts["of these in processes of their own"] += i % chosen.own == 0
                if result.isupper():
                    broken += 1
                    print(f"{kind} {i}: simenv {' '.join(arguments)}: {result}\n{output}", flush=True)
                shutil.rmtree(scratch)
            print(f"{kind}: {', '.join(f'{count} {what}' for what, count in counts.items())}", flush=True)
    print(f"{broken} of {rows} broke the rule")
    sys.exit(broken > 0)


def make_kinds(folder: Path) -> dict[str, Kind]:
    """Writes small valid files: the packs' first rows, and a run on them."""
    for pack, source in (("ads", "ad_catalogs"), ("people", "personas")):
        lines = (PACKS / source / "everyday.jsonl").read_bytes().splitlines(keepends=True)
        (folder / f"{pack}.jsonl").write_bytes(b"".join(lines[:6]))
    (folder / "questions.csv").write_text("text,topic\n" + 'Where can one swim?,"travel, cheap"\n' * 6)
    ads, people = ["--catalog", str(folder / "ads.jsonl")], ["--personas", str(folder / "people.jsonl")]
    tape, run = folder / "tape.jsonl", folder / "run"
    whole = ["bench", *RUN, *MECHANISMS, *ads, *people]
    in_process([*whole, "--record", str(tape), "--out", str(run), "--chunk", "1"])
    manifest = json.loads((run / "manifest.json").read_bytes())
    (run / "manifest.json").write_text(json.dumps(manifest))  # in one row

    def log(file: Path, out: Path, number: int) -> list[str]:
        if number % 2:
            return ["ope", str(file), "--target", "softmax", "--set", "temperature=20"]
        formats = ("clicks", "preferences", "sft", "kto")
        return ["export", str(file), "--out", f"{out}.jsonl", "--format", formats[number // 2 % len(formats)]]

    def folder_of_run(file: Path, out: Path, number: int) -> list[str]:
        shutil.copytree(run, out, ignore=shutil.ignore_patterns(file.name, "table.*"))
        shutil.copy(file, out)
        return [*whole, "--resume", "--out", str(out), "--chunk", "1"]

    return {
        "catalog": Kind(folder / "ads.jsonl", lambda f, o, _: [*whole, "--catalog", str(f), "--out", str(o)]),
        "personas": Kind(folder / "people.jsonl", lambda f, o, _: [*whole, "--personas", str(f), "--out", str(o)]),
        "queries": Kind(folder / "questions.csv", lambda f, o, _: [*whole, "--queries", str(f), "--out", str(o)]),
        "cassette": Kind(tape, lambda f, o, _: [*whole, "--replay", str(f), "--out", str(o)]),
        "transitions": Kind(run / "transitions.jsonl", log),
        **{
            f"resume with {n}": Kind(run / n, folder_of_run)
            for n in ("sessions.jsonl", "chunks.jsonl", "manifest.json")
        },
    }


def damaged(lines: list[bytes], rng: np.random.Generator) -> bytes:
    """A file's lines with one of them damaged."""
    place = int(rng.integers(len(lines)))
    return b"\n".join([*lines[:place], damage(lines[place], rng), *lines[place + 1 :], b""])


def damage(line: bytes, rng: np.random.Generator) -> bytes:
    """One damaged copy of a line."""
    if rng.random() < 0.6 and line.startswith(b"{") and line.endswith(b"}"):
        row = json.loads(line)
        places = list(nodes(row))
        holder, key = places[int(rng.integers(len(places)))]
        if rng.random() < 0.8:
            holder[key] = ODD[int(rng.integers(len(ODD)))]
        else:
            value = holder.pop(key)
            if rng.random() < 0.5 and isinstance(holder, dict):
                holder[f"{key}s"] = value
        return json.dumps(row).encode()
    at, length = int(rng.integers(len(line))), int(rng.integers(1, 20))
    noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    middle = (noise, b"", line[at : at + length] * 2)[int(rng.integers(3))]
    return line[:at] + middle + line[at + length :]


def nodes(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value that can be changed, as (list or dict, index or key)."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from nodes(value[key])


def in_process(arguments: list[str]) -> tuple[str, str]:
    """Runs a command in this process: its result, and its output on standard error."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(arguments)
            code: object = 0
        except SystemExit as stopped:
            code = stopped.code
        except BaseException:
            code = traceback.format_exc()
    return classify(code, err.getvalue()), f"{err.getvalue()}\n{code}"


def in_own_process(arguments: list[str]) -> tuple[str, str]:
    done = subprocess.run([SIMENV, *arguments], capture_output=True, text=True)
    return classify(done.returncode, done.stderr), done.stderr


def classify(code: object, err: str) -> str:
    """The result of a command; in capitals if it breaks the rule."""
    if code in (0, None):
        return "TRACEBACK" if "Traceback" in err else "accepted"
    if code != 2 or "Traceback" in err:
        return "TRACEBACK"
    lines = [line for line in err.splitlines() if not line.startswith("answers ")]  # without the progress bar
    return "refused in one line" if len(lines) == 1 and lines[0].startswith("simenv: ") else "SEVERAL LINES"


if __name__ == "__main__":
    main()
