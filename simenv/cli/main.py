"""The app: registers the commands of this package.

Whatever simenv raises on purpose becomes one line on standard error, with its notes below, and exit code 2; 1 where a
file cannot be written, 3 where a run stopped at one of its ceilings. Its warnings become one paragraph each.
"""

from __future__ import annotations

import errno
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

import typer

from simenv import background_loop
from simenv.cli import console
from simenv.cli.audit import audit
from simenv.cli.bench import bench
from simenv.cli.check import check
from simenv.cli.compare import compare
from simenv.cli.demo import demo
from simenv.cli.export import export
from simenv.cli.fetch_weights import fetch_weights
from simenv.cli.fit_ctr import fit_ctr
from simenv.cli.fit_evaluator import fit_evaluator
from simenv.cli.fit_world import fit_world
from simenv.cli.import_gem import import_gem
from simenv.cli.list import list_plugins
from simenv.cli.make_pack import make_pack
from simenv.cli.merge import merge
from simenv.cli.new import new
from simenv.cli.ope import ope
from simenv.cli.plot import plot
from simenv.cli.report import report
from simenv.cli.score import score
from simenv.cli.sensitivity import sensitivity
from simenv.cli.signals import finish, stopping
from simenv.cli.train import train
from simenv.cli.validate_ctr import validate_ctr
from simenv.cli.validate_judge import validate_judge
from simenv.cli.validate_quality import validate_quality
from simenv.cli.view import view
from simenv.errors import CannotWrite, CeilingReached, SimenvError, SimenvWarning

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="LLM-native advertising auctions."
)
_COMMANDS: dict[str, Callable[..., None]] = {
    "bench": bench,
    "merge": merge,
    "score": score,
    "compare": compare,
    "view": view,
    "plot": plot,
    "report": report,
    "audit": audit,
    "export": export,
    "ope": ope,
    "sensitivity": sensitivity,
    "train": train,
    "check": check,
    "list": list_plugins,
    "new": new,
    "validate-judge": validate_judge,
    "validate-ctr": validate_ctr,
    "validate-quality": validate_quality,
    "fit-ctr": fit_ctr,
    "fit-evaluator": fit_evaluator,
    "fit-world": fit_world,
    "make-pack": make_pack,
    "import-gem": import_gem,
    "fetch-weights": fetch_weights,
    "demo": demo,
}
_OF_THE_SYSTEM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO})
"""What the operating system refuses is no fault of the program, wherever it happens: one line, no traceback."""
for name, command in _COMMANDS.items():
    app.command(name)(command)


def _print_version(asked: bool) -> None:
    if asked:
        console.out.print(f"simenv {version('simenv-ads')}", markup=False, highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """LLM-native advertising auctions."""


@app.command("mechanisms")
def mechanisms() -> None:
    """Lists the registered mechanisms: `simenv list mechanism`."""
    list_plugins("mechanism")


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `simenv` command."""
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its errors reach the user through ours
    console.begin()
    with stopping(), _printed_warnings():
        code = _run(arguments)
        early = console.ended_early()
        if background_loop.left_behind():  # it may never end, so Python's own end would wait, or crash in it
            finish(code or early or 0)
        sys.exit(code or early or 0)


def _run(arguments: list[str] | None) -> int:
    """Runs a command. Returns its exit code."""
    try:
        app(args=arguments)
    except SimenvError as error:
        console.error(str(error))
        for note in getattr(error, "__notes__", ()):
            console.note(note)
        if isinstance(error, CeilingReached):
            return console.AT_A_CEILING
        return 1 if isinstance(error, CannotWrite) else 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except OSError as error:
        console.out.print()  # it fails too if it was standard output that failed, under a help page of typer's
        if console.out.failure is None:
            if error.errno not in _OF_THE_SYSTEM:
                raise
            console.error(f"{error.strerror}: {error.filename}" if error.filename is not None else str(error.strerror))
            return 1
    return 0


@contextmanager
def _printed_warnings() -> Iterator[None]:
    """Prints each warning of simenv once on standard error; those of other packages are shown as before."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", SimenvWarning)
        before, printed = warnings.showwarning, set[str]()

        def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
            text = " ".join(str(message).split())
            if not issubclass(category, SimenvWarning):
                before(message, category, *rest, **more)
            elif text not in printed:  # a training reads its files several times
                printed.add(text)
                console.warn(text)

        warnings.showwarning = show
        yield
