"""The app: registers the commands of this package.

Whatever simenv raises on purpose becomes one line on standard error, with its notes below, and exit code 2; 1 where a
file cannot be written.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Callable

import typer

from simenv.cli import console
from simenv.cli.audit import audit
from simenv.cli.bench import bench
from simenv.cli.check import check
from simenv.cli.compare import compare
from simenv.cli.demo import demo
from simenv.cli.export import export
from simenv.cli.fetch_weights import fetch_weights
from simenv.cli.fit_ctr import fit_ctr
from simenv.cli.list import list_plugins
from simenv.cli.make_pack import make_pack
from simenv.cli.ope import ope
from simenv.cli.sensitivity import sensitivity
from simenv.cli.signals import stopping
from simenv.cli.train import train
from simenv.cli.validate_judge import validate_judge
from simenv.errors import CannotWrite, SimenvError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="LLM-native advertising auctions."
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "bench": bench,
    "compare": compare,
    "audit": audit,
    "export": export,
    "ope": ope,
    "sensitivity": sensitivity,
    "train": train,
    "check": check,
    "list": list_plugins,
    "validate-judge": validate_judge,
    "fit-ctr": fit_ctr,
    "make-pack": make_pack,
    "fetch-weights": fetch_weights,
    "demo": demo,
}
_OF_THE_SYSTEM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO})
"""What the operating system refuses is no fault of the program, wherever it happens: one line, no traceback."""
for name, command in _COMMANDS.items():
    app.command(name)(command)


@app.command("mechanisms")
def mechanisms() -> None:
    """Lists the registered mechanisms: `simenv list mechanism`."""
    list_plugins("mechanism")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `simenv` command."""
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its errors reach the user through ours
    with stopping():
        try:
            app(args=arguments)
        except SimenvError as error:
            _complain(" ".join(str(error).split()))  # text quoted from a file may hold line breaks
            for note in getattr(error, "__notes__", ()):
                console.note(note)
            sys.exit(1 if isinstance(error, CannotWrite) else 2)
        except OSError as error:
            if error.errno not in _OF_THE_SYSTEM:
                raise
            _complain(f"{error.strerror}: {error.filename}" if error.filename is not None else str(error.strerror))
            sys.exit(1)


def _complain(message: str) -> None:
    console.err.print(f"simenv: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
