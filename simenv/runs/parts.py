"""The parts of a sharded run: whether they are all of one run, finished and complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simenv.errors import DataFileError, InputError, PartsMissing
from simenv.runs.log import CHUNKS, LOG, SESSIONS
from simenv.runs.machine import bits_of
from simenv.runs.manifest import read_manifest
from simenv.runs.options import OLDEST
from simenv.runs.resume import MAY_CHANGE
from simenv.runs.shards import Shard, shard_of_options, span_of_options

OWN_FILES = ("record", "cache")
"""Options that name a file that every part writes for itself."""
_OF_ONE_PART = frozenset(
    {"started", "finished", "command", "resumed", "retries", "judge_disagreement", "platform", "parts"}
)
"""Keys of a manifest in which the parts of a run may differ."""


class Part(NamedTuple):
    """One part of a run."""

    folder: Path
    manifest: dict[str, Any]
    shard: Shard


def parts_of_run(folders: Sequence[Path], *, across_machines: bool = False) -> list[Part]:
    """Returns the parts of one run by shard: every shard is there once, and finished. A shard that ran twice and gave
    the same bytes is taken once.

    Args:
        folders: The parts' folders, in any order.
        across_machines: Whether they may be of machines that give other bytes.

    Raises:
        DataFileError: a folder holds no run, or its manifest cannot be read.
        PartsMissing: a shard has no part, or a part is not finished.
        InputError: parts of different runs, a run that is no part, or a shard that ran twice with different results.
    """
    if not folders:
        raise InputError("no parts to merge: give the folders of all shards")
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{folder} is given twice")
    parts = [_part(folder) for folder in folders]
    _check_same_run(parts)
    if not across_machines:
        _check_machines(parts)
    unfinished = [str(part.folder) for part in parts if not part.manifest.get("finished")]
    if unfinished:
        raise PartsMissing(f"not finished: {', '.join(unfinished)}", unfinished=unfinished)
    by_shard: dict[Shard, Part] = {}
    for part in parts:
        first = by_shard.setdefault(part.shard, part)
        if first is not part:
            _check_same_results(first, part)
    count = parts[0].shard.count
    missing = [str(shard) for i in range(count) if (shard := Shard(i, count)) not in by_shard]
    if missing:
        raise PartsMissing(
            f"no part of shard {', '.join(missing)}: run it with the options of {parts[0].folder}", missing=missing
        )
    return [by_shard[Shard(i, count)] for i in range(count)]


def _part(folder: Path) -> Part:
    manifest = read_manifest(folder)
    shard = shard_of_options(manifest["options"])
    if shard is None:
        raise InputError(f"{folder} is a whole run, no part of one: it names no shard")
    if span_of_options(manifest["options"]) is None:
        raise DataFileError(f"{folder}: its manifest does not say how many auctions the run has")
    return Part(folder, manifest, shard)


def _check_same_run(parts: Sequence[Part]) -> None:
    first, *others = parts
    facts = _facts(first.manifest)
    for part in others:
        _refuse_differing("not parts of one run", first, part, facts, _facts(part.manifest))
        if part.shard.count != first.shard.count:
            raise InputError(f"{first.folder} is shard {first.shard}, {part.folder} is shard {part.shard}")


def _check_machines(parts: Sequence[Part]) -> None:
    """Refuses parts of machines that may give other bytes; a part that was resumed may be of several."""
    each = [(part, machine) for part in parts for machine in _machines(part.manifest)]
    first, machine = each[0]
    for part, other in each[1:]:
        _refuse_differing(
            "parts of machines that may give other bytes",
            first,
            part,
            bits_of(machine),
            bits_of(other),
            hint="with across_machines they are merged anyway",
        )


def _machines(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    resumed = [entry["machine"] for entry in manifest.get("resumed") or [] if "machine" in entry]
    return [manifest.get("machine") or {}, *resumed]


def _refuse_differing(
    what: str, one: Part, other: Part, facts: Mapping[str, Any], others: Mapping[str, Any], hint: str | None = None
) -> None:
    differing = [name for name in dict.fromkeys((*facts, *others)) if facts.get(name) != others.get(name)]
    if differing:
        told = "; ".join(f"{name} is {facts.get(name)!r} and {others.get(name)!r}" for name in differing)
        raise InputError(f"{what}: in {one.folder} and {other.folder} {told}", hint=hint)


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the parts of a run have in common, one level deep."""
    options = {**OLDEST, **manifest["options"]}
    own = {"shard", *OWN_FILES, *MAY_CHANGE}
    shared = {**manifest, "options": {name: value for name, value in options.items() if name not in own}}
    facts: dict[str, Any] = {}
    for key, value in shared.items():
        if key in _OF_ONE_PART or key == "machine":
            continue
        inner = value if isinstance(value, dict) else None
        facts |= {key: value} if inner is None else {f"{key}.{name}": it for name, it in inner.items()}
    return facts


def _check_same_results(one: Part, other: Part) -> None:
    """Refuses two parts of one shard whose transitions or sessions are not the same."""
    for name in (CHUNKS, SESSIONS):
        if _content(one.folder / name) != _content(other.folder / name):
            raise InputError(
                f"{one.folder} and {other.folder} are both shard {one.shard}, and their {LOG} or {SESSIONS} differ",
                hint="leave one of them out",
            )


def _content(file: Path) -> bytes | None:
    return file.read_bytes() if file.is_file() else None
