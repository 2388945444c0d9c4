"""Writing a pack: the model is asked, what is fit and new is appended, and the manifest says how it came about.

FILE.jsonl                  the records, one a line, each with the cell that it was written for
FILE.jsonl.manifest.json    model, prompts, seed, what was refused and why, versions, SHA-256 of the records

Every record is on the disk before the next reply is looked at. A second start with the same options goes on; with a
larger n the pack grows.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simenv.encoder import Encoder, default_encoder
from simenv.errors import InputError, UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.judges.llm_judge import unfenced
from simenv.llm.base import LLM, Capability, Prompt, Sampling, metered
from simenv.packmaker.cells import Cell, balanced_cells
from simenv.packmaker.duplicates import Known
from simenv.packmaker.kinds import Kind, Refused
from simenv.packmaker.pack_file import PackFile
from simenv.records import Usage
from simenv.seeding import keyed_rng

_SAMPLING = Sampling(temperature=0.9, top_p=0.95, top_k=None, max_tokens=4000)
_AT_ONCE = 4
"""Calls in flight: few, so that each is told of what the others before it wrote."""
_RECENT = 12
"""Records written last that a call is told of."""
_EXAMPLES = 2


class Written(NamedTuple):
    """What a start came to."""

    records: int
    """In the file."""
    rejected: dict[str, int]
    """Reason -> records, of all starts."""
    calls: int
    usage: Usage


async def make_pack(
    kind: Kind[Any],
    llm: LLM,
    out: Path,
    *,
    n: int,
    seed: int = 0,
    like: str | None = None,
    tries: int = 5,
    encoder: Encoder | None = None,
    on_record: Callable[[int], None] = lambda count: None,
) -> Written:
    """Writes `n` records to `out`, or as many as it lacks.

    Args:
        kind: What is written.
        llm: A capable model.
        out: A .jsonl file: a new one, or one that was begun with the same options.
        n: How many records the file is to hold.
        seed: Names the cells' order and the samples.
        like: A pack or file that shows how records read and that nothing may be near to; the embedded one by default.
        tries: How often each record is asked for, at most.
        encoder: For near-duplicates; the embedded one by default.
        on_record: Called with the number of records, before the first call and after each record.

    Raises:
        InputError: a model that is not capable, a number out of range, or `out` was begun with other options.
        DataFileError: `out` cannot be written, or holds something else.
        UnreadableReply: some records were refused in every try; the others are in `out`.
        LLMError: the model gave no completion; what was written until then is in `out`.
    """
    if not llm.follows_formats:
        raise too_small(llm.name)
    for name, number in (("n", n), ("tries", tries)):
        if number < 1:
            raise InputError(f"--{name} must be at least 1, got {number}")
    like = like or kind.like
    examples = kind.load(like)
    system, user = read_prompt("simenv.packmaker", kind.prompt), read_prompt("simenv.packmaker", "pack_user")
    what = {
        "kind": kind.name,
        "model": llm.name,
        "seed": seed,
        "like": {"name": like, "sha256": kind.sha256(like)},
        "categories": list(kind.categories),
        "prompt": {"name": kind.prompt, "system": system, "user": user},
        "sampling": _SAMPLING.model_dump(mode="json"),
    }
    file = PackFile(out, what, kind.sha256)
    await llm.preflight()
    known = Known(encoder or default_encoder(), map(kind.texts, examples), kind.by_cosine)
    writer = _Writer(kind, llm, file, known, examples, Prompt(system=system, user=user), seed)
    try:
        missing = await writer.run(balanced_cells(kind.factors, n, seed), tries, on_record)
    finally:
        file.close()
    written = Written(len(file.rows), dict(file.rejected), file.calls, file.usage)
    if missing:
        raise UnreadableReply(
            f"{llm.name} wrote {written.records} of {n} {kind.name}; the others were refused in {tries} tries each "
            f"({said(written.rejected)})",
            hint=f"what there is, is in {out}: the same command tries again",
        )
    return written


def too_small(name: str) -> InputError:
    """The error for a model that is not capable."""
    return InputError(f"{name} is not capable of writing a pack", hint="give local:FOLDER or PROVIDER/MODEL")


def said(rejected: dict[str, int]) -> str:
    """ "near-duplicate 4, length 1"."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(rejected.items(), key=lambda item: -item[1]))


class _Writer:
    """One start.

    Args:
        prompt: System prompt, and the user's as a format.
    """

    def __init__(
        self, kind: Kind[Any], llm: LLM, file: PackFile, known: Known, like: Sequence[Any], prompt: Prompt, seed: int
    ) -> None:
        self._kind = kind
        self._llm = llm
        self._file = file
        self._known = known
        self._like = like
        self._prompt = prompt
        self._seed = seed
        self._recent: list[str] = []
        for record in kind.load(file.path) if file.rows else ():
            self._note(record)

    async def run(self, cells: Sequence[Cell], tries: int, on_record: Callable[[int], None]) -> int:
        """Asks for all cells that the file lacks; returns how many were given up."""
        done = Counter(row["cell"] for row in self._file.rows)
        missing: list[Cell] = []
        for cell in cells:
            text = _text(cell)
            if done[text]:
                done[text] -= 1
            else:
                missing.append(cell)
        on_record(len(self._file.rows))
        tried = [0] * len(missing)
        wanted = list(range(len(missing)))
        while wanted:
            size = self._kind.batch
            batches = [wanted[i : i + size] for i in range(0, min(len(wanted), size * _AT_ONCE), size)]
            asked = [{number: missing[i] for number, i in enumerate(batch, start=1)} for batch in batches]
            calls = [self._file.next_call() for _ in asked]
            self._file.save()  # whoever is killed now has asked, and goes on with other numbers
            tasks = [asyncio.ensure_future(self._ask(*of)) for of in zip(asked, calls, strict=True)]
            try:
                for batch, batch_cells, task in zip(batches, asked, tasks, strict=True):
                    reply, usage = await task
                    self._file.count(usage)
                    filled = self._take(reply, batch_cells, on_record)
                    for number, i in enumerate(batch, start=1):
                        tried[i] += 1
                        if number in filled or tried[i] >= tries:
                            wanted.remove(i)
                    self._file.save()
            finally:
                for task in tasks:
                    task.cancel()
        return len(cells) - sum((Counter(map(_text, cells)) & Counter(r["cell"] for r in self._file.rows)).values())

    async def _ask(self, cells: dict[int, Cell], call: int) -> tuple[str, Usage]:
        rng = keyed_rng("pack-examples", self._seed, call)
        shown = [self._like[int(i)] for i in rng.permutation(len(self._like))[:_EXAMPLES]]
        recent = self._recent[-_RECENT:]
        user = self._prompt.user.format(
            k=len(cells),
            cells="\n".join(f"{number}. {_text(cell)}" for number, cell in cells.items()),
            categories=f"Categories: {'; '.join(self._kind.categories)}" if self._kind.name == "personas" else "",
            examples="\n".join(json.dumps(self._kind.texts(record), ensure_ascii=False) for record in shown),
            avoid="Written just now, and not to be repeated:\n" + "\n".join(recent) if recent else "",
        )
        schema = self._kind.schema() if self._llm.can(Capability.JSON_SCHEMA) else None
        with metered() as meter:
            reply = await self._llm.complete(
                Prompt(system=self._prompt.system, user=user),
                key=("make-pack", self._kind.name, self._seed, call),
                sampling=_SAMPLING,
                constraint=schema,
            )
        return reply.text, meter.usage

    def _take(self, reply: str, cells: dict[int, Cell], on_record: Callable[[int], None]) -> set[int]:
        """Appends what is fit and new; returns the numbers of the cells that it is for."""
        filled: set[int] = set()
        rows = _rows(reply)
        if not rows:
            self._file.reject("unreadable")
        for row in rows:
            try:
                number, record = self._kind.read(row, cells, self._file.next_name())
                if number in filled:
                    raise Refused("surplus")
                reason = self._known.reason(self._kind.texts(record))
                if reason is not None:
                    raise Refused(reason)
            except Refused as refused:
                self._file.reject(str(refused))
                continue
            self._file.append({**self._kind.row(record), "cell": _text(cells[number])})
            self._note(record)
            filled.add(number)
            on_record(len(self._file.rows))
        return filled

    def _note(self, record: Any) -> None:
        texts = self._kind.texts(record)
        self._known.add(texts)
        self._recent.append(next(text for values in texts.values() for text in values))


def _rows(reply: str) -> list[Any]:
    """The records of a reply, {"records": [...]} or the bare array; none if it is neither."""
    try:
        parsed = json.loads(unfenced(reply))
    except (ValueError, RecursionError):
        return []
    rows = parsed.get("records") if isinstance(parsed, dict) else parsed
    return rows if isinstance(rows, list) else []


def _text(cell: Cell) -> str:
    return ", ".join(f"{factor}: {level}" for factor, level in cell.items())
