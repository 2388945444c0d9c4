"""The example scripts of other frameworks, as modules."""

from __future__ import annotations

import importlib.util
from types import ModuleType

from tests.support.paths import ROOT


def example(name: str) -> ModuleType:
    """The module of `examples/frameworks/NAME.py`, freshly run but for what it does as a script."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / "frameworks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
