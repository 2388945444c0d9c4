"""The engine ray on real processes: `pytest -m slow tests/runs/test_ray.py`, about a minute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.folders import Folder

pytestmark = [pytest.mark.slow, pytest.mark.weights]
PLUG_INS = '''
import os
import signal
import time
from pathlib import Path

from simenv import outcome

HERE = Path(__file__).parent


class Kills:
    """Kills its process, once, in the middle of the run."""

    def run(self, auction, rng):
        if auction.session_id.startswith("0.4.") and auction.turn == 1:
            try:
                (HERE / "killed").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        bid = auction.bids[0]
        return outcome(auction, f"See {bid.ad.link}.", {bid.ad.id: 1.0})


class Murders(Kills):
    def run(self, auction, rng):
        if auction.turn == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome(auction, "Fine.")


class Slow(Kills):
    def run(self, auction, rng):
        if (HERE / "slow").exists():
            time.sleep(0.3)
        return outcome(auction, "Fine.")


class Fails(Kills):
    def run(self, auction, rng):
        raise ArithmeticError("no more")
'''
SCRIPT = """
import json
import sys

import simenv
from simenv import outcome


class Cheapest:
    def run(self, auction, rng):
        bid = min(auction.bids, key=lambda bid: bid.amount)
        return outcome(auction, f"Try {bid.ad.link}.", {bid.ad.id: auction.reserve})


if __name__ == "__main__":
    out, engine, options = sys.argv[1:]
    mechanisms = {"own": Cheapest(), "gsp": "gsp", "file": "plug_ins.py:Kills"}
    simenv.bench(mechanisms, out=out, **json.loads(options), **json.loads(engine))
"""
RAY = {"engine": "ray", "workers": 2}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "plug_ins.py").write_text(PLUG_INS, encoding="utf-8")
    return Folder(tmp_path)


def script(folder: Folder, name: str, engine: dict[str, object]) -> str:
    (folder.path / "script.py").write_text(SCRIPT, encoding="utf-8")
    options = {**folder.options, "n": 30}
    command = [sys.executable, "script.py", name, json.dumps(engine), json.dumps(options)]
    ended = subprocess.run(command, cwd=folder.path, capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def processes_in(folder: Path) -> list[str]:
    """Command lines of the processes whose working folder it is."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cwd").resolve() == folder:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def test_a_worker_that_is_killed_half_way_changes_no_byte(folder: Folder) -> None:
    said = script(folder, "ray", RAY)
    assert (folder.path / "killed").is_file()
    assert said == ""
    script(folder, "local", {})
    assert folder.read("ray") == folder.read("local")
    assert len(folder.read("ray")[0].splitlines()) == 90


def test_an_interrupted_run_leaves_no_process_and_goes_on_locally(folder: Folder) -> None:
    (folder.path / "slow").touch()
    given = [f"--{name.replace('_', '-')}={value}" for name, value in {**folder.options, "n": 30, **RAY}.items()]
    command = [str(Path(sys.executable).with_name("simenv")), "bench", "--out=run", "--mechanisms=plug_ins.py:Slow"]
    process = subprocess.Popen(
        [*command, *given], cwd=folder.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    chunks = folder.path / "run" / "chunks.jsonl"
    while not chunks.exists() and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "go on with: simenv bench --resume --out run" in said
    assert "Traceback" not in said
    deadline = time.monotonic() + 20
    while (left := processes_in(folder.path)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []
    (folder.path / "slow").unlink()
    before = os.getcwd()
    os.chdir(folder.path)
    try:
        resumed = folder.run("run", "plug_ins.py:Slow", n=30, resume=True, engine="local", workers=None)
        assert resumed == folder.run("whole", "plug_ins.py:Slow", n=30)
    finally:
        os.chdir(before)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Murders", "chunk 0: 3 workers died while they ran it"),
        ("Fails", "simenv: Fails raised ArithmeticError: no more"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_one_line(folder: Folder, name: str, message: str) -> None:
    given = [f"--{name.replace('_', '-')}={value}" for name, value in {**folder.options, "n": 30, **RAY}.items()]
    command = [str(Path(sys.executable).with_name("simenv")), "bench", "--out=run", f"--mechanisms=plug_ins.py:{name}"]
    ended = subprocess.run(
        [*command, *given], cwd=folder.path, capture_output=True, text=True, check=False, timeout=250
    )
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr + ended.stdout
