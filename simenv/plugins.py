"""All kinds of plug-ins: what `simenv list` lists and docs/extending.md describes."""

from __future__ import annotations

from typing import Any

from simenv import registry
from simenv.ctr.models import CTR_MODEL
from simenv.errors import UnknownName
from simenv.judges.base import JUDGE
from simenv.llm import LANGUAGE_MODEL
from simenv.market.bidders import BIDDER
from simenv.market.values import VALUES
from simenv.mechanism import MECHANISM
from simenv.objective import PENALTY
from simenv.quality.factory import QUALITY
from simenv.registry import Kind
from simenv.runs.metrics import METRIC
from simenv.training import TRAINER
from simenv.writer.factory import WRITER

KINDS: tuple[Kind[Any], ...] = (
    MECHANISM,
    JUDGE,
    LANGUAGE_MODEL,
    BIDDER,
    VALUES,
    CTR_MODEL,
    QUALITY,
    METRIC,
    PENALTY,
    TRAINER,
    WRITER,
)


def kind_named(name: str) -> Kind[Any]:
    """The kind of this name, in the singular or the plural.

    Raises:
        UnknownName: no such kind.
    """
    for kind in KINDS:
        if name.replace("-", "_") in (kind.name, f"{kind.name}s", kind.group.removeprefix("simenv.")):
            return kind
    raise UnknownName("kind of plug-in", name, [kind.name for kind in KINDS])


def plugins(kind: str | None = None) -> dict[str, list[tuple[str, str]]]:
    """Kind -> (name, one line) of every registered plug-in, of one kind or of all. Nothing is imported.

    Raises:
        UnknownName: no such kind.
    """
    kinds = KINDS if kind is None else (kind_named(kind),)
    return {it.name: registry.summaries(it) for it in kinds}
