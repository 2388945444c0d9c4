"""The file: its policy names what is in it, data end no element, and nothing is loaded."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re

from simenv.report.page import SIGN, render

SUMMARY = {"title": "</script><!-- \u2028 {{answers}} \u202e", "numbers": [math.nan, math.inf, 0.123456789, 1]}


def page() -> str:
    return render(SUMMARY, {"answers": []}).decode()


def element(name: str) -> str:
    (content,) = re.findall(rf"<{name}>(.*?)</{name}>", page(), re.DOTALL)
    return str(content)


def test_the_policy_names_the_hashes_of_script_and_style() -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page())
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for rule, name in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(element(name).encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert {"base-uri", "form-action", "require-trusted-types-for", "trusted-types"} <= set(rules)


def test_data_end_no_element_and_come_back_as_they_were() -> None:
    (data,) = re.findall(r'<script type="application/json" id="summary-data">(.*?)</script>', page(), re.DOTALL)
    assert not re.search(r"[<>&\u2028\u2029\u202e]", data)
    read = json.loads(data)
    assert read["title"] == "</script><!-- \\u2028 {{answers}} \\u202e"
    assert read["numbers"] == [None, None, 0.123457, 1]


def test_nothing_is_loaded_from_anywhere() -> None:
    text = page()
    assert not re.search(r"\b(?:src|srcset|href)=(?!\"#)", text)
    assert re.findall(r"https?://[^\"'\s]*", text) == ["http://www.w3.org/2000/svg"]
    assert not re.search(r"@import|url\(", element("style"))


def test_scripts_never_parse_html_or_code() -> None:
    script = element("script")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc", script)


def test_equal_runs_have_equal_reports() -> None:
    assert render(SUMMARY, {"answers": []}) == render(SUMMARY, {"answers": []})
    assert render(SUMMARY, {}).startswith(SIGN)
