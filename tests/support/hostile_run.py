"""A small run whose ads, users, mechanisms and judge are hostile: their text is code where it is not taken for text."""

from __future__ import annotations

import json
from pathlib import Path

from simenv import outcome
from simenv.objective import Objective
from simenv.records import (
    Ad,
    AdQuality,
    Auction,
    Bid,
    Click,
    Failure,
    Feedback,
    Outcome,
    Persona,
    Quality,
    Query,
    Traits,
    Transition,
)
from simenv.runs.rows import to_lines
from simenv.settlement import settle
from simenv.text import printable

MECHANISMS = ("gsp", "organic", "<img src=x onerror=alert('mechanism')>")
QUESTIONS = (
    "Which boots? <script>alert('query')</script>",
    "</script><script>alert('end')</script><!--",
    "\u202efdp.exe\u202c and \u2067 \u2028 next line",
    "{{summary}} ${alert('template')} `'\"&lt;b&gt;",
)
PERSONAS = (
    Persona(id="<b onclick=alert(1)>p0</b>", info="Walks.", age=25, income="low", traits=Traits(ad_tolerance=0.1)),
    Persona(id="javascript:alert('persona')", info="Runs.", age=70, income="high", traits=Traits(ad_tolerance=0.9)),
)
ADS = (
    Ad(
        id="A1",
        advertiser="\"><svg onload=alert('advertiser')>",
        title="Boots <img src=x onerror=alert('title')>",
        body="Buy! <a href=\"javascript:alert('body')\">here</a> <iframe srcdoc=\"<script>alert('frame')</script>\">",
        category="shoes' onmouseover='alert(1)",
        url="javascript:alert('url')",
    ),
    Ad(
        id="A2",
        advertiser="Hats & Co",
        title="Hats \u202egolana",
        body="Hats.",
        category="hats",
        url="https://x.example",
    ),
)
REASON = "<style>*{display:none}</style><base href=//evil.example> I would click."
AD_FREE = "No ads here <object data=javascript:alert('free')></object>."


def shown(text: str) -> str:
    """The text as the page shows it."""
    return printable(text)


def hostile_run(folder: Path) -> Path:
    """Writes the run's folder: four questions, three mechanisms; one failed answer, one abstention, one violation."""
    folder.mkdir()
    rows = [_answer(index, name) for index in range(len(QUESTIONS)) for name in MECHANISMS]
    (folder / "transitions.jsonl").write_text("".join(f"{t.model_dump_json()}\n" for t in rows), encoding="utf-8")
    sessions = [
        {"number": n, "id": f"s{n}", "persona": persona.model_dump(mode="json"), "questions": []}
        for n, persona in enumerate(PERSONAS)
    ]
    (folder / "sessions.jsonl").write_bytes(to_lines(sessions))
    manifest = {
        "options": {"mechanisms": list(MECHANISMS), "n": 4, "seed": 1},
        "world": {"ad_llm": "<script>alert('model')</script>", "judge": "click-model-v1"},
        "command": ["simenv", "bench", "--out", "<script>alert('command')</script>"],
        "finished": "2026-01-01T00:00:00+00:00",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def _answer(index: int, mechanism: str) -> Transition:
    persona = PERSONAS[index % 2]
    bids = tuple(Bid(ad=ad, amount=10.0 * (place + 1), relevance=0.5) for place, ad in enumerate(ADS))
    query = Query(text=QUESTIONS[index])
    auction = Auction(id=f"q{index}/<b>", session_id=f"s{index % 2}", query=query, profile=persona.profile, bids=bids)
    values = {"A1": 11.0, "A2": 22.0}
    place = {"index": index, "mechanism": mechanism, "persona_id": persona.id, "turn": index // 2}
    if mechanism == MECHANISMS[2] and index == 3:
        error = Failure(kind="LLMUnavailable", text="no reply: <script>alert('error')</script>")
        empty = settle(auction, Outcome(response=""), Feedback(), values, Objective(), **place)  # type: ignore[arg-type]
        return empty.model_copy(update={"error": error, "reward": None, "expected_reward": None})
    text, prices = "Plain 👢 answer.\nSecond line.", {}
    if mechanism == "gsp":
        text, prices = f"Wear 👢 {ADS[0].link} or, as [A2] says, nothing.", {"A1": 5.0}
    elif mechanism != "organic":
        text, prices = f"<b>Bold</b> {ADS[0].link} and {ADS[1].link}.", {"A1": 4.0, "A2": 6.0}
    answer = outcome(auction, text, prices)
    clicks = []
    for number, placement in enumerate(answer.placements):
        abstains = index == 2 and number == 1
        click = Click(
            ad_id=placement.ad_id,
            clicked=None if abstains else index % 2 == 0,
            click_prob=None if abstains else 0.25,
            reason=REASON,
        )
        clicks.append(click)
    ads = tuple(AdQuality(ad_id=p.ad_id, factuality=0.5, disclosure=1.0) for p in answer.placements)
    loss = 0.1 * len(clicks)
    quality = Quality(ad_free=AD_FREE, quality_loss=loss, ad_text_share=0.2, ads=ads)
    feedback = Feedback(clicks=tuple(clicks), satisfaction=0.9 - loss, quality=quality)
    return settle(auction, answer, feedback, values, Objective(), **place)  # type: ignore[arg-type]
