"""Prompts: text files in the folder `prompts` of the package that uses them."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def read_prompt(package: str, name: str) -> str:
    """The text of `prompts/NAME.txt` in `package`, without white space around it."""
    return (files(package) / "prompts" / f"{name}.txt").read_text(encoding="utf-8").strip()
