"""Which answers of a run are exported: those of some mechanisms, and those of one part of the personas."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from simenv.errors import InputError

TEST_SHARE = 0.2
"""Share of the personas in the test part, if none is given."""


class Selection(NamedTuple):
    """A choice of answers."""

    mechanisms: tuple[str, ...] = ()
    """Labels in the run; all if empty."""
    split: str | None = None
    """train or test; None: both."""
    test_share: float = TEST_SHARE
    """Share of the personas in the test part."""

    def takes(self, mechanism: str, persona_id: str) -> bool:
        """Whether an answer belongs to the selection."""
        if self.mechanisms and mechanism not in self.mechanisms:
            return False
        return self.split is None or (self.split == "test") == is_test(persona_id, self.test_share)

    def options(self) -> str:
        """The options of the command line that give this selection, with a space before each."""
        mechanisms = f" --mechanisms {','.join(self.mechanisms)}" if self.mechanisms else ""
        return mechanisms + (f" --split {self.split} --test-share {self.test_share:g}" if self.split else "")


def make_selection(mechanisms: Sequence[str], split: str | None, test_share: float | None) -> Selection:
    """A checked selection.

    Raises:
        InputError: another split, a share outside (0, 1), or a share without a split.
    """
    if split not in (None, "train", "test"):
        raise InputError(f"split must be train or test, got {split!r}")
    if test_share is not None and split is None:
        raise InputError(f"test_share is an option of a split, got test_share {test_share:g} and no split")
    if test_share is not None and not 0 < test_share < 1:
        raise InputError(f"test_share must be above 0 and below 1, got {test_share:g}")
    return Selection(tuple(mechanisms), split, TEST_SHARE if test_share is None else test_share)


def is_test(persona_id: str, share: float) -> bool:
    """Whether a persona belongs to the test part: by a hash of its id, so the same in every run, format and version.

    A persona of the test part also belongs to every larger test part.
    """
    digest = hashlib.sha256(b"simenv test part\0" + persona_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64
