"""Writers are plug-ins: "plain" asks a model as it comes, others ask one that was trained to write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simenv import registry
from simenv.llm import LLM
from simenv.registry import Kind
from simenv.writer.writer import Writer

WRITER: Kind[Writer] = Kind(
    "writer", "simenv.writers", ("answer", "with_ads", "own_choice"), "writes the answers of mechanisms"
)


def make_writer(name: str, llm: LLM, context: Mapping[str, Any] | None = None, **options: Any) -> Writer:
    """Builds a writer by name.

    Args:
        name: "plain", "tuned" or "tuned:FOLDER" (a training of LLM-Auction in the written format),
            package.module:Class or file.py:Class.
        llm: The Ad-LLM.
        context: Further parts of the run.
        options: The constructor's own options.

    Raises:
        UnknownName: another name.
        InputError, DataFileError: the model or the folder does not fit.
    """
    return registry.make(WRITER, name, {**(context or {}), "llm": llm}, **options)
