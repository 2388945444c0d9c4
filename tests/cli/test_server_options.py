"""Options of servers, and secrets in their addresses, through the command line: requests, manifest and resume."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simenv.errors import InputError
from simenv.runs.build import plan
from simenv.runs.options import BenchOptions
from simenv.testing import FakeFailure, FakeOpenAI, FakeRoles
from tests.support.command_line import bench

SMALL = ["--mechanisms", "prompted", "--n", "2", "--horizon", "2", "--quality", "none"]


@pytest.mark.weights
def test_each_role_has_its_own_options(tmp_path: Path, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simenv.testing.fake_roles.unreadable", lambda answer: False)
    out = tmp_path / "run"
    with FakeOpenAI(FakeRoles()) as server:
        options = ["--llm", "openai/fake", "--api-base", server.url, "--llm-options", "temperature=0,max_tokens=900"]
        options += ["--judge-llm-options", '{"reasoning_effort": "low"}', *files, *SMALL]
        assert bench(out, *options) == 0
    judge, ad = (
        next(body for body in server.bodies if said in str(body["messages"][0]))
        for said in ("You simulate one user", "paid for by advertisers")
    )
    assert (judge["temperature"], judge["max_tokens"], judge["reasoning_effort"]) == (0.3, 400, "low")
    assert (ad["temperature"], ad["max_tokens"], "reasoning_effort" in ad) == (0, 900, False)
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["options"]["llm_options"] == {"temperature": 0, "max_tokens": 900}
    assert manifest["options"]["judge_llm_options"] == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"llm": "embedded", "llm_options": "temperature=0"}, "embedded is no model behind a server"),
        ({"llm": "embedded", "judge_llm_options": "temperature=0"}, "it takes no judge_llm_options"),
        ({"llm": "openai/x", "llm_options": {"temperature": 9}}, "llm_options: temperature: .* got 9"),
        ({"llm": "openai/x", "judge": "click", "judge_llm_options": "top_p=1"}, "the judge click asks no User-LLM"),
    ],
)
def test_wrong_options_are_refused_before_anything_loads(options: dict[str, object], said: str) -> None:
    asked = BenchOptions.model_validate({"mechanisms": ("gsp",), **options})
    with pytest.raises(InputError, match=said):
        plan(asked)


class Breaking(FakeRoles):
    """Roles of which the second answer fails, with an error that repeats the key."""

    def one_call(self, user: str) -> str:
        if self.seen["one_call"] > 1:
            raise FakeFailure(400, "no more of in-the-query")
        return super().one_call(user)


@pytest.mark.weights
def test_no_secret_is_written_and_the_run_can_go_on(
    tmp_path: Path, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out, secrets = tmp_path / "run", ("password1", "in-the-query", "of-the-body")
    body = '{"extra_body": {"api_token": "of-the-body"}}'
    with FakeOpenAI(FakeRoles()) as server:
        address = server.url.replace("://", "://me:password1@") + "?key=in-the-query"
        options = ["--llm", "openai/fake", "--api-base", address, "--llm-options", body, "--chunk", "1", *files, *SMALL]
        options += ["--judge", "click", "--queries", "no_commercial_intent"]
        server.reply = Breaking()
        assert bench(out, *options, "--fail-on-error", "0", "--record", str(tmp_path / "tape.jsonl")) == 2
        server.reply = FakeRoles()
        printed = capsys.readouterr()
        assert bench(out, "--resume") == 2
        refused = capsys.readouterr().err
        assert bench(out, "--resume", "--api-base", address, "--llm-options", body) == 0
    assert "in-the-query" in server.paths[-1]
    assert server.bodies[-1]["api_token"] == "of-the-body"
    assert "does not hold the secret in api_base, llm_options: give it again" in refused
    written = [path.read_text(encoding="utf-8") for path in [*out.iterdir(), tmp_path / "tape.jsonl"]]
    for text in [*written, printed.out, printed.err, refused]:
        assert not [secret for secret in secrets if secret in text]
    assert "refuses the request: no more of ***" in printed.err
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["options"]["api_base"] == server.url.replace("://", "://***@") + "?key=***"
