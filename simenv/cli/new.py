"""`simenv new`: a package of mechanisms of your own, from the template."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.errors import InputError
from simenv.files.atomic import writing
from simenv.files.folders import check_folder

_NAME, _MODULE = "my-ad-mechanisms", "my_ad_mechanisms"
_LEFT_BY_TOOLS = re.compile(r"__pycache__|\.\w+_cache|\.egg-info$")


def new(
    name: Annotated[str, typer.Argument(help="Name of the package, such as my-ad-mechanisms.")],
    out: Annotated[Path | None, typer.Option(help="A new folder; NAME in this folder by default.")] = None,
) -> None:
    """Makes a package for mechanisms of your own: with an example, its tests and continuous integration."""
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"name must be lower-case words and digits joined by -, got {name!r}")
    if find_spec(name.replace("-", "_")) is not None:
        raise InputError(f"name: {name!r} is the name of a package that is installed here: the new one would hide it")
    folder = out or Path(name)
    check_folder(folder)
    template = _template()
    for file in sorted(template.rglob("*")):
        place = file.relative_to(template)
        if file.is_file() and not any(_LEFT_BY_TOOLS.search(part) for part in place.parts):
            copy = folder / _renamed(str(place), name)
            with writing(copy):
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(_renamed(file.read_text(encoding="utf-8"), name), encoding="utf-8")
    console.line(f"package {name} in {folder}: begin with its README.md")


def _renamed(text: str, name: str) -> str:
    return text.replace(_NAME, name).replace(_MODULE, name.replace("-", "_"))


def _template() -> Path:
    package = Path(str(files("simenv")))
    installed = package / "template"
    return installed if installed.is_dir() else package.parent / "examples" / "template"  # in a checkout
