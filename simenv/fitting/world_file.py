"""The file of a fitted world: TOML that `load_world` reads, with a comment on where each number comes from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from simenv.files.atomic import write_bytes_atomically
from simenv.files.folders import check_new_file
from simenv.fitting.fit import UNTOLD, FittedWorld
from simenv.judges.click_worlds import ClickParams
from simenv.judges.cues import read_examples


def write_world(fitted: FittedWorld, path: Path) -> None:
    """Writes the world.

    Raises:
        DataFileError: the file exists, or has another ending than .toml.
        CannotWrite: it cannot be written.
    """
    check_new_file(path, ".toml")
    write_bytes_atomically(path, world_text(fitted).encode())


def world_text(fitted: FittedWorld) -> str:
    """The world as TOML."""
    params = fitted.params
    lines = [
        f'# The numbers of world "{params.world}", written by simenv fit-world. Another number is another world.',
        "#",
        f"# Fitted to {fitted.clicks} clicks on {fitted.impressions} ads shown to {fitted.users} users.",
        f'# The centres of the priors are world "{fitted.prior}".',
        f"# Each number has its 95% interval ({fitted.draws} bootstrap draws over users).",
        f'# "prior": the log cannot tell it, its interval is at least {UNTOLD:.0%} as wide as that of the prior.',
        '# "held": not fitted.',
        f"world = {_quoted(params.world)}",
        *_sections(params, _comments(fitted)),
    ]
    return "\n".join(lines) + "\n"


def _comments(fitted: FittedWorld) -> dict[str, str]:
    comments = dict.fromkeys(fitted.held, "held")
    for number in fitted.numbers:
        comments[number.name] = f"{number.low:.4g} to {number.high:.4g}" + ("" if number.told else ", prior")
    return comments


def _sections(params: ClickParams, comments: dict[str, str]) -> Iterator[str]:
    written: dict[str, Any] = params.model_dump()
    ours = read_examples()
    for section, part in written.items():
        if section in ("world", "examples", "appeals"):
            continue
        yield f"\n[{section}]"
        for name, value in part.items():
            comment = comments.get(f"{section}.{name}")
            yield f"{name} = {value!r}" + (f" # {comment}" if comment else "")
    for cue, lists in params.examples.items():
        if ours.get(cue) != lists:
            yield f"\n[examples.{_quoted(cue)}]"
            for answer, sentences in lists.model_dump().items():
                yield f"{answer} = ["
                yield from (f"    {_quoted(sentence)}," for sentence in sentences)
                yield "]"
    if params.appeals:
        yield "\n[appeals] # of each offer, in standard deviations"
        yield from (f"{_quoted(offer)} = {value!r}" for offer, value in params.appeals.items())


def _quoted(text: str) -> str:
    """A basic string of TOML: JSON's escapes are its own, but for the delete character."""
    return json.dumps(text).replace("\x7f", "\\u007f")
