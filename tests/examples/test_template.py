"""The template of a package of mechanisms: its tests pass, and an installed copy is found by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.command_line import called
from tests.support.paths import ROOT

TEMPLATE = ROOT / "examples" / "template"


def test_its_mechanism_is_the_one_that_it_registers(monkeypatch: pytest.MonkeyPatch) -> None:
    import simenv

    monkeypatch.syspath_prepend(TEMPLATE / "src")
    project = tomllib.loads((TEMPLATE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ((name, target),) = project["entry-points"]["simenv.mechanisms"].items()
    module, _, attribute = target.partition(":")
    assert getattr(import_module(module), attribute).name == name
    mechanism = simenv.make_mechanism(target, llm=simenv.make_llm("scripted"))
    assert simenv.check_mechanism(mechanism, auctions=5).warnings == ()
    assert project["dependencies"] == ["simenv-ads>=0.1"]


def test_new_makes_it_under_another_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(["new", "our-auctions", "--out", str(tmp_path / "it")]) == 0
    made = {str(path.relative_to(tmp_path / "it")) for path in (tmp_path / "it").rglob("*") if path.is_file()}
    assert {"pyproject.toml", "src/our_auctions/focused.py", ".github/workflows/ci.yml"} <= made
    assert not any("my_ad" in path or "__pycache__" in path for path in made)
    texts = "".join((tmp_path / "it" / path).read_text(encoding="utf-8") for path in made)
    assert 'focused = "our_auctions.focused:Focused"' in texts
    assert "my_ad" not in texts.replace("-", "_")
    assert called(["new", "our-auctions", "--out", str(tmp_path / "it")]) == 2
    assert "is not empty: give a new folder" in capsys.readouterr().err
    assert called(["new", "Our Auctions"]) == 2
    assert "lower-case words and digits joined by -, got 'Our Auctions'" in capsys.readouterr().err
    assert called(["new", "simenv"]) == 2
    assert "'simenv' is the name of a package that is installed here" in capsys.readouterr().err


@pytest.mark.slow
def test_an_installed_copy_passes_its_own_tests(tmp_path: Path) -> None:
    """Needs setuptools and pip, and no network."""
    copy, target = tmp_path / "copy", tmp_path / "target"
    assert called(["new", "our-auctions", "--out", str(copy)]) == 0
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    _run([*install, "--target", str(target), str(copy)], tmp_path, {})
    shutil.rmtree(copy / "src")  # the tests must meet what was installed
    path = {"PYTHONPATH": str(target)}
    assert "passed" in _run(["-m", "pytest", "-q", "-p", "no:cacheprovider"], copy, path)
    listed = _run(["-m", "simenv", "list", "mechanism"], tmp_path, path)
    assert "focused" in listed


def _run(arguments: list[str], folder: Path, variables: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
