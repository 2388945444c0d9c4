"""The report as one HTML file: everything in it, nothing loaded, nothing executed but the scripts of the folder web.

A strict content security policy names the hashes of our one script and one style, and forbids all else: no request, no
frame, no form, no inline handler, and (where browsers know trusted types) no text that becomes HTML. Data are JSON in
elements that browsers do not execute; the scripts put them into the page as text only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from simenv.text import printable

SIGN = b"<!doctype html>\n<!-- A report of simenv. -->\n"
"""How every report begins."""
_SCRIPTS = ("elements", "scales", "plots", "figures", "clicks", "attached", "answer", "browser", "main")
_DIGITS = 6
"""Significant digits of numbers."""


def render(summary: Mapping[str, Any], answers: Mapping[str, Any]) -> bytes:
    """Returns the report.

    Args:
        summary: Tables and figures, see `simenv.report.view`.
        answers: What `simenv.report.answers.Sample` gives the page.
    """
    style, script = _style(), _script()
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    parts = {"policy": policy, "style": style, "script": script, "summary": _json(summary), "answers": _json(answers)}
    page = _web("page.html")
    for name in parts:  # the template alone is searched for places, never what was filled in
        assert page.count(f"{{{{{name}}}}}") == 1, name
    first, *rest = page.split("{{")
    filled = [first]
    for piece in rest:
        name, _, after = piece.partition("}}")
        filled += [parts[name], after]
    return SIGN + "".join(filled).encode()


def _style() -> str:
    return _web("report.css")


def _script() -> str:
    return "\n".join(_web(f"{name}.js") for name in _SCRIPTS)


def _web(name: str) -> str:
    return (files("simenv.report") / "web" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _json(data: Any) -> str:
    """JSON that may stand in a script element: nothing in it ends the element, begins a comment or ends a line."""
    text = json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _plain(data: Any) -> Any:
    """The same for JSON: control characters and direction marks in texts become escapes, NaN and infinity null."""
    if isinstance(data, str):
        return printable(data)
    if isinstance(data, bool) or data is None or isinstance(data, int):
        return data
    if isinstance(data, float):
        return float(f"{data:.{_DIGITS}g}") if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {printable(str(name)): _plain(value) for name, value in data.items()}
    return [_plain(value) for value in data]
