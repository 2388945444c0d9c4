"""simenv as a task of inspect_ai: a sample is a session, the solver runs it, the scorer gives its sums.

    inspect eval simenv/native_ads --model openai/gpt-4o-mini -T mechanism=gsp -T sessions=10
    inspect eval simenv/native_ads --model none -T mechanism=gsp -T llm=embedded

The evaluated model writes the mechanism's texts, unless `llm` names a model of simenv. `inspect view` shows the turns.
"""

from __future__ import annotations

from typing import Any

from simenv.env.environment import NativeAdsEnv
from simenv.errors import LLMUnavailable
from simenv.integrations.inspect_log import SCORER, VIEWER, messages_of, score_of, write_logs
from simenv.integrations.missing import missing
from simenv.integrations.turns import turn_facts
from simenv.llm import LLM, Completion, Request, make_llm
from simenv.mechanism import Mechanism, make_mechanism
from simenv.records import Transition, Usage
from simenv.users.queries import deal_personas
from simenv.world import World
from simenv.world_factory import make_world

try:
    from inspect_ai import Task, task
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.log import transcript
    from inspect_ai.model import ChatMessageSystem, ChatMessageUser, GenerateConfig, Model, ModelOutput, get_model
    from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
    from inspect_ai.solver import Generate, Solver, TaskState, solver
    from inspect_ai.util import span
except ModuleNotFoundError as error:
    raise missing(error, "inspect_ai", "inspect") from None

__all__ = ["InspectLLM", "native_ads", "play", "sums", "write_logs"]
_TURNS = "turns"
"""Key of a session's transitions, as JSON, in the store of its sample."""


class InspectLLM(LLM):
    """The model that inspect_ai evaluates, as a language model of simenv.

    Its calls are in the sample's transcript, and under the limits of the evaluation. It has none of the optional
    capabilities. The randomness of a key is not controlled: a repeated evaluation gives other texts, unless the
    model is deterministic.

    Args:
        model: A model; None: the one under evaluation, asked for at each call.
    """

    def __init__(self, model: Model | None = None) -> None:
        super().__init__()
        self._model = model
        self.name = "inspect" if model is None else str(model)

    async def _generate(self, request: Request) -> Completion:
        prompt, sampling = request.prompt, request.sampling
        system = [ChatMessageSystem(content=prompt.system)] if prompt.system else []
        config = GenerateConfig(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_tokens,
            stop_seqs=list(sampling.stop) or None,
        )
        reply = await (self._model or get_model()).generate(
            [*system, ChatMessageUser(content=prompt.user)], config=config
        )
        if reply.error is not None or reply.empty:
            raise LLMUnavailable(f"{self.name}: {reply.error or 'a reply without a text'}")
        used = reply.usage
        usage = Usage(
            calls=1,
            prompt_tokens=None if used is None else used.input_tokens,
            completion_tokens=None if used is None else used.output_tokens,
        )
        return Completion(
            text=reply.completion, finish="length" if reply.stop_reason == "max_tokens" else "stop", usage=usage
        )


@task(name="simenv/native_ads")  # where the package is installed from a checkout, inspect_ai adds no prefix
def native_ads(mechanism: str = "gsp", sessions: int = 10, seed: int = 0, llm: str = "inspect", **options: Any) -> Task:
    """Sessions of simulated users, answered by a mechanism.

    Args:
        mechanism: Name of the mechanism.
        sessions: Number of sessions: one sample each.
        seed: Seed of the run.
        llm: "inspect": the evaluated model writes. Else the name of a model of simenv, with `model="none"`.
        **options: Options of `simenv.make_world`, such as horizon, judge or catalog.
    """
    world = make_world(**options)
    writer: LLM = InspectLLM() if llm == "inspect" else make_llm(llm)
    built = make_mechanism(mechanism, context={"llm": writer, "encoder": world.retriever.encoder})
    samples = [
        Sample(
            id=number,
            input=f"session {number} of the run {seed}",
            metadata={"session": number, "seed": seed, "persona": deal_personas(world.personas, seed, number).id},
        )
        for number in range(sessions)
    ]
    return Task(
        dataset=MemoryDataset(samples, name=f"simenv seed {seed}"),
        solver=play(world, built, mechanism),
        scorer=sums(),
        name=f"native_ads {mechanism}",
        viewer=VIEWER,
    )


@solver
def play(world: World, mechanism: Mechanism, name: str) -> Solver:
    """Runs the session that a sample names, and keeps its turns."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        env = NativeAdsEnv(world)
        await env.start(seed=state.metadata["seed"], options={"session": state.metadata["session"]})
        state.messages.clear()
        turns: list[Transition] = []
        over = False
        while not over:
            async with span(f"turn {len(turns)}", type="turn"):
                _, _, over, _, info = await env.advance(mechanism)
                turn = info["transition"]
                transcript().info(turn_facts(turn), source="simenv")
            turns.append(turn)
            state.messages.extend(messages_of(turn))
        state.output = ModelOutput.from_content(name, turns[-1].outcome.response)
        state.store.set(_TURNS, [turn.model_dump(mode="json") for turn in turns])
        return state

    return solve


@scorer(metrics={"*": [mean(), stderr(cluster="persona")]}, name=SCORER)
def sums() -> Scorer:
    """The sums of the session; the standard error is clustered by persona."""

    async def score(state: TaskState, target: Target) -> Score:
        return score_of([Transition.model_validate(turn) for turn in state.store.get(_TURNS, [])])

    return score
