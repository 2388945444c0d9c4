"""`simenv demo` now against that of an earlier commit, in processes of their own; weights are converted before.

python -m benchmarks.speed.demo --before 5aea2db
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.measure import Aim, compare

ROOT = Path(__file__).parents[2]
_RUN = "from simenv.cli.demo import demo; demo(n={n}, seed=0)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", default="5aea2db")
    parser.add_argument("--n", type=int, default=48)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    def seconds(tree: Path) -> float:
        """Seconds of a demo from a working tree; vectors of texts are not kept from one run to the next."""
        environment = {**os.environ, "PYTHONPATH": str(tree), "SIMENV_VECTORS": "off"}
        command = [sys.executable, "-c", _RUN.format(n=options.n)]
        began = time.perf_counter()
        subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(old), options.before], check=True)
        try:
            compare(
                f"simenv demo: seconds at {options.before} over seconds now, {options.n} auctions",
                "s",
                {options.before: lambda: seconds(old), "now": lambda: seconds(ROOT)},
                aim=Aim(2.0),
                rounds=options.rounds,
            )
        finally:
            subprocess.run([*git, "remove", "--force", str(old)], check=True)


if __name__ == "__main__":
    main()
