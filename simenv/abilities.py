"""What any part of a run may be able to do beside its job. Each ability is a protocol; `isinstance` tells who has it.

The abilities of one kind of part stand beside that part: of mechanisms in `simenv.mechanism`, of bidders in
`simenv.market.bidders`, of judges in `simenv.judges.base`, a mechanism's own CTR model in `simenv.ctr.models`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from simenv.llm.base import LLM
from simenv.records import Transition


@runtime_checkable
class Observer(Protocol):
    """A mechanism or bidder that learns from transitions.

    What it learned may change in `observe` alone, not in `run` or `bid`, so that a resumed run learns the same again
    from the log.
    """

    def observe(self, transition: Transition) -> None:
        """Learns from one transition of its own mechanism; transitions arrive in order."""
        ...


@runtime_checkable
class AsksModels(Protocol):
    """A part that asks language models: they are tried before a run, counted, and named in warnings."""

    llms: Sequence[LLM]


@runtime_checkable
class Hashed(Protocol):
    """A part whose results depend on numbers or prompts that manifests name by a hash."""

    sha256: str


@runtime_checkable
class Prepares(Protocol):
    """A part that computes something once, at first use or before."""

    def prepare(self) -> None:
        """Computes it now, so that the first answer does not take longer than the others."""
        ...


def hash_of(part: object) -> str | None:
    """The hash that names a part's numbers or prompts; None where it has none."""
    return part.sha256 if isinstance(part, Hashed) else None
