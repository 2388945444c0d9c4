"""Answers in Markdown: one answer a file, or one a section, and the links in a text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simenv.errors import DataFileError
from simenv.files.limits import read_bytes
from simenv.files.tables import Row, decoded

_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]")
_LINK = re.compile(r"(?<!!)\[([^\[\]\n]{1,300})\]\([ \t]*<?([^()<>\s]{1,2000})>?(?:[ \t]+\"[^\"\n]{0,300}\")?[ \t]*\)")


class Link(NamedTuple):
    """A link in a text."""

    start: int
    end: int
    text: str
    target: str


def links(text: str) -> Iterator[Link]:
    """The inline links `[text](target)`; no images, and no links whose target stands elsewhere."""
    for match in _LINK.finditer(text):
        yield Link(*match.span(), match[1].strip(), match[2])


def is_markdown(path: Path) -> bool:
    """Whether a file is read as Markdown."""
    return path.suffix.lower() in (".md", ".markdown")


def read_markdown(path: Path, query: str, response: str) -> tuple[list[Row], bool]:
    """Reads the answers of a Markdown file.

    With headings of level 2, each of them is a query, and what follows until the next one is its answer; what stands
    before the first is not read. Without, the file is one answer to its first heading. Headings in fenced code do not
    count.

    Args:
        path: The file, UTF-8 or UTF-16.
        query, response: Names of the columns.

    Returns:
        The rows, and whether there are sections.

    Raises:
        DataFileError: it cannot be read, or has no heading.
    """
    lines = decoded(path, read_bytes(path)).split("\n")
    headings = list(_headings(lines))
    sections = [heading for heading in headings if heading[1] == 2]
    begins = sections or headings[:1]
    if not begins:
        raise DataFileError(
            f"{path}: no heading: expected `## QUERY` before each answer, or one heading with the query of the answer"
        )
    ends = [number for number, _, _ in begins[1:]] + [len(lines)]
    rows = []
    for (number, _, text), end in zip(begins, ends, strict=True):
        answer = "\n".join(lines[number + 1 : end]).strip()
        rows.append(Row(f"{path}:{number + 1}", {query: text, response: answer}))
    return rows, bool(sections)


def _headings(lines: list[str]) -> Iterator[tuple[int, int, str]]:
    """Number of the line, level and text of each heading."""
    fence = ""
    for number, line in enumerate(lines):
        if match := _FENCE.match(line):
            if not fence:
                fence = match[1]
            elif match[1].startswith(fence) and not line.strip(" `~"):
                fence = ""
        elif not fence and (heading := _HEADING.match(line)):
            yield number, len(heading[1]), line[heading.end() :].strip().rstrip("#").strip()
