"""Sources of a session's queries: frozen packs, a file, or the User-LLM."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from simenv.errors import DataFileError, InputError, UnreadableReply
from simenv.files.columns import known_rows
from simenv.files.packs import pack_path
from simenv.files.prompts import read_prompt
from simenv.files.rows import as_text, check_columns
from simenv.llm.base import LLM, Prompt, Sampling
from simenv.records import Persona
from simenv.seeding import keyed_rng


class Question(NamedTuple):
    """A query that is not yet part of an auction."""

    text: str
    topic: str = ""


class QuerySource(Protocol):
    """Supplies the queries of a persona's session."""

    name: str

    async def session(self, persona: Persona, k: int, seed: int, number: int) -> list[Question]:
        """Returns the k queries of session `number` of the run with this seed, in order."""
        ...


class FrozenQueries:
    """The queries that the persona pack contains for each persona."""

    name = "frozen"

    async def session(self, persona: Persona, k: int, seed: int, number: int) -> list[Question]:
        if len(persona.queries) < k:
            raise InputError(
                f"persona {persona.id!r} has {len(persona.queries)} frozen queries, the session needs {k}",
                hint="use a shorter horizon, a file of queries, or a model that writes queries",
            )
        return [Question(text) for text in persona.queries[:k]]


class FileQueries:
    """Queries of a file, shuffled once per seed and assigned to sessions in turn; after the last one they repeat.

    The personas come from the persona pack: a query file contains queries only.
    """

    def __init__(self, path: str | Path, columns: Mapping[str, str] | None = None) -> None:
        self.name = f"file:{Path(path).name}"
        self.questions = load_queries(path, columns)
        self.hash = hashlib.sha256(repr(self.questions).encode()).hexdigest()

    async def session(self, persona: Persona, k: int, seed: int, number: int) -> list[Question]:
        order = keyed_rng("queries", seed).permutation(len(self.questions))
        return [self.questions[order[(number * k + turn) % len(order)]] for turn in range(k)]


def load_queries(path: str | Path, columns: Mapping[str, str] | None = None) -> list[Question]:
    """Reads queries: .txt with one per line, or .csv, .tsv, .jsonl or .parquet with columns text (required) and topic.

    Args:
        path: A pack of `personas/queries/` ("no_commercial_intent"), or a file.
        columns: Column name of this project -> column name of the file.

    Raises:
        DataFileError: unreadable or empty file, or a missing column.
        UnknownName: unknown embedded pack.

    Warns:
        DataFileWarning: columns that are not read.
    """
    check_columns(columns, Question._fields)
    questions = []
    file, ours = pack_path("personas/queries", path), Question._fields
    for row in known_rows(file, ours, ["text"], columns, option="query_columns", text_column="text"):
        text = row.fields["text"]
        if not isinstance(text, str):
            raise DataFileError(f"{row.where}: text: expected a string, got {text!r}")
        questions.append(Question(text, str(as_text(row.fields.get("topic")) or "")))
    return questions


class LLMQueries:
    """The User-LLM writes a session's queries from the persona (LLM-Auction, section 5.1, step 1).

    Args:
        llm: The User-LLM.
        attempts: Maximum number of calls per session. Each call requests the queries that are still missing.
    """

    # The paper uses temperature 0.3 for the User-LLM's clicks. Distinct questions need a higher one.
    _SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=None, max_tokens=400)
    _LINE = re.compile(
        r"^\s*(?:\d+\s*[.):](?!\d)|[-*•](?!\d)|Q(?:uestion)?\s*\d*\s*[.:])?\s*[\"“']?(?P<text>[^\n]*?)[\"”']?\s*$"
    )

    def __init__(self, llm: LLM, attempts: int = 12) -> None:
        self.name = f"llm:{llm.name}"
        self._llm = llm
        self._attempts = attempts
        self._prompt = read_prompt("simenv.users", "write_queries")

    async def session(self, persona: Persona, k: int, seed: int, number: int) -> list[Question]:
        texts: list[str] = []
        for attempt in range(self._attempts):
            user = self._prompt.format(
                k=k - len(texts),
                info=persona.info,
                interests=", ".join(persona.interests) or "not stated",
                avoid="".join(f"\nDo not repeat: {text}" for text in texts),
            )
            key = ("queries", seed, number, persona.id, attempt)
            reply = await self._llm.complete(Prompt(user=user), key=key, sampling=self._SAMPLING)
            texts.extend(text for text in self.read(reply.text) if text not in texts)
            if len(texts) >= k:
                return [Question(text) for text in texts[:k]]
        raise UnreadableReply(
            f"{self._llm.name} wrote {len(texts)} of {k} queries for {persona.id!r} in {self._attempts} attempts"
        )

    @classmethod
    def read(cls, reply: str) -> list[str]:
        """Returns the distinct questions of a reply, one per line: 3 to 60 words, ending in "?"."""
        lines = [cls._LINE.match(line) for line in reply.splitlines()]
        texts = [" ".join(match["text"].split()) for match in lines if match]
        return list(dict.fromkeys(t for t in texts if t.endswith("?") and 3 <= len(t.split()) <= 60))


def deal_personas(personas: Sequence[Persona], seed: int, number: int) -> Persona:
    """Returns the persona of session `number`: each cycle has every persona once, in an order drawn by seed."""
    cycle, place = divmod(number, len(personas))
    return personas[int(keyed_rng("personas", seed, cycle).permutation(len(personas))[place])]
