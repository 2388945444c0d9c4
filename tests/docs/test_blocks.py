"""Text that has not been run is not documentation: the python and bash blocks of every page are executed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.pages import PAGES, RUN, SHOWN, blocks, run

_RUN_HERE = [page for page in PAGES if any(b.language in RUN for b in blocks(page))]


@pytest.mark.weights
@pytest.mark.timeout(1200)  # a command takes seconds, and a page may have a dozen
@pytest.mark.parametrize("page", _RUN_HERE)
def test_blocks_run(page: str, tmp_path: Path) -> None:
    """In order, in one folder. A python block whose first line is `# name.py` is saved under that name."""
    for number, block in enumerate(blocks(page)):
        if block.language == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            file = tmp_path / (named[1] if named else f"block_{number}.py")
            file.write_text(block.text, encoding="utf-8")
            run([sys.executable, file.name], tmp_path)
        elif block.language == "bash":
            assert run(["bash", "-euo", "pipefail", "-c", block.text], tmp_path).strip()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    for block in blocks(page):
        assert block.language in (*RUN, *SHOWN), block.text
