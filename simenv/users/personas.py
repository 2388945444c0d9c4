"""Loads personas from the embedded pack or from a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simenv.errors import DataFileError
from simenv.files.characters import hidden_in_name
from simenv.files.columns import known_rows
from simenv.files.packs import pack_path
from simenv.files.rows import as_text, check_columns, to_record
from simenv.files.tables import Row
from simenv.records import Persona


def load_personas(name: str | Path = "everyday", columns: Mapping[str, str] | None = None) -> tuple[Persona, ...]:
    """Loads personas.

    Args:
        name: A pack of `personas/` ("everyday"), or a .csv, .tsv, .jsonl or .parquet file. Columns: id,
            info (required), interests, age, region, income, attitude, traits, queries. In .csv, interests and queries
            are separated by "|" and traits is a JSON object.
        columns: Column name of this project -> column name of the file.

    Raises:
        DataFileError: unreadable file, missing column, duplicate id, an id with a character that nobody sees, or a
            field out of range.

    Warns:
        DataFileWarning: columns that are not read.
    """
    check_columns(columns, Persona.model_fields)
    seen: dict[str, str] = {}
    personas = []
    path, ours = pack_path("personas", name), list(Persona.model_fields)
    for row in known_rows(path, ours, ["id", "info"], columns, option="persona_columns"):
        known = {field: row.fields[field] for field in Persona.model_fields if row.fields.get(field) not in (None, "")}
        persona = to_record(row, Persona, {field: _from_text(row, field, value) for field, value in known.items()})
        for category, taste in persona.traits.affinity.items():
            if not -1 <= taste <= 1:
                raise DataFileError(f"{row.where}: traits.affinity: {category!r} must be in [-1, 1], got {taste}")
        if not all(query.strip() for query in persona.queries):
            raise DataFileError(f"{row.where}: queries: one of the {len(persona.queries)} is empty")
        if character := hidden_in_name(persona.id):
            raise DataFileError(
                f"{row.where}: id {persona.id!a:.80} contains {character}, which nobody sees: remove it"
            )
        if persona.id in seen:
            raise DataFileError(f"{row.where}: duplicate persona id {persona.id!r}, first used at {seen[persona.id]}")
        seen[persona.id] = row.where
        personas.append(persona)
    return tuple(personas)


def _from_text(row: Row, field: str, value: Any) -> Any:
    if not isinstance(value, str):
        return as_text(value) if Persona.model_fields[field].annotation is str else value
    if field in ("interests", "queries"):
        return tuple(part.strip() for part in value.split("|") if part.strip())
    if field == "traits":
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{row.where}: traits: expected a JSON object: {error}") from None
    return value
