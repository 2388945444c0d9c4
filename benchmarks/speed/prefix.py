"""Tokens that a server with a prefix cache reads again: the order of our prompts now, against an earlier commit's.

Needs llama-server, with slots that can be erased:

    llama-server -m MODEL.gguf --port 8080 -np 8 -c 32768 --cache-ram 0 --slot-save-path FOLDER

    python -m benchmarks.speed.prefix --url http://127.0.0.1:8080 --before COMMIT

Two loads, one call after another: 16 personas judge one answer, and GSP runs a session of four questions (the question
writer, answers, ad sentences, and a judge). A FAKE model (`FakeRoles`) gives the replies that later prompts quote, so
that both sides ask the same; llama-server then reads each prompt and writes one token.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
Messages = list[dict[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens that a server with a prefix cache reads again.")
    parser.add_argument("--url", help="of llama-server, without /v1")
    parser.add_argument("--before", help="commit whose prompts are compared with")
    parser.add_argument("--write", type=Path, help="only write the prompts of the simenv that is imported to this file")
    options = parser.parse_args()
    if options.write is not None:
        options.write.write_text(json.dumps({"panel": panel(), "session": session()}), encoding="utf-8")
        return
    from benchmarks.speed.measure import compare

    with checkout(options.before) as old:
        loads = {"now": prompts(ROOT), "before": prompts(old)}
    for load, what in (("panel", "16 personas judge one answer"), ("session", "GSP, one session of four questions")):
        sides = {name: lambda of=of, load=load: read_again(options.url, of[load]) for name, of in loads.items()}
        note = f"llama-server with SmolLM2-135M, eight slots; before: prompts of {options.before}."
        compare(f"{what}: prompt tokens read by the server", "tokens", sides, rounds=2, note=note)


def panel() -> list[Messages]:
    """The judge's prompts of 16 personas for one answer."""
    from simenv import outcome
    from simenv.judges.llm_judge import LLMJudge
    from simenv.llm.hosted import HostedLLM
    from simenv.market.catalog import load_catalog
    from simenv.records import Auction, Bid, Query
    from simenv.users.personas import load_personas

    ads = load_catalog("everyday")[:3]
    query = Query(text="Which boots stay dry on long wet trails, and what else should I take along?")
    auction = Auction(id="a1", query=query, bids=tuple(Bid(ad=ad, amount=1.0) for ad in ads))
    advice = "Look for a waterproof membrane, a high shaft and a sole with deep lugs, and wax the leather every month. "
    text = advice * 3 + " ".join(f"Many hikers like {ad.link} for days in the rain." for ad in ads)
    judge = LLMJudge(HostedLLM("openai/fake", api_base="http://127.0.0.1:9/v1"))
    found = outcome(auction, text, {ad.id: 0.1 for ad in ads})
    built = [judge.prompt(persona, auction, found) for persona in load_personas("everyday")[:16]]
    return [
        [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}] for prompt in built
    ]


def session() -> list[Messages]:
    """All prompts of GSP for one session of four questions, in the order in which they are sent."""
    import simenv
    from simenv.testing import FakeOpenAI, FakeRoles

    roles = FakeRoles()
    questions = "\n".join(
        f"{i}. What should I take along on a trip of {i} days to the lakes in autumn?" for i in range(1, 5)
    )
    roles.queries = lambda user: questions  # type: ignore[method-assign]
    with FakeOpenAI(roles) as server, tempfile.TemporaryDirectory() as folder:
        simenv.bench(
            "gsp",
            llm="openai/fake",
            api_base=server.url,
            n=4,
            horizon=4,
            chunk=1,
            concurrency=1,
            quality="none",
            out=f"{folder}/run",
        )
    return [body["messages"] for body in server.bodies]


def prompts(tree: Path) -> Mapping[str, list[Messages]]:
    """The prompts of the simenv of a source tree."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "prompts.json")
        environment = {**os.environ, "PYTHONPATH": str(tree)}
        subprocess.run([sys.executable, __file__, "--write", str(file)], check=True, env=environment, cwd=tree)
        loads: Mapping[str, list[Messages]] = json.loads(file.read_text(encoding="utf-8"))
        return loads


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A source tree of another commit."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, "tree")
        subprocess.run(["git", "worktree", "add", "--detach", str(tree), commit], cwd=ROOT, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(tree)], cwd=ROOT, check=True)


def read_again(url: str, load: list[Messages]) -> float:
    """Prompt tokens that llama-server read, which its slots did not have; they are empty at first."""
    for slot in _get(f"{url}/slots"):
        _get(f"{url}/slots/{slot['id']}?action=erase", {})
    read = 0.0
    for messages in load:
        body = {"messages": messages, "max_tokens": 1, "temperature": 0, "cache_prompt": True}
        read += _get(f"{url}/v1/chat/completions", body)["timings"]["prompt_n"]
    return read


def _get(url: str, body: Mapping[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=600) as response:
        return json.loads(response.read())


if __name__ == "__main__":
    main()
