"""16 personas judge one answer with the embedded model: together, and each with a prompt that is read whole.

python -m benchmarks.speed.personas

The judge is `LLMJudge` with the persona at the end of its prompt.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

from benchmarks.speed.measure import Aim, compare
from simenv import run_mechanism
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import PLAIN, OneOf, ScriptedLLM
from simenv.llm.local import LocalLLM, embedded_llm
from simenv.llm.onnx_runtime import OnnxRuntime
from simenv.llm.prefixes import Prefixes
from simenv.mechanism import make_mechanism
from simenv.records import Auction, Bid, Feedback, Outcome, Persona, Query
from simenv.testing import ADS
from simenv.users.personas import load_personas

PERSONAS = load_personas()[:16]


class Judgements:
    """The same judgements, made together and one by one."""

    def __init__(self) -> None:
        self.llm: LocalLLM = embedded_llm()
        bids = tuple(Bid(ad=ad, amount=50.0 - place, relevance=0.5) for place, ad in enumerate(ADS[:3]))
        query = Query(text="Which hiking boots stay dry on wet trails?")
        self.auction = Auction(id="personas", query=query, bids=bids, max_ads=2)
        mechanism = make_mechanism("gsp", context={"llm": ScriptedLLM()})
        self.outcome: Outcome = asyncio.run(run_mechanism(mechanism, self.auction))
        self.judge = LLMJudge(self.llm, persona_last=True)
        self.made: dict[str, list[object]] = {}

    def forget(self) -> None:
        """Empties the memory of replies and of beginnings of prompts."""
        self.llm._done.clear()
        assert isinstance(self.llm._runtime, OnnxRuntime)
        self.llm._runtime.prefixes = Prefixes()

    async def click(self, persona: Persona) -> float:
        """Log-probability of the verdict on the first ad: one call."""
        prompt = self.judge.prompt(persona, self.auction, self.outcome)
        start = f'[{{"ad_id": "{self.outcome.placements[0].ad_id}", "clicked":'
        verdict = await self.llm.complete(
            prompt.model_copy(update={"prefill": start}),
            key=(self.auction.id, "click"),
            sampling=PLAIN,
            constraint=OneOf(options=(" true", " false")),
        )
        return sum(verdict.logprobs or ())

    async def verdicts(self, persona: Persona) -> Feedback:
        """Verdicts and reasons on all ads: two calls an ad, one after the other."""
        return await self.judge.judge(persona, self.auction, self.outcome)

    def together(self, ask: Callable[[Persona], Awaitable[object]]) -> float:
        """Judgements a second, all asked for at once."""
        self.forget()

        async def all_of_them() -> list[object]:
            return await asyncio.gather(*map(ask, PERSONAS))

        began = time.perf_counter()
        self.made["together"] = asyncio.run(all_of_them())
        return len(PERSONAS) / (time.perf_counter() - began)

    def one_by_one(self, ask: Callable[[Persona], Awaitable[object]]) -> float:
        """Judgements a second, each read from its beginning."""

        async def one(persona: Persona) -> object:
            return await ask(persona)

        self.made["one by one"] = []
        began = time.perf_counter()
        for persona in PERSONAS:
            self.forget()
            self.made["one by one"].append(asyncio.run(one(persona)))
        return len(PERSONAS) / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    judgements = Judgements()
    for what, ask, aim in (
        ("one verdict each", judgements.click, Aim(5.0)),
        ("verdicts and reasons on two ads", judgements.verdicts, None),
    ):
        compare(
            f"embedded model: 16 personas judge one answer, {what}",
            "judgements/s",
            {
                "together": partial(judgements.together, ask),
                "one by one": partial(judgements.one_by_one, ask),
            },
            aim=aim,
            rounds=rounds,
            note="Both sides give the same numbers, to the bit. The prompts share 430 of 530 tokens.",
        )
        if judgements.made["together"] != judgements.made["one by one"]:
            raise SystemExit("the judgements differ")


if __name__ == "__main__":
    main()
