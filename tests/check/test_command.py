"""`simenv check`: the names that `bench` takes, and what it prints."""

from __future__ import annotations

import pytest

from simenv.cli.main import main


def check(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        main(["check", *arguments, "--auctions", "1"])
    return ended.value.code


def test_labels_and_several_mechanisms(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("hot=softmax,gsp", "--set", "hot.temperature=20") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("hot: passed on 11 auctions in ")
    assert "220 draws follow its lottery (false alarm 1e-06)" in first
    assert second.startswith("gsp: passed on 22 auctions in ")
    assert "draws" not in second


def test_what_no_claim_forbids_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("none=organic") == 0
    said = capsys.readouterr()
    assert said.out.startswith("none: passed on 22 auctions")
    assert said.err == (
        "simenv: none showed no ad in 15 of 15 auctions that allow one (a text shows an ad where it has its link: copy "
        "ad.link exactly)\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gsp,gsp"], "named twice"),
        ([","], "expected the name of a mechanism, got ','"),
        (["hot=softmax,gsp", "--set", "temperature=5"], "expected NAME.OPTION=VALUE"),
        (["hot=gps"], "did you mean gsp"),
    ],
)
def test_wrong_names(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(*arguments) == 2
    assert said in capsys.readouterr().err
