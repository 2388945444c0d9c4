"""The site builds without a warning, and a broken link or anchor stops the build."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import readme_table
from tests.support.pages import text_of
from tests.support.paths import ROOT

STRICT = ["-W", "-n", "--keep-going", "-q"]


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sphinx", *STRICT, str(source), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_site_builds(tmp_path: Path) -> None:
    done = build(ROOT / "docs", tmp_path / "html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "html" / "reference" / "cli.html").read_text(encoding="utf-8")
    assert "--judge-ensemble" in page
    assert "<!-- generated" not in page


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("[there](missing.md)", "missing.md"),
        ("[there](missing.csv)", "missing.csv"),
        ("[there](index.md#missing)", "missing"),
        ("[there](#missing)", "missing"),
    ],
)
def test_a_broken_link_stops_the_build(link: str, said: str, tmp_path: Path) -> None:
    for name in ("conf.py", "generated.py"):
        shutil.copy(ROOT / "docs" / name, tmp_path / name)
    (tmp_path / "index.md").write_text("# A page\n\n[here](#a-page)\n", encoding="utf-8")
    assert build(tmp_path, tmp_path / "html").returncode == 0
    (tmp_path / "index.md").write_text(f"# A page\n\n{link}\n", encoding="utf-8")
    done = build(tmp_path, tmp_path / "html")
    assert done.returncode != 0
    assert said in done.stderr


def test_what_readme_links_to_exists() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", text_of("README.md")):
        assert (ROOT / target).exists(), target


def test_readme_is_short() -> None:
    assert len(text_of("README.md").splitlines()) <= 150


@pytest.mark.parametrize("path", [readme_table.README, readme_table.TABLES], ids=lambda path: path.name)
def test_result_tables_are_as_the_script_writes_them(path: Path) -> None:
    assert readme_table.page(path) == path.read_text(encoding="utf-8")
