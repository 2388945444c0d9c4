"""Plug-ins of every kind: found by name, checked before they are built, listed without an import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simenv import registry
from simenv.errors import InputError, UnknownName
from simenv.importing import reason
from simenv.market.bidders import BIDDER, BidRequest, make_bidder
from simenv.market.values import VALUES, make_values
from simenv.mechanism import MECHANISM, find_mechanism
from simenv.plugins import KINDS, kind_named, plugins
from simenv.records import Ad
from simenv.registry import Lazy, parse_setting, parse_value

AD = Ad(id="a", advertiser="A", title="A lamp")
REQUEST = BidRequest("s.0", "s", 0, AD, 60.0)


def own_file(folder: Path, text: str) -> Path:
    file = folder / "own_parts.py"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_registered_plugin_is_found_and_has_one_line(kind: registry.Kind[object]) -> None:
    lines = dict(registry.summaries(kind))
    assert set(lines) == set(registry.names(kind)) != set()
    for name, line in lines.items():
        assert line, name
        assert "cannot be read" not in line
        assert "\n" not in line
    for name in registry.names(kind):
        if name not in ("embedded", "local") or kind.name != "llm":  # these import torch
            assert registry.find(kind, name).name == name


def test_listing_imports_no_plugin() -> None:
    code = "import simenv, sys; simenv.plugins(); print([m for m in ('torch', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_kinds_have_a_singular_and_a_plural() -> None:
    assert kind_named("mechanisms") is kind_named("mechanism") is MECHANISM
    assert kind_named("ctr-models").name == "ctr_model"
    with pytest.raises(UnknownName, match="unknown kind of plug-in 'juges': did you mean judge"):
        kind_named("juges")
    assert list(plugins("bidder")) == ["bidder"]


def test_a_name_with_a_colon_sets_the_first_option() -> None:
    assert make_bidder("shaded:0.5").bid(REQUEST) == 30.0
    assert make_bidder("roi:2").bid(REQUEST) == 30.0
    assert make_bidder("shaded", factor=0.25).bid(REQUEST) == 15.0
    with pytest.raises(InputError, match=r"bidder 'shaded:much': option factor: .*number.*got 'much'"):
        make_bidder("shaded:much")
    with pytest.raises(InputError, match="bidder 'uniform:3': nothing can follow the colon"):
        make_bidder("uniform:3")


def test_an_older_name_is_still_read() -> None:
    assert make_bidder("learning").name == make_bidder("exp3").name == "exp3"


def test_a_plugin_of_ones_own_comes_from_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = own_file(
        tmp_path,
        "class Half:\n"
        '    """Half the value."""\n'
        "    def __init__(self, least: float = 1.0) -> None:\n"
        "        self.least = least\n"
        "    def bid(self, request):\n"
        "        return max(self.least, request.value / 2)\n",
    )
    bidder = make_bidder(f"{file}:Half", least=40)
    assert bidder.bid(REQUEST) == 40.0
    assert bidder.name == "Half", "a plug-in without a name gets that of its class"
    monkeypatch.chdir(tmp_path)
    assert make_bidder("own_parts:Half").bid(REQUEST) == 30.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("halff", "unknown bidder 'halff'.*package.module:Class or file.py:Class"),
        ("nowhere.py:Half", "bidder 'nowhere.py:Half': no such file nowhere.py"),
        ("no_such_module:Half", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_plugin_that_is_not_there_is_named(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_bidder(name)


def test_a_class_that_is_missing_or_of_another_kind_is_named(tmp_path: Path) -> None:
    file = own_file(tmp_path, "class Half:\n    def bid(self, request):\n        return 1.0\n\nclass Other: ...\n")
    with pytest.raises(UnknownName, match=r"unknown class in bidder .*'Whole': known are Half"):
        make_bidder(f"{file}:Whole")
    with pytest.raises(InputError, match=r"bidder .*:Other' has no attribute bid"):
        make_bidder(f"{file}:Other")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "option n: input should be a valid integer, got \\[\\]"),
        (1.5, "option n: input should be a valid integer"),
        (float("nan"), "option n: input should be a finite number"),
        ("1,2", "option n: input should be a valid integer"),
        (None, "option n: input should be a valid integer"),
        (True, "option n: input should be a number, got True"),
        ("x" * 5000, r"got 'x{70,}\.\.\.$"),
    ],
)
def test_options_are_checked_against_annotations_before_anything_is_built(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        find_mechanism("best_of_n", {"n": value})
    assert len(str(caught.value)) < 300


def test_an_unknown_option_names_those_there_are() -> None:
    with pytest.raises(InputError, match="mechanism 'gsp' has no option slot; its options are llm, ctr_model, slots"):
        find_mechanism("gsp", {"slot": 2})


def test_parts_of_the_run_are_passed_by_name_and_built_when_they_are_needed() -> None:
    built: list[str] = []
    spec = registry.Spec(VALUES, "own", lambda ad_price: make_values("lognormal", median=ad_price))
    lazy = {"ad_price": Lazy(lambda: built.append("price") or 7.0), "unused": Lazy(lambda: built.append("unused"))}
    assert spec.build(lazy).name == "lognormal:7,0.8"
    assert built == ["price"]
    with pytest.raises(InputError, match="values 'own' needs ad_price: give it as an option"):
        spec.build({})


def test_an_object_that_is_no_class_is_the_plugin_itself(tmp_path: Path) -> None:
    file = own_file(tmp_path, "class Half:\n    def bid(self, request):\n        return 2.0\n\nhalf = Half()\n")
    assert make_bidder(f"{file}:half").bid(REQUEST) == 2.0
    with pytest.raises(InputError, match="has no options, got share"):
        registry.find(BIDDER, f"{file}:half", {"share": 1})


@pytest.mark.parametrize(
    ("text", "value"),
    [("8", 8), ("0.5", 0.5), ("true", True), ("[1, 2]", [1, 2]), ("oracle", "oracle"), ('"8"', "8"), ("", "")],
)
def test_values_are_json_or_text(text: str, value: object) -> None:
    assert parse_value(text) == value
    assert parse_setting(f"own.py:Mine.option={text}") == ("own.py:Mine", "option", value)


@pytest.mark.parametrize("text", ["", "n=8", "gsp.n", ".n=8", "gsp.=8"])
def test_a_setting_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected NAME\.OPTION=VALUE"):
        parse_setting(text)


def test_json_that_is_nested_too_deep_is_refused() -> None:
    with pytest.raises(InputError, match="nested too deep"):
        parse_setting(f"gsp.slots={'[' * 100_000}")


def test_a_long_message_of_a_plug_in_is_cut() -> None:
    assert reason(ValueError("no number " * 1000)) == f"ValueError: {('no number ' * 100)}..."
