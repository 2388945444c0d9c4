"""Settings reach the plug-in that they name, of whatever kind."""

from __future__ import annotations

import pytest

from simenv.errors import InputError, UnknownName
from simenv.judges.base import JUDGE
from simenv.llm import LANGUAGE_MODEL
from simenv.market.bidders import BIDDER
from simenv.mechanism import MECHANISM
from simenv.quality.factory import QUALITY
from simenv.runs.build import labelled
from simenv.runs.options import BenchOptions, read_options
from simenv.runs.settings import Part, PartOptions, options_of_mechanisms

PARTS = [
    Part(MECHANISM, "gsp", "gsp"),
    Part(MECHANISM, "two", "gsp"),
    Part(BIDDER, "shaded:0.7", "shaded:0.7"),
    Part(LANGUAGE_MODEL, "openai/gpt-4.1", "openai/gpt-4.1"),
    Part(JUDGE, "embedded", "embedded"),
    Part(QUALITY, "embedded", "embedded"),
]


def test_a_setting_goes_to_the_part_of_its_label() -> None:
    options = PartOptions(["two.slots=1", "gsp.slots=2", "openai/gpt-4.1.attempts=3"], PARTS)
    assert options.of(MECHANISM, "two") == {"slots": 1}
    assert options.of(MECHANISM, "gsp") == {"slots": 2}
    assert options.of(LANGUAGE_MODEL, "openai/gpt-4.1") == {"attempts": 3}
    assert options.of(BIDDER, "shaded:0.7") == {}


def test_a_registered_name_may_leave_out_what_follows_its_colon() -> None:
    assert PartOptions(["shaded.factor=0.5"], PARTS).of(BIDDER, "shaded:0.7") == {"factor": 0.5}


def test_of_two_parts_with_one_name_the_one_with_the_option_gets_it() -> None:
    options = PartOptions(["embedded.wording=2", "quality/embedded.scales={}"], PARTS)
    assert options.of(JUDGE, "embedded") == {"wording": 2}
    assert options.of(QUALITY, "embedded") == {"scales": {}}


def test_a_setting_that_fits_two_parts_is_refused() -> None:
    with pytest.raises(InputError, match=r"embedded\.encoder fits judge and quality \(write judge/embedded\.encoder"):
        PartOptions(["embedded.encoder=1"], PARTS)


def test_a_setting_for_a_part_that_does_not_run_is_refused() -> None:
    with pytest.raises(UnknownName, match="unknown plug-in in a setting 'vcg': known are embedded, gsp"):
        PartOptions(["vcg.slots=1"], PARTS)


def test_a_command_about_one_mechanism_may_leave_out_its_name() -> None:
    said = ["temperature=5", "softmax.ctr_model=cosine"]
    assert options_of_mechanisms({"softmax": "softmax"}, said) == {"softmax": {"temperature": 5, "ctr_model": "cosine"}}
    assert options_of_mechanisms({"hot": "softmax"}, ["hot.temperature=5"]) == {"hot": {"temperature": 5}}
    with pytest.raises(UnknownName, match="'gsp'"):
        options_of_mechanisms({"softmax": "softmax"}, ["gsp.slots=2"])


def test_a_command_about_several_needs_their_names() -> None:
    two = {"hot": "softmax", "gsp": "gsp"}
    assert options_of_mechanisms(two, ["hot.temperature=5"]) == {"hot": {"temperature": 5}, "gsp": {}}
    with pytest.raises(InputError, match=r"expected NAME\.OPTION=VALUE"):
        options_of_mechanisms(two, ["temperature=5"])


@pytest.mark.parametrize("name", ["settings", "metrics", "judge_ensemble"])
def test_a_text_where_a_list_belongs_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"option {name}: expected a list, got 'gsp.slots=1'"):
        read_options(BenchOptions, {name: "gsp.slots=1"})
    assert getattr(read_options(BenchOptions, {name: ["gsp.slots=1"]}), name) == ("gsp.slots=1",)


@pytest.mark.parametrize("label", ["", " ", "a\nsimenv: all is well", "\x1b[31m", "\u202egsp"])
def test_a_label_that_does_not_print_is_refused(label: str) -> None:
    with pytest.raises(InputError, match="printable"):
        labelled([f"{label}=gsp"])
    assert labelled(["../../x=gsp", "[/x]=vcg", "$\\x$"]) == {"../../x": "gsp", "[/x]": "vcg", "$\\x$": "$\\x$"}
