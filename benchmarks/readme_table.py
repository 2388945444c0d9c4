"""Runs the benchmark of README's first screen and writes its table there.

python benchmarks/readme_table.py        # about five minutes on two cores
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from rich.console import Console

from simenv.bench import BenchOptions, run_bench

README = Path(__file__).parent.parent / "README.md"
START = "<!-- table: written by benchmarks/readme_table.py -->"
END = "<!-- end of table -->"


def main() -> None:
    options = BenchOptions(mechanisms=("organic", "prompted", "fixed_slots", "gsp", "best_of_n"), n=120, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        run_bench(options, Path(folder) / "run", Console(), Console(stderr=True))
        table = (Path(folder) / "run" / "table.md").read_text(encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    README.write_text(pattern.sub(lambda _: f"{START}\n{table}{END}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
