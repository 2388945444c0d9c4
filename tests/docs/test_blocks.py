"""Text that has not been run is not documentation: the python and bash blocks of every page are executed."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.support.pages import PAGES, RUN, SHOWN, blocks, run
from tests.support.processes import simenv

_RUN_HERE = [page for page in PAGES if any(b.language in RUN for b in blocks(page))]


@pytest.mark.weights
@pytest.mark.timeout(1200)  # a command takes seconds, and a page may have a dozen
@pytest.mark.parametrize("page", _RUN_HERE)
def test_blocks_run(page: str, tmp_path: Path) -> None:
    """In order, in one folder. A python block whose first line is `# name.py` is saved under that name.

    Python and `simenv` run in processes that have simenv loaded; what else a bash block has is run by bash.
    """
    for number, block in enumerate(blocks(page)):
        if block.language == "python":
            named = re.match(r"# (\w+\.py)\n", block.text)
            file = tmp_path / (named[1] if named else f"block_{number}.py")
            file.write_text(block.text, encoding="utf-8")
            if "__main__" in block.text:  # it starts processes of its own, which need a Python that began with it
                run([sys.executable, file.name], tmp_path)
            else:
                succeed([file.name], tmp_path)
        elif block.language == "bash":
            assert "".join(output(command, tmp_path) for command in commands(block.text)).strip()


def commands(block: str) -> list[str]:
    """The commands of a bash block, one a line."""
    return block.replace("\\\n", " ").splitlines()


def output(command: str, folder: Path) -> str:
    if re.match(r"simenv [^|&;<>$`]*$", command):
        return succeed(shlex.split(command)[1:], folder)
    return run(["bash", "-euo", "pipefail", "-c", command], folder)


def succeed(arguments: list[str], folder: Path) -> str:
    ended = simenv(arguments, folder)
    assert ended.code == 0, f"{arguments}\n{ended.out}\n{ended.err}"
    return ended.out


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str) -> None:
    for block in blocks(page):
        assert block.language in (*RUN, *SHOWN), block.text
