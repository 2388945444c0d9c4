"""The app: registers the commands of this package.

Whatever simenv raises on purpose becomes one line on standard error, with its notes below, and exit code 2. Its
warnings become one paragraph each.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Any

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
from simenv.cli.signals import finish, stopping
from simenv.cli.train import train
from simenv.cli.validate_judge import validate_judge
from simenv.errors import SimenvError, SimenvWarning

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
    with stopping(), _printed_warnings():
        try:
            app(args=arguments)
        except SimenvError as error:
            message = " ".join(str(error).split())  # text quoted from a file may hold line breaks
            console.err.print(f"simenv: {message}", style="red", markup=False, highlight=False, soft_wrap=True)
            for note in getattr(error, "__notes__", ()):
                console.note(note)
            finish(2)  # also if code is left behind that never ends


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
