"""The package is installed, so simenv finds its mechanisms by name."""

import simenv


def test_simenv_lists_it() -> None:
    assert "focused" in simenv.mechanism_names()
