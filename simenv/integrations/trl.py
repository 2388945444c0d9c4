"""simenv as the reward of TRL's online trainers (GRPOTrainer, RLOOTrainer): a step of training is a batch of auctions.

    reward = AuctionReward(horizon=3)
    trainer = GRPOTrainer(model, reward_funcs=reward, train_dataset=Dataset.from_list(reward.rows(sessions=100)), ...)

The policy writes answers with their ads, each of which pays its bid per click. TRL itself is not imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from simenv.background_loop import gather, run_sync
from simenv.datasets.training_data import ad_prompt
from simenv.errors import InputError
from simenv.integrations.answers import answered, expected_reward
from simenv.integrations.views import refuse_linked
from simenv.records import Transition
from simenv.world import Session, World
from simenv.world_factory import make_world

Completion = str | Sequence[dict[str, Any]]
"""A text, or a conversation whose last message is the answer."""


class AuctionReward:
    """A reward function for `reward_funcs`, and the rows of prompts that belong to it.

    The reward of a completion is the platform's objective on its auction, in currency: sum of bid x click - penalty, in
    expectation over clicks where the judge gives probabilities. It is None where the judge abstained, which TRL leaves
    out. Bidders do not learn from the answers.

    Args:
        world: A world; the options are then not allowed.
        **options: Passed to `simenv.make_world`.

    Raises:
        InputError: both a world and options are given, or `make_world` raises it.
    """

    __name__ = "simenv"  # TRL's logs name the reward so

    def __init__(self, world: World | None = None, **options: Any) -> None:
        if world is not None and options:
            raise InputError(f"a world is given already, so {', '.join(options)} cannot be set here")
        self.world = world or make_world(**options)
        refuse_linked(self.world, "a trainer asks for each answer alone")
        self._sessions: dict[tuple[int, int], Session] = {}

    def rows(self, sessions: int, *, seed: int = 0, first: int = 0) -> list[dict[str, Any]]:
        """One row for each auction of these sessions: `prompt` (messages), `seed`, `session` and `turn`.

        Args:
            sessions: Number of sessions.
            seed: Seed of the run; it determines personas, values, bids and clicks.
            first: Number of the first session: other sessions are other auctions, for instance for evaluation.

        Raises:
            InputError: there are no sessions.
        """
        if sessions < 1:
            raise InputError(f"sessions must be at least 1, got {sessions}")
        rows = []
        for number in range(first, first + sessions):
            session = run_sync(self._session, seed, number)
            for turn in range(len(session.questions)):
                prompt = ad_prompt(self.world.auction(session, turn))
                rows.append({"prompt": prompt, "seed": seed, "session": number, "turn": turn})
        return rows

    def __call__(
        self,
        *,
        completions: Sequence[Completion],
        seed: Sequence[int],
        session: Sequence[int],
        turn: Sequence[int],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float | None]:
        """The rewards of completions, judged concurrently.

        Args:
            completions: Answers, as texts or as conversations.
            seed, session, turn: The auction of each, as in `rows`.
            log_metric: TRL's; gets the number of ads and of violations per answer.
        """
        transitions = self.judge([_text(completion) for completion in completions], seed, session, turn)
        if log_metric is not None and transitions:
            count = len(transitions)
            log_metric("simenv/ads", sum(len(it.outcome.placements) for it in transitions) / count)
            log_metric("simenv/violations", sum(len(it.outcome.violations) for it in transitions) / count)
        return [expected_reward(transition) for transition in transitions]

    def judge(
        self, answers: Sequence[str], seed: Sequence[int], session: Sequence[int], turn: Sequence[int]
    ) -> list[Transition]:
        """The transitions of answers: clicks, payments, violations and rewards, in their order."""

        async def all_of_them() -> list[Transition]:
            return await gather(self._judged(*answer) for answer in zip(answers, seed, session, turn, strict=True))

        return run_sync(all_of_them)

    async def _judged(self, answer: str, seed: int, number: int, turn: int) -> Transition:
        session = await self._session(seed, number)
        auction = self.world.auction(session, turn)
        index = number * self.world.horizon + turn
        return await self.world.step(
            session, turn, answered(auction, answer), index=index, name="policy", auction=auction
        )

    async def _session(self, seed: int, number: int) -> Session:
        known = self._sessions.get((seed, number))
        if known is None:
            known = self._sessions[seed, number] = await self.world.session(seed, number)
        return known


def _text(completion: Completion) -> str:
    return completion if isinstance(completion, str) else str(completion[-1]["content"])
