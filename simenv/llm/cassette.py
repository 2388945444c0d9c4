"""Cassettes: completions in a readable JSONL file, to replay a run without its models.

Each line is one completion: model, request (prompt, sampling, key with the sample index, constraint) and completion.
Scores and texts decoded by an ensemble are stored in the same way. There are three modes:

    record   every completion of this run is written to a new file
    replay   completions come only from the file; a missing one is an error
    cache    completions come from the file if it has them; others are requested and added. Another payment rule over
             the same texts then needs no model call
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, ConfigDict, Field, ValidationError

from simenv.errors import DataFileError, NotRecorded
from simenv.files.atomic import append_bytes, writing
from simenv.files.folders import try_file
from simenv.files.limits import read_lines
from simenv.llm.base import (
    LLM,
    AnyRequest,
    Capability,
    Combine,
    Completion,
    EnsembleCompletion,
    EnsembleRequest,
    Prompt,
    Reply,
    Request,
    ScoreRequest,
    Scores,
)
from simenv.llm.meter import active_meter
from simenv.llm.server_options import ServerOptions
from simenv.records import Record

Mode = Literal["record", "replay", "cache"]


class Entry(Record):
    """One line of a cassette."""

    model_config = ConfigDict(ser_json_inf_nan="strings")  # scores may be -inf, which JSON cannot represent

    model: str
    capabilities: tuple[Capability, ...]
    follows_formats: bool = Field(validation_alias=AliasChoices("follows_formats", "capable"))
    """The field is named "capable" in older cassettes."""
    request: AnyRequest
    completion: Completion | EnsembleCompletion | Scores


class Cassette:
    """A file of completions, shared by all models of a run.

    Args:
        path: The .jsonl file.
        mode: See the module docstring.
        collect: Whether new completions are kept in `fresh` instead, for another process to write them.

    Raises:
        DataFileError: a cassette to replay does not exist, a cassette to record exists already, or a line is invalid.
            An incomplete last line, as a killed run leaves it, is dropped.
        CannotWrite: a cassette to record or to add to cannot be written.
    """

    def __init__(self, path: str | Path, mode: Mode, *, collect: bool = False) -> None:
        self.path = Path(path)
        self.mode = mode
        self.fresh: list[Entry] = []
        self._collects = collect
        self._entries: dict[tuple[str, AnyRequest], Entry] = {}
        exists = self.path.exists()
        if mode == "record" and exists and not collect:
            raise DataFileError(f"{self.path} exists already: give a new file, nothing is overwritten")
        if mode == "replay" and not exists:
            raise DataFileError(f"{self.path}: no such cassette")
        if exists:
            self._load()
        if mode != "replay" and not collect:
            try_file(self.path)  # before the first model call

    def get(self, model: str, request: AnyRequest) -> Completion | Scores | None:
        """The recorded completion, if there is one."""
        entry = self._entries.get((model, request))
        return entry.completion if entry else None

    def add(self, entry: Entry) -> None:
        """Remembers and writes one completion.

        Raises:
            CannotWrite: the disk is full, or refuses for another reason. No part of the line is written.
        """
        self._entries[entry.model, entry.request] = entry
        if self._collects:
            self.fresh.append(entry)
        elif self.mode != "replay":
            # Opened per entry, because a cassette is never closed.
            append_bytes(self.path, f"{entry.model_dump_json()}\n".encode(), flush=False)

    def take(self) -> bytes:
        """The new completions that were kept, as lines of the file; they are then forgotten."""
        entries, self.fresh = self.fresh, []
        return "".join(f"{entry.model_dump_json()}\n" for entry in entries).encode()

    def give(self, lines: bytes) -> None:
        """Adds completions that another process took, except those that are there already.

        Raises:
            CannotWrite: as `add`.
        """
        for line in lines.splitlines():
            entry = Entry.model_validate_json(line)
            if (entry.model, entry.request) not in self._entries:
                self.add(entry)

    def entry_of(self, model: str) -> Entry:
        """Any entry of `model`, or of this model with an adapter, to read the model's capabilities.

        Raises:
            DataFileError: the cassette has no completion of that model.
        """
        for entry in self._entries.values():
            if entry.model == model or entry.model.startswith(name_with_adapter(model, "")):
                return entry
        models = sorted({entry.model for entry in self._entries.values()})
        has = f"it has {', '.join(models)}" if models else "it is empty"
        raise DataFileError(f"{self.path} has no completion of {model!r}; {has}")

    def nearest(self, model: str, request: AnyRequest) -> str:
        """Describes in one line how a missing request differs from the most similar recorded one."""
        question = _question(request)
        others = [
            e.request
            for (name, _), e in self._entries.items()
            if name == model and isinstance(e.request, type(request))
        ]
        if not others:
            return "it has no completion of this model"
        close = difflib.get_close_matches(question, {_question(o) for o in others}, n=1, cutoff=0.0)[0]
        if close != question:
            shorter = min(len(question), len(close))
            at = next((i for i, (a, b) in enumerate(zip(question, close, strict=False)) if a != b), shorter)
            at = max(0, at - 10)
            return f"the nearest prompt has {close[at : at + 60]!r} where this one has {question[at : at + 60]!r}"
        recorded, fields = min(
            ((o, _differing(o, request)) for o in others if _question(o) == question), key=lambda pair: len(pair[1])
        )
        values = "; ".join(f"{name} {getattr(recorded, name)!r}" for name in fields)
        return f"it has this question with other values: {values}"

    def _load(self) -> None:
        whole = 0
        for number, line in enumerate(read_lines(self.path), start=1):
            if not line.endswith(b"\n"):
                if self.mode == "cache" and not self._collects:
                    with writing(self.path):
                        os.truncate(self.path, whole)
                return
            whole += len(line)
            try:
                entry = Entry.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                where = ".".join(map(str, first["loc"]))
                message = f"{self.path}:{number}: not a completion: {where} {first['msg']}"
                raise DataFileError(" ".join(message.split())) from None
            self._entries[entry.model, entry.request] = entry


def name_with_adapter(model: str, digest: str) -> str:
    """The name of a model with an adapter. `digest`: of its weights, so that a cassette tells two adapters apart."""
    return f"{model} with adapter {digest}"


def _question(request: AnyRequest) -> str:
    prompts: tuple[Prompt, ...] = request.prompts if isinstance(request, EnsembleRequest) else (request.prompt,)
    return "\n".join(prompt.user for prompt in prompts)


def _differing(a: AnyRequest, b: AnyRequest) -> list[str]:
    return [name for name in type(b).model_fields if getattr(a, name) != getattr(b, name)]


class CassetteLLM(LLM):
    """A model whose completions go through a cassette.

    Args:
        cassette: The cassette that completions are read from or written to.
        inner: The model; None to replay.
        name: The name of the model to replay; the name of `inner` otherwise.
        server_options: Those of the model to replay; those of `inner` otherwise.

    Raises:
        DataFileError: the cassette has no completion of that model.
    """

    def __init__(
        self,
        cassette: Cassette,
        inner: LLM | None = None,
        *,
        name: str | None = None,
        server_options: ServerOptions | None = None,
    ) -> None:
        super().__init__()
        self.server_options = inner.server_options if inner is not None else server_options or ServerOptions()
        self._cassette = cassette
        self._inner = inner
        if inner is not None:
            self.name, self.capabilities, self.follows_formats = inner.name, inner.capabilities, inner.follows_formats
            self.runs_here, self.batch_dependent = inner.runs_here, inner.batch_dependent
            self.arithmetic = inner.arithmetic
            self.concurrency = inner.concurrency
        else:
            self.name = name or ""
            entry = cassette.entry_of(self.name)
            self.capabilities, self.follows_formats = frozenset(entry.capabilities), entry.follows_formats

    @property
    def address(self) -> str:
        return self._inner.address if self._inner is not None else self.name

    @property
    def priced(self) -> bool:
        return self._inner is None or self._inner.priced

    def derived(self, name: str, make: Callable[[LLM], LLM]) -> CassetteLLM:
        """A model derived from this one, for instance with an adapter, with the same cassette.

        Args:
            name: Name of the new model, under which the cassette stores its completions.
            make: Builds the new model from the inner model; not called to replay.
        """
        return CassetteLLM(self._cassette, None if self._inner is None else make(self._inner), name=name)

    async def preflight(self) -> None:
        if self._inner is not None:
            await self._inner.preflight()

    async def _generate(self, request: Request) -> Completion:
        return await self._through(request, Completion, lambda inner: inner._generate(request))

    async def _score(self, request: ScoreRequest) -> Scores:
        return await self._through(request, Scores, lambda inner: inner._score(request))

    async def _decode_jointly(self, request: EnsembleRequest, combine: Combine) -> EnsembleCompletion:
        return await self._through(request, EnsembleCompletion, lambda inner: inner._decode_jointly(request, combine))

    async def _pay(self, making: Awaitable[Reply]) -> Reply:
        return await making  # what the cassette has costs nothing; `_through` pays for the rest

    async def _through(self, request: AnyRequest, kind: type[Reply], make: Callable[[LLM], Awaitable[Reply]]) -> Reply:
        """The recorded reply; if there is none, the model's reply, which is then recorded."""
        recorded = self._cassette.get(self.name, request)
        if isinstance(recorded, kind):
            if (meter := active_meter()) is not None:
                meter.recall()
            return recorded
        if self._inner is None:
            key = "" if isinstance(request, ScoreRequest) else f" for key {json.dumps(request.key)}"
            raise NotRecorded(
                f"{self._cassette.path} has no completion of {self.name!r}{key}",
                hint=self._cassette.nearest(self.name, request),
            )
        reply = await super()._pay(make(self._inner))
        self.retries = self._inner.retries
        self._cassette.add(
            Entry(
                model=self.name,
                capabilities=tuple(sorted(self.capabilities)),
                follows_formats=self.follows_formats,
                request=request,
                completion=reply,
            )
        )
        return reply
