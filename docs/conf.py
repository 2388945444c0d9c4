"""How the site is built: `make docs`. Offline; every warning is an error."""

from __future__ import annotations

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

import generated

project = "simenv"
author = "simenv maintainers"
html_title = "simenv"
html_theme = "furo"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4

autodoc_default_options = {"members": True, "exclude-members": "model_config", "member-order": "bysource"}
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

nitpicky = True
# Types of other libraries, and ours that are not part of the public API, are shown as text without a link.
nitpick_ignore_regex = [(r"py:.*", r"(?!simenv\.[A-Za-z_]+$).*")]


def setup(app: Sphinx) -> None:
    """Fills in the parts of pages that are generated from the code."""

    def fill(app: Sphinx, docname: str, source: list[str]) -> None:
        source[0] = generated.fill(source[0])

    app.connect("source-read", fill)
