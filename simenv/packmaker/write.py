"""Writes a pack: requests records from a model, and appends the suitable and new ones.

FILE.jsonl                  the records, one per line, each with the cell that it was written for
FILE.jsonl.manifest.json    model, prompts, seed, counts of rejected records by reason, versions, SHA-256 of the records

Every record is on disk before the next reply is processed. Another call with the same options resumes the pack; with a
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
from simenv.packmaker.duplicates import KnownTexts
from simenv.packmaker.kinds import Kind, RejectedRecord
from simenv.packmaker.pack_file import PackFile
from simenv.records import Usage
from simenv.seeding import keyed_rng

_SAMPLING = Sampling(temperature=0.9, top_p=0.95, top_k=None, max_tokens=4000)
_CONCURRENT_CALLS = 4
"""Calls in flight. The number is small, so that each prompt can list the records of earlier calls."""
_RECENT = 12
"""Number of recent records that a prompt lists as texts to avoid."""
_EXAMPLES = 2


class PackResult(NamedTuple):
    """Result of `make_pack`."""

    records: int
    """Number of records in the file."""
    rejected: dict[str, int]
    """Reason -> number of rejected records, over all calls of `make_pack` for this file."""
    calls: int
    """Model calls, over all calls of `make_pack` for this file."""
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
) -> PackResult:
    """Writes records to `out` until it contains `n`.

    Args:
        kind: Kind of the records.
        llm: A model that follows formats.
        out: A .jsonl file: a new one, or one that was started with the same options.
        n: Number of records in the finished file.
        seed: Key of the order of the cells and of the samples.
        like: A pack or file with examples of records; no new record may be a near-duplicate of one of them. The
            embedded pack by default.
        tries: Maximum number of requests per record.
        encoder: Detects near-duplicates; the embedded one by default.
        on_record: Called with the number of records, before the first call and after each record.

    Raises:
        InputError: the model does not follow formats, a number is out of range, or `out` was started with other
            options.
        DataFileError: `out` is not a pack.
        CannotWrite: it cannot be written; the records accepted until then are in it.
        UnreadableReply: some records were rejected in every try; the others are in `out`.
        LLMError: the model gave no completion; the records accepted until then are in `out`.
    """
    if not llm.follows_formats:
        raise incapable_model(llm.name)
    for name, number in (("n", n), ("tries", tries)):
        if number < 1:
            raise InputError(f"{name} must be at least 1, got {number}")
    like = like or kind.like
    examples = kind.load(like)
    system, user = read_prompt("simenv.packmaker", kind.prompt), read_prompt("simenv.packmaker", "pack_user")
    identity = {
        "kind": kind.name,
        "model": llm.name,
        "seed": seed,
        "like": {"name": like, "sha256": kind.sha256(like)},
        "categories": list(kind.categories),
        "prompt": {"name": kind.prompt, "system": system, "user": user},
        "sampling": _SAMPLING.model_dump(mode="json"),
    }
    file = PackFile(out, identity, kind.sha256)
    await llm.preflight()
    known = KnownTexts(encoder or default_encoder(), map(kind.texts, examples), kind.by_cosine)
    writer = _Writer(kind, llm, file, known, examples, Prompt(system=system, user=user), seed)
    try:
        missing = await writer.run(balanced_cells(kind.factors, n, seed), tries, on_record)
    finally:
        file.close()
    result = PackResult(len(file.rows), dict(file.rejected), file.calls, file.usage)
    if missing:
        raise UnreadableReply(
            f"{llm.name} wrote {result.records} of {n} {kind.name}; the others were rejected in {tries} tries each "
            f"({rejection_counts(result.rejected)})",
            hint=f"{out} contains the accepted records: make the same call again to try for the others",
        )
    return result


def incapable_model(name: str) -> InputError:
    """Returns the error for a model that does not follow formats."""
    return InputError(f"{name} is not capable of writing a pack", hint="give local:FOLDER or PROVIDER/MODEL")


def rejection_counts(rejected: dict[str, int]) -> str:
    """Formats counts of rejected records, such as "near-duplicate 4, length 1"."""
    return ", ".join(f"{reason} {count}" for reason, count in sorted(rejected.items(), key=lambda item: -item[1]))


class _Writer:
    """Runs one call of `make_pack`.

    Args:
        prompt: System prompt, and user prompt with format fields.
    """

    def __init__(
        self,
        kind: Kind[Any],
        llm: LLM,
        file: PackFile,
        known: KnownTexts,
        like: Sequence[Any],
        prompt: Prompt,
        seed: int,
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
            self._add_known(record)

    async def run(self, cells: Sequence[Cell], tries: int, on_record: Callable[[int], None]) -> int:
        """Requests records for all cells that the file lacks; returns the number of cells without a record."""
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
        open_cells = list(range(len(missing)))
        while open_cells:
            size = self._kind.batch
            batches = [open_cells[i : i + size] for i in range(0, min(len(open_cells), size * _CONCURRENT_CALLS), size)]
            requests = [{number: missing[i] for number, i in enumerate(batch, start=1)} for batch in batches]
            calls = [self._file.next_call() for _ in requests]
            self._file.save()  # before the calls: after a kill, a resumed pack uses new call numbers
            tasks = [
                asyncio.ensure_future(self._request(cells, call)) for cells, call in zip(requests, calls, strict=True)
            ]
            try:
                for batch, batch_cells, task in zip(batches, requests, tasks, strict=True):
                    reply, usage = await task
                    self._file.count(usage)
                    filled = self._accept(reply, batch_cells, on_record)
                    for number, i in enumerate(batch, start=1):
                        tried[i] += 1
                        if number in filled or tried[i] >= tries:
                            open_cells.remove(i)
                    self._file.save()
            finally:
                for task in tasks:
                    task.cancel()
        return len(cells) - sum((Counter(map(_text, cells)) & Counter(r["cell"] for r in self._file.rows)).values())

    async def _request(self, cells: dict[int, Cell], call: int) -> tuple[str, Usage]:
        rng = keyed_rng("pack-examples", self._seed, call)
        shown = [self._like[int(i)] for i in rng.permutation(len(self._like))[:_EXAMPLES]]
        recent = self._recent[-_RECENT:]
        user = self._prompt.user.format(
            k=len(cells),
            cells="\n".join(f"{number}. {_text(cell)}" for number, cell in cells.items()),
            categories=f"Categories: {'; '.join(self._kind.categories)}\n\n" if self._kind.name == "personas" else "",
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

    def _accept(self, reply: str, cells: dict[int, Cell], on_record: Callable[[int], None]) -> set[int]:
        """Appends the suitable and new records of a reply; returns the numbers of their cells."""
        filled: set[int] = set()
        rows = _rows(reply)
        if not rows:
            self._file.reject("unreadable")
        for row in rows:
            try:
                number, record = self._kind.read(row, cells, self._file.next_name())
                if number in filled:
                    raise RejectedRecord("surplus")
                reason = self._known.reason(self._kind.texts(record))
                if reason is not None:
                    raise RejectedRecord(reason)
            except RejectedRecord as error:
                self._file.reject(str(error))
                continue
            self._file.append({**self._kind.row(record), "cell": _text(cells[number])})
            self._add_known(record)
            filled.add(number)
            on_record(len(self._file.rows))
        return filled

    def _add_known(self, record: Any) -> None:
        texts = self._kind.texts(record)
        self._known.add(texts)
        self._recent.append(next(text for values in texts.values() for text in values))


def _rows(reply: str) -> list[Any]:
    """Returns the records of a reply, {"records": [...]} or the bare array; [] if it is neither."""
    try:
        parsed = json.loads(unfenced(reply))
    except (ValueError, RecursionError):
        return []
    rows = parsed.get("records") if isinstance(parsed, dict) else parsed
    return rows if isinstance(rows, list) else []


def _text(cell: Cell) -> str:
    return ", ".join(f"{factor}: {level}" for factor, level in cell.items())
