"""Keyed draws: the same parts give the same stream, today and in older runs."""

from __future__ import annotations

import numpy as np
import pytest

from simenv import seeding
from simenv.seeding import keyed_int, keyed_rng


def test_streams_are_those_of_older_runs() -> None:
    assert keyed_int("value", "0.0.p1.3", "ad-1", 7) == 10739965462520035932493019363475622661
    assert keyed_rng("value", "0.0.p1.3", "ad-1", 7).integers(1, 101, size=5).tolist() == [13, 41, 18, 60, 5]


@pytest.mark.parametrize("zeros", [0, 4, 12, 16])
def test_a_stream_is_that_of_the_integer_s_seed_sequence(zeros: int, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = bytes(zeros) + bytes(range(100, 116 - zeros))
    monkeypatch.setattr(seeding, "_digest", lambda parts: digest)
    expected = np.random.PCG64(np.random.SeedSequence(keyed_int("any")))
    assert keyed_rng("any").bit_generator.state == expected.state


def test_parts_are_told_apart_by_type_and_length() -> None:
    keys = [("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",), ("é",), ()]
    assert len({keyed_int(*key) for key in keys}) == len(keys)
