"""verifiers plays a session against a server of this machine. Run by `.ci/frameworks verifiers`.

verifiers starts a program for each turn, with packages that `uv` installs: this needs an index of Python packages.
"""

from __future__ import annotations

import asyncio
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from simenv.env.environment import NativeAdsEnv
from simenv.integrations.turns import session_sums
from simenv.testing import FakeOpenAI
from tests.support.paths import ROOT

pytestmark = [pytest.mark.framework, pytest.mark.weights, pytest.mark.filterwarnings("default")]


def advertise(messages: list[dict[str, Any]]) -> str:
    """A FAKE assistant: it links the first candidate of the last question."""
    prompt = messages[-1]["content"]
    prompt = prompt if isinstance(prompt, str) else prompt[0]["text"]
    found = re.search(r'\{"id": "([^"]+)", "title": "([^"]+)"', prompt)
    assert found, prompt
    return f"Have a look at @{found[2]}@[{found[1]}]."


def test_a_session_is_played_and_rewarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples" / "verifiers")
    monkeypatch.setenv("FAKE_KEY", "none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from verifiers.v1.cli.eval.runner import run_eval
        from verifiers.v1.configs.cli.eval import EvalConfig

        from simenv.integrations.verifiers import first_price
    with FakeOpenAI(advertise) as server:
        config = EvalConfig.model_validate(
            {
                "env": {
                    "taskset": {"id": "simenv-ads", "seed": 5, "sessions": 1},
                    "horizon": 2,
                    "player": {"runtime": {"type": "subprocess"}},
                },
                "model": "fake",
                "client": {"base_url": server.url, "api_key_var": "FAKE_KEY"},
                "push": False,
                "rich": None,
                "output_dir": str(tmp_path),
            }
        )
        (episode,) = asyncio.run(run_eval(config))
    (trace,) = episode.traces
    assert not trace.errors, trace.errors
    env = NativeAdsEnv(horizon=2)
    auction, _ = env.reset(seed=5, options={"session": 0})
    turns = []
    for _ in range(2):
        ad = auction.bids[0].ad
        auction, *_, info = env.step(first_price(auction, f"Have a look at {ad.link}."))
        turns.append(info["transition"])
    sums = session_sums(turns)
    assert trace.rewards["simenv"].score == pytest.approx(sums["reward"])
    assert trace.metrics["revenue"] == pytest.approx(sums["revenue"])
    assert trace.metrics["turns"] == 2
    assert trace.metrics["unknown"] == 0
