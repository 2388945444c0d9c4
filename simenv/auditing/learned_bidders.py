"""Bidders with the strategies that advertisers learned in an audit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from simenv.auditing.records import Audit
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.files.limits import read_bytes
from simenv.market.bidders import Bidder, BidRequest, MixedBidder

Strategy = Mapping[float, float]
"""Share of the value -> the probability of bidding it."""


class LearnedBidders:
    """Bidders with the mean strategy that an audit learned under each mechanism.

    Advertisers learned in the audit's auctions (`simenv.auditing.play`). Their strategies are over shares of the value,
    so they can bid in any auction: all advertisers of a mechanism draw from its mean strategy. The labels of a run's
    mechanisms choose the strategy.

    Args:
        strategies: Mechanism -> strategy.
        name: Name in manifests.

    Raises:
        InputError: a share below 0, or probabilities that do not add up to 1.
    """

    def __init__(self, strategies: Mapping[str, Strategy], name: str = "learned") -> None:
        self.name = name
        self._bidders = {label: MixedBidder(list(s), list(s.values())) for label, s in strategies.items()}
        plain = {label: list(strategy.items()) for label, strategy in strategies.items()}
        self.sha256 = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, files: str) -> LearnedBidders:
        """Strategies that an audit learned: learned:FILE, an audit.json or several, comma-separated.

        If several files have strategies of a mechanism, the last one is used.

        Raises:
            DataFileError: a file does not exist or is not an audit, or no file holds learned strategies.
        """
        strategies: dict[str, Strategy] = {}
        for file in files.split(","):
            strategies |= _strategies(Path(file))
        if not strategies:
            raise DataFileError(f"{files}: no learned strategies", hint="audit with `play` of at least 1")
        return cls(strategies, f"learned:{files}")

    def of(self, mechanism: str) -> Bidder:
        """Returns the bidders of one mechanism.

        Raises:
            UnknownName: no strategies were learned under it.
        """
        if mechanism not in self._bidders:
            raise UnknownName("mechanism of learned bidders", mechanism, self._bidders)
        return self._bidders[mechanism]

    def bid(self, request: BidRequest) -> float:
        raise InputError("learned bidders differ between mechanisms: call of(mechanism) first")


def _strategies(file: Path) -> dict[str, Strategy]:
    try:
        audit = Audit.model_validate_json(read_bytes(file))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataFileError(f"{file}: not an audit: {where + ': ' if where else ''}{first['msg']}") from None
    learned = {label: audited.play.get("learned") for label, audited in audit.mechanisms.items()}
    return {
        label: dict(zip(audit.shares, reach.strategy, strict=True))
        for label, reach in learned.items()
        if reach is not None and reach.strategy
    }
