"""What one process has used, its children can use too: forked, spawned, in Gymnasium's and in torch's workers.

Whatever waits for a thread that stayed behind in the parent would wait for ever: each test has a time-out.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest

from simenv import Auction, Outcome, make_mechanism, outcome
from simenv.background_loop import run_sync
from simenv.env.environment import NativeAdsEnv
from simenv.env.vector import NativeAdsVectorEnv
from simenv.llm import ScriptedLLM
from simenv.llm.batching import Batcher
from simenv.llm.hosted import HostedLLM
from simenv.mechanism import Mechanism
from simenv.testing import FakeOpenAI, small_world

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),  # Python 3.12 on: forking is what is tested
]
PATIENCE = 30.0
"""Seconds in which a child must have answered."""


def in_child(function: Callable[..., Any], *args: Any, method: str = "fork") -> Callable[[], Any]:
    """Starts `function(*args)` in a child process; calling what is returned waits for its result."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, args), daemon=True)
    process.start()
    theirs.close()

    def result() -> Any:
        try:
            assert ours.poll(PATIENCE), "the child hangs"
            answer = ours.recv()
            process.join(PATIENCE)
            assert process.exitcode == 0, "the child does not end"
            return answer
        finally:
            process.kill()
            process.join()
            ours.close()

    return result


def _answer(pipe: Any, function: Callable[..., Any], args: Sequence[Any]) -> None:
    pipe.send(function(*args))
    pipe.close()


def gsp() -> Mechanism:
    return make_mechanism("gsp", context={"llm": ScriptedLLM()})


def episode(env: gymnasium.Env[Any, Any], mechanism: Mechanism, seed: int = 0) -> list[str]:
    """One session's transitions as text."""
    env.reset(seed=seed)
    over, rows = False, []
    while not over:
        _, _, over, _, info = env.step(mechanism)
        rows.append(info["transition"].model_dump_json())
    return rows


def fresh_episode() -> list[str]:
    return episode(NativeAdsEnv(small_world()), gsp())


def test_a_forked_child_goes_on_with_the_parents_environment() -> None:
    env, mechanism = NativeAdsEnv(small_world()), gsp()
    before = episode(env, mechanism)
    assert in_child(episode, env, mechanism)() == before
    assert in_child(episode, env, mechanism, 1)() == episode(env, mechanism, 1), "and the parent goes on too"


def test_a_child_of_a_child() -> None:
    def child() -> tuple[list[str], list[str]]:
        multiprocessing.current_process().daemon = False
        return episode(env, mechanism), in_child(episode, env, mechanism)()

    env, mechanism = NativeAdsEnv(small_world()), gsp()
    before = episode(env, mechanism)
    assert in_child(child)() == (before, before)


def test_a_spawned_child() -> None:
    assert in_child(fresh_episode, method="spawn")() == fresh_episode()


def test_a_used_environment_can_be_sent_to_a_spawned_child() -> None:
    env, mechanism = NativeAdsEnv(small_world()), gsp()
    before = episode(env, mechanism)
    assert in_child(episode, env, mechanism, method="spawn")() == before


def test_a_forked_vector_environment() -> None:
    def child() -> list[float]:
        vector.reset(seed=3)
        return [float(reward) for reward in vector.step(gsp())[1]]

    vector = NativeAdsVectorEnv(4, small_world())
    here = child()
    assert in_child(child)() == here


def test_the_parents_exit_handler_does_not_hold_up_a_child() -> None:
    """Forked by hand, a child runs Python's exit handlers."""
    script = """
        import os, sys
        from simenv.env.environment import NativeAdsEnv
        from tests.env.test_processes import episode, gsp
        from simenv.testing import small_world
        env, mechanism = NativeAdsEnv(small_world()), gsp()
        before = episode(env, mechanism)
        pids = [os.fork()]
        if pids[0]:
            pids.append(os.fork())
            if pids[1]:
                ended = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
                print(ended, episode(env, mechanism) == before)
            else:
                sys.exit(7)  # without having used anything
        else:
            sys.exit(5 if episode(env, mechanism) == before else 6)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(script)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("[5, 7] True\n", "", 0)


class FirstAd:
    """Shows the first candidate; can be sent to another process."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bid = auction.bids[0]
        return outcome(auction, f"Have a look at {bid.ad.link}.", {bid.ad.id: bid.amount})


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_gymnasiums_worker_processes(context: str) -> None:
    from gymnasium.vector import AsyncVectorEnv

    single = NativeAdsEnv(small_world())
    expected = [single.reset(seed=seed)[0].id for seed in (5, 6)]
    workers = AsyncVectorEnv([make_small_env] * 2, shared_memory=False, context=context)
    try:
        workers.reset_async(seed=5)
        observations, _ = workers.reset_wait(timeout=PATIENCE)
        assert [auction.id for auction in observations] == expected
        for turn in range(3):
            workers.step_async((FirstAd(), FirstAd()))
            _, rewards, terminations, _, infos = workers.step_wait(timeout=PATIENCE)
            assert [row.turn for row in infos["transition"]] == [turn, turn]
            assert list(rewards) == [row.reward for row in infos["transition"]]
            assert list(terminations) == [turn == 2] * 2
    finally:
        workers.close(terminate=True)


def make_small_env() -> NativeAdsEnv:
    return NativeAdsEnv(small_world())


class Episodes:
    """A data set for torch: item i is the first session of run i."""

    def __init__(self, env: NativeAdsEnv, mechanism: Mechanism) -> None:
        self.env = env
        self.mechanism = mechanism

    def __len__(self) -> int:
        return 4

    def __getitem__(self, seed: int) -> list[str]:
        return episode(self.env, self.mechanism, seed)


def test_torchs_workers() -> None:
    from torch.utils.data import DataLoader

    episodes = Episodes(NativeAdsEnv(small_world()), gsp())
    here = [episodes[seed] for seed in range(4)]
    loader: Any = DataLoader(
        episodes,  # type: ignore[arg-type]
        num_workers=2,
        batch_size=None,
        timeout=PATIENCE,
        multiprocessing_context="fork",
    )
    assert list(loader) == here


# Language models that were in use at the fork


def test_a_connection_that_was_open_before_the_fork_stays_the_parents() -> None:
    """Both go on asking at once: on one connection they would read each other's replies."""

    def ask(who: str) -> list[str]:
        return [run_sync(complete, f"{who} {i}") for i in range(20)]

    async def complete(prompt: str) -> str:
        return (await llm.complete(prompt, key=(prompt,))).text

    with FakeOpenAI(lambda messages: f"to {messages[-1]['content']}") as server:
        llm = HostedLLM("openai/fake", api_base=server.url, api_key="none", attempts=1, timeout=PATIENCE)
        assert ask("before")[-1] == "to before 19"
        waiting = in_child(ask, "child")
        assert ask("parent") == [f"to parent {i}" for i in range(20)]
        assert waiting() == [f"to child {i}" for i in range(20)]
        assert ask("after") == [f"to after {i}" for i in range(20)]
        assert server.count == 80


def test_a_request_under_way_at_the_fork_is_asked_again_by_the_child() -> None:
    started, go_on = threading.Event(), threading.Event()

    def reply(_: object) -> str:
        started.set()
        assert go_on.wait(PATIENCE)
        return "an answer"

    async def slow(request: object) -> str:
        return await asyncio.get_running_loop().run_in_executor(None, reply, request)

    def ask() -> str:
        return run_sync(lambda: llm.complete("hi", key=("a",))).text

    def child() -> str:
        go_on.set()
        return ask()

    llm = ScriptedLLM(slow)
    answers: list[str] = []
    first = threading.Thread(target=lambda: answers.append(ask()))
    first.start()
    assert started.wait(PATIENCE)
    try:
        assert in_child(child)() == "an answer"
    finally:
        go_on.set()
        first.join(PATIENCE)
    assert answers == ["an answer"]


def test_a_batch_under_way_at_the_fork_does_not_hold_up_the_childs() -> None:
    parent = multiprocessing.current_process().pid
    started, go_on = threading.Event(), threading.Event()

    def run(jobs: Sequence[int]) -> list[int]:
        if multiprocessing.current_process().pid == parent:
            started.set()
            assert go_on.wait(PATIENCE)
        batches.append(list(jobs))
        return [2 * job for job in jobs]

    batches: list[list[int]] = []
    batcher = Batcher(run, lambda job: (job,), 8)
    results: list[int] = []
    first = threading.Thread(target=lambda: results.append(run_sync(batcher.submit, 1)))
    first.start()
    assert started.wait(PATIENCE)
    try:
        assert in_child(lambda: (run_sync(batcher.submit, 3), batches))() == (6, [[3]])
    finally:
        go_on.set()
        first.join(PATIENCE)
    assert results == [2]
    assert batches == [[1]]
