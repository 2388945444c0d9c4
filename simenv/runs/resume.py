"""What a resumed run may have otherwise than before, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from simenv.errors import InputError
from simenv.runs.code import differing_code
from simenv.runs.manifest import manifest_to_resume, read_manifest
from simenv.runs.named_files import differing_files
from simenv.runs.options import OLDEST, BenchOptions, options_of_manifest
from simenv.secrets import is_masked, masked_fields

MAY_CHANGE = frozenset(
    {
        *("concurrency", "timeout", "answer_timeout", "api_base", "judge_api_base"),
        *("fail_on_error", "fail_on_bug", "fail_on_useless"),
        *("max_cost", "max_calls", "max_hours"),
        *("engine", "ray_address", "workers"),
    }
)
"""Options that a resumed run may have otherwise: they say how to reach a model, when to stop and where to run, not what
is run."""


def resumed_options(options: BenchOptions, given: Collection[str], folder: Path) -> BenchOptions:
    """The options of the run in `folder`, with those of `options` that were given now.

    Args:
        options: Options as the caller gave them.
        given: Names of those that were given.
        folder: The run that was cut off.

    Raises:
        SimenvError: no run in `folder`, or its manifest holds no options that can be run.
    """
    before = read_manifest(folder)["options"]
    if "mechanisms" not in before:
        raise InputError(f"{folder}: its manifest has no options that can be run: it names no mechanisms")
    kept = options_of_manifest(before, str(folder))
    return kept.model_copy(update={name: getattr(options, name) for name in given})


def check_options(options: BenchOptions, folder: Path) -> dict[str, Any]:
    """Returns the manifest of a run that can go on with these options. `n` may be larger: the run is then extended.

    Raises:
        SimenvError: no run in `folder`, or one of other options, fewer auctions, or another version of simenv.
    """
    before = manifest_to_resume(folder)
    asked = options.model_dump()
    if missing := [name for name, value in asked.items() if is_masked(name, value)]:
        raise InputError(f"{folder}: its manifest does not hold the secret in {', '.join(missing)}: give it again")
    named = {name: value for name, value in masked_fields(asked).items() if name not in MAY_CHANGE}
    n = before["options"].get("n")
    if isinstance(n, int) and options.n < n:
        raise InputError(f"cannot resume with fewer auctions: n was {n}, now {options.n}")
    del named["n"]
    refuse_other("with other options", named, {**OLDEST, **before["options"]})
    return before


def check_inputs(folder: Path, before: Mapping[str, Any], hashes: Mapping[str, str], files: Mapping[str, str]) -> None:
    """Refuses data or files of another content. A manifest of before files were hashed says nothing of them.

    Raises:
        InputError: what differs, in one line.
    """
    differing = differing_files(hashes, before.get("data_sha256") or {})
    if "files_sha256" in before:
        differing += differing_files(files, before["files_sha256"])
    if differing:
        raise InputError(f"cannot resume {folder} on other data: {'; '.join(differing)}")


def check_code(before: Mapping[str, Any], code: Mapping[str, Any], *, allowed: bool) -> list[str]:
    """Returns how the code differs from that of the run. A manifest of before code was hashed says nothing of it.

    Raises:
        InputError: it differs, and that is not `allowed`.
    """
    differing = differing_code(code, before["code"]) if before.get("code") else []
    if differing and not allowed:
        raise InputError(
            f"cannot resume with other code: {'; '.join(differing)}",
            hint="with allow_changed_code the run goes on, and its manifest says so",
        )
    return differing


def refuse_other(what: str, now: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    """Raises InputError if a value of `now` is another one in `before`, both as a manifest has them."""
    if differing := differing_values(now, before):
        raise InputError(f"cannot resume {what}: {'; '.join(differing)}")


def differing_values(now: Mapping[str, Any], before: Mapping[str, Any]) -> list[str]:
    """Returns which values of `now` are other ones in `before`, one text each, both as a manifest has them."""
    now, before = json.loads(json.dumps([now, before]))
    other = [name for name in now if now[name] != before.get(name)]
    return [f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in other]
