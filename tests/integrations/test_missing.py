"""A module whose framework is not installed says how to install it."""

from __future__ import annotations

import importlib
import sys

import pytest

from simenv.errors import InputError
from simenv.integrations.missing import missing


@pytest.mark.parametrize("name", ["openenv", "pettingzoo"])
def test_the_extra_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for loaded in [module for module in sys.modules if module.partition(".")[0] == name]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not there
    monkeypatch.delitem(sys.modules, f"simenv.integrations.{name}", raising=False)
    with pytest.raises(InputError, match=f"needs the package {name}") as raised:
        importlib.import_module(f"simenv.integrations.{name}")
    assert f"simenv-ads[{name}]" in str(raised.value.hint)


def test_a_package_that_the_framework_lacks_is_not_blamed_on_the_extra() -> None:
    inner = ModuleNotFoundError("No module named 'other'", name="other.part")
    assert missing(inner, "openenv", "openenv") is inner
