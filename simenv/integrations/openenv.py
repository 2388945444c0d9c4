"""simenv as an OpenEnv server: a client that is an assistant plays sessions over a WebSocket.

    uvicorn --factory simenv.integrations.openenv:make_app --port 8000

A session of the socket is one environment of its own. The HTTP routes /reset and /step of OpenEnv build a new
environment at every call, so episodes need the socket, which OpenEnv's clients use.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from simenv.datasets.training_data import ad_prompt
from simenv.env.environment import NativeAdsEnv
from simenv.errors import InputError
from simenv.integrations.answers import answered, expected_reward, told
from simenv.integrations.missing import missing
from simenv.records import Auction
from simenv.world import World
from simenv.world_factory import make_world

try:
    from openenv.core.env_server import create_app
    from openenv.core.env_server.interfaces import Environment
    from openenv.core.env_server.types import Action, EnvironmentMetadata, Observation, State
except ModuleNotFoundError as error:
    raise missing(error, "openenv", "openenv") from None

__all__ = ["Answer", "AuctionServer", "Turn", "make_app"]


class Answer(Action):
    """What the client sends."""

    response: str
    """The answer to the user, with its ads as `@Title@[id]`."""
    prices: dict[str, float] | None = None
    """Ad id -> currency per click. None: each ad pays its bid."""


class Turn(Observation):
    """What the client gets: the auction to answer, and the reward of the last answer.

    `reward` is the platform's objective in currency, in expectation over clicks where the judge gives probabilities;
    None: unknown, or nothing answered yet. `done`: the session's last query is answered, and the last auction is shown
    again. `metadata` says what happened: clicks, payments, violations.
    """

    messages: list[dict[str, str]] = Field(default_factory=list)
    """The auction as a prompt: a system and a user message."""
    auction: dict[str, Any] = Field(default_factory=dict)
    """The auction, as `simenv.records.Auction`."""


class AuctionServer(Environment[Answer, Turn, State]):
    """One client's environment.

    Args:
        world: The world; it may serve several clients.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, world: World) -> None:
        super().__init__()
        self._env = NativeAdsEnv(world)
        self._state = State()

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> Turn:
        """Starts a session: the first of run `seed`, or the run's next.

        Args:
            seed: Seed of the run; it determines personas' order, values, bids and clicks. None: continue this run.
            episode_id: A name for the client's own use; by default the session's id.
            options: `persona`, an id, and `session`, a number, as in `NativeAdsEnv.reset`.
        """
        auction, info = self._env.reset(seed=seed, options=options)
        self._state = State(episode_id=episode_id or info["session"], step_count=0)
        return _turn(auction, metadata=info)

    def step(self, action: Answer, timeout_s: float | None = None, **ignored: Any) -> Turn:
        """Answers the auction. `timeout_s` is not used: an answer is judged in milliseconds, or by the judge's limits.

        Raises:
            OutcomeError: a price is negative, or below the reserve.
            InputError: there is no session, or it is over.
        """
        auction = self._env.auction
        if auction is None:
            raise InputError("no session: call reset first")
        outcome = answered(auction, action.response, action.prices)
        auction, _, over, _, info = self._env.step(outcome)
        transition = info.pop("transition")
        self._state = State(episode_id=self._state.episode_id, step_count=self._state.step_count + 1)
        metadata = {**info, **told(transition)}
        return _turn(auction, done=over, reward=expected_reward(transition), metadata=metadata)

    @property
    def state(self) -> State:
        """The session's id and the number of answers in it."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """What OpenEnv's pages show."""
        return EnvironmentMetadata(
            name="simenv", description="Advertising auctions in the answers of an assistant", version="1"
        )

    def close(self) -> None:
        """Releases the environment; the world goes on."""
        self._env.close()


def make_app(world: World | None = None, *, max_sessions: int = 64, **options: Any) -> Any:
    """The server as an ASGI application, for uvicorn.

    Args:
        world: A world; the options are then not allowed.
        max_sessions: Clients that may play at once.
        **options: Passed to `simenv.make_world`.

    Raises:
        InputError: both a world and options are given, or `make_world` raises it.
    """
    if world is not None and options:
        raise InputError(f"a world is given already, so {', '.join(options)} cannot be set here")
    served = world or make_world(**options)
    return create_app(lambda: AuctionServer(served), Answer, Turn, env_name="simenv", max_concurrent_envs=max_sessions)


def _turn(auction: Auction, **fields: Any) -> Turn:
    return Turn(messages=ad_prompt(auction), auction=auction.model_dump(mode="json"), **fields)
