"""Which files may import which: tests and benchmarks stay movable one by one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT


def imported(source: str, package: str) -> Iterator[str]:
    """Dotted names of the modules that may be meant by the source's imports, at any depth of it.

    Args:
        source: Python.
        package: Dotted name of the package that it lies in, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> set[str]:
    package = ".".join(path.relative_to(ROOT).parent.parts)
    return set(imported(path.read_text(encoding="utf-8"), package))


def is_test_module(name: str) -> bool:
    return name.split(".")[0] == "tests" and any(part.startswith("test_") for part in name.split("."))


def test_every_form_of_import_is_seen() -> None:
    source = "import a.b as c\nfrom d import e\ndef f():\n    from ..g import h\n    from . import i\n"
    assert set(imported(source, "tests.runs")) == {
        "a.b",
        "d",
        "d.e",
        "tests.g",
        "tests.g.h",
        "tests.runs",
        "tests.runs.i",
    }
    assert is_test_module("tests.runs.test_ope")
    assert is_test_module("tests.runs.test_ope.softmax")
    assert not is_test_module("tests.support.runs.transitions")


def test_no_test_module_is_imported() -> None:
    """What two test files share is in tests/support or in a conftest.py."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert Path(__file__) in files
    found = {str(path.relative_to(ROOT)): sorted(filter(is_test_module, imports_of(path))) for path in files}
    assert {path: names for path, names in found.items() if names} == {}


def test_nothing_outside_the_tests_imports_them() -> None:
    """Benchmarks, examples and the packages run where the tests are not installed."""
    for folder in ("benchmarks", "examples", "simenv", "mechanisms"):
        files = sorted((ROOT / folder).rglob("*.py"))
        assert files, folder
        for path in files:
            assert [name for name in imports_of(path) if name.split(".")[0] == "tests"] == [], path


def forking(source: str) -> list[str]:
    """What in a source starts processes by fork, or leaves the way to Python: a fork lacks the parent's threads."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.fork", "os.forkpty"):
            found.append(ast.unparse(node))
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            text = ast.unparse(node)
            if name in ("Process", "Pool", "ProcessPoolExecutor", "get_context", "set_start_method"):
                spawned = "'spawn'" in text or "mp_context=" in text or ast.unparse(node.func).startswith("spawn.")
                found += [] if spawned else [text]
    return found


def test_a_fork_is_seen() -> None:
    assert forking("os.fork()") == ["os.fork"]
    assert forking("Pool(2)") == ["Pool(2)"]
    assert forking("multiprocessing.get_context()") == ["multiprocessing.get_context()"]
    assert forking("spawn = multiprocessing.get_context('spawn')\nspawn.Process(target=f)") == []


def test_no_process_is_started_by_fork() -> None:
    files = [path for package in ("simenv", "mechanisms") for path in (ROOT / package).rglob("*.py")]
    found = {str(path.relative_to(ROOT)): forking(path.read_text(encoding="utf-8")) for path in files}
    assert len(files) > 100
    assert {path: calls for path, calls in found.items() if calls} == {}
