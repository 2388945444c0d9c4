"""The OpenEnv server, over a real WebSocket. Run by `.ci/frameworks openenv`."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from simenv.datasets.training_data import ad_prompt
from simenv.env.environment import NativeAdsEnv
from simenv.errors import InputError
from simenv.integrations.answers import answered, expected_reward
from simenv.records import Auction
from simenv.testing import small_world
from tests.support.examples import example
from tests.support.fakes import ConstantJudge

pytestmark = [pytest.mark.framework, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def ours() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from simenv.integrations import openenv
    return openenv


def serve(app: Any) -> Iterator[str]:
    """Serves the application until the generator goes on; yields its address."""
    import uvicorn

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def address(ours: Any) -> Iterator[str]:
    yield from serve(ours.make_app(small_world()))


def client(address: str) -> Any:
    from openenv.core.generic_client import GenericEnvClient

    return GenericEnvClient(base_url=address).sync()


def first_ad(auction: Auction) -> str:
    return f"Have a look at {auction.bids[0].ad.link}."


def test_a_client_plays_the_session_of_the_environment(address: str) -> None:
    env = NativeAdsEnv(small_world())
    with client(address) as remote:
        auction, info = env.reset(seed=4)
        result = remote.reset(seed=4)
        assert result.observation["messages"] == ad_prompt(auction)
        assert Auction.model_validate(result.observation["auction"]) == auction
        assert result.reward is None
        over = False
        while not over:
            assert not result.done
            text = first_ad(auction)
            following, _, over, _, seen = env.step(answered(auction, text))
            result = remote.step({"response": text})
            transition = seen["transition"]
            assert result.reward == expected_reward(transition)
            told = result.observation["metadata"]
            assert told["clicks"] == {click.ad_id: click.clicked for click in transition.feedback.clicks}
            assert told["payments"] == transition.payments
            assert Auction.model_validate(result.observation["auction"]) == following
            auction = following
        assert result.done
        assert remote.state() == {"episode_id": info["session"], "step_count": 3}
        assert remote.reset().observation["metadata"]["session"] == env.reset()[1]["session"]


def test_prices_persona_and_errors_cross_the_wire(address: str) -> None:
    with client(address) as remote:
        with pytest.raises(RuntimeError, match="call reset first"):
            remote.step({"response": "Hello."})
        with pytest.raises(RuntimeError, match="unknown persona 'nobody'"):
            remote.reset(seed=0, persona="nobody")
        result = remote.reset(seed=0, persona="walker", session=2)
        assert result.observation["metadata"]["session"] == "0.2.walker"
        auction = Auction.model_validate(result.observation["auction"])
        ad_id = auction.bids[0].ad.id
        with pytest.raises(RuntimeError, match="at least 0 and finite"):
            remote.step({"response": first_ad(auction), "prices": {ad_id: -1.0}})
        result = remote.step({"response": first_ad(auction), "prices": {}})
        assert [violation["kind"] for violation in result.observation["metadata"]["violations"]] == ["unpriced_ad"]


def test_clients_play_apart(address: str) -> None:
    with client(address) as one, client(address) as other:
        first = one.reset(seed=0).observation["auction"]
        second = other.reset(seed=1).observation["auction"]
        assert first["id"] != second["id"]
        one.step({"response": "No ads."})
        assert other.state()["step_count"] == 0
        assert other.step({"response": "No ads."}).reward == 0


def test_a_reward_without_a_verdict_arrives_as_none(ours: Any) -> None:
    for address in serve(ours.make_app(small_world(judge=ConstantJudge(prob=None, clicked=None)))):
        with client(address) as remote:
            auction = Auction.model_validate(remote.reset(seed=0).observation["auction"])
            result = remote.step({"response": first_ad(auction)})
            assert result.reward is None
            assert list(result.observation["metadata"]["clicks"].values()) == [None]


def test_the_server_is_valid_by_openenvs_own_command(address: str) -> None:
    command = [sys.executable, "-m", "openenv.cli", "validate", "--url", address, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["passed"]
    assert len(report["criteria"]) >= 6


def test_a_world_and_options_exclude_each_other(ours: Any) -> None:
    with pytest.raises(InputError, match="a world is given already, so horizon"):
        ours.make_app(small_world(), horizon=2)


@pytest.mark.weights
def test_the_example_plays_a_session(capsys: pytest.CaptureFixture[str]) -> None:
    rewards = example("openenv_session").main()
    assert len(rewards) == 3
    assert capsys.readouterr().out.count("reward") == 3
