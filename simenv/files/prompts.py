"""Prompts, which are text files in the folder `prompts` of the package that uses them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def read_prompt(package: str, name: str) -> str:
    """Returns the text of `prompts/NAME.txt` in `package`, without surrounding white space."""
    return (files(package) / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()
