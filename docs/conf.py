"""How the site is built: `make docs`. Offline; every warning is an error."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

sys.path.insert(0, str(Path(__file__).parent))

import generated

project = "simenv"
author = "simenv maintainers"
html_title = "simenv"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
default_role = "code"

myst_heading_anchors = 4

autodoc_default_options = {"members": True, "exclude-members": "model_config", "member-order": "bysource"}
autodoc_typehints_format = "short"

nitpicky = True
# Types of other libraries, and ours that are not part of the public API, are shown as text without a link.
nitpick_ignore_regex = [(r"py:.*", r"(?!simenv\.[A-Za-z_]+$).*")]


def setup(app: Sphinx) -> None:
    """Fills in what is generated from the code, and reads docstrings in Google's style."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _google_style)
    app.connect("autodoc-process-signature", _signature)


def _fill(app: Sphinx, docname: str, source: list[str]) -> None:
    source[0] = generated.fill(source[0])


def _google_style(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    # Napoleon, but for attributes: there it takes what stands before a colon for a type.
    if what not in ("attribute", "data", "property"):
        lines[:] = GoogleDocstring(lines, Config(), app, what, name, obj, options).lines()


def _signature(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, None] | None:
    # Nobody calls a protocol, and the fields of a record or the members of an enum are listed below it.
    silent = what == "class" and (issubclass(obj, BaseModel | enum.Enum) or getattr(obj, "_is_protocol", False))
    return ("", None) if silent else None
