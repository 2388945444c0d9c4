"""Commands and options that pages name exist."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest
import yaml

from tests.support.pages import PAGES, blocks, command_line, text_of


def commands(page: str) -> list[str]:
    """The `simenv` commands of a page: those of console blocks, and those with options in running text."""
    found = []
    for block in blocks(page):
        if block.language == "console":
            lines = block.text.replace("\\\n", " ").splitlines()
            found += [line.removeprefix("$ simenv ") for line in lines if line.startswith("$ simenv ")]
        if block.language in ("sh", "yaml"):
            text = re.sub(r"\$\w+", "1", block.text.replace("\\\n", " "))
            found += re.findall(r"^ *simenv (.*)$", text, re.MULTILINE)
    return found + re.findall(r"`simenv ([a-z-]+ [^`]*--[^`]*)`", text_of(page))


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_that_are_not_run_are_parsed(page: str) -> None:
    """A misspelt or removed option fails."""
    cli = command_line()
    for line in commands(page):
        name, *arguments = shlex.split(line.split("  #")[0])
        cli.commands[name].make_context(name, arguments)


def test_scripts_and_jobs_of_clusters_are_sound() -> None:
    scripts = []
    for block in blocks("docs/scale.md"):
        if block.language == "sh":
            scripts.append(block.text)
        if block.language == "yaml":
            for job in yaml.safe_load_all(block.text):
                (container,) = job["spec"]["template"]["spec"]["containers"]
                assert container["command"] == ["/bin/sh", "-c"]
                scripts += container["args"]
    assert sum("simenv bench --resume" in script for script in scripts) == 2
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_console_blocks_hold_commands() -> None:
    for page in PAGES:
        for block in blocks(page):
            if block.language == "console":
                assert all(line.startswith(("$ ", "    ")) for line in block.text.splitlines()), block.text


def test_there_are_commands() -> None:
    assert sum(len(commands(page)) for page in PAGES) >= 20


@pytest.mark.parametrize("page", PAGES)
def test_options_in_running_text_exist(page: str) -> None:
    options = [option for command in command_line().commands.values() for option in command.params]
    known = {name for option in options for name in (*option.opts, *option.secondary_opts)}
    known |= {"--constraint", "--help", "--full"}  # of pip and Slurm, of every command, of a benchmark's script
    known |= {"--array", "--max-num-seqs"}  # of Slurm, of vLLM
    assert set(re.findall(r"`(--[a-z-]+)", text_of(page))) <= known
