"""Contrasts of answer quality: pairs of answers without ads, of which one must satisfy more.

Each scenario of the contrast suite has a plain good answer. Five answers that are worse are made from it, in this order
from the worst:

    echo      it repeats the question
    other     the answer to a question of another category
    refusal
    looped    it begins well, then repeats its own words
    cut       it breaks off in its last sentence

Neighbours in this order are compared, and each answer with the good one. What is not compared is truth: an answer that
puts the Colosseum in Lisbon satisfies an embedding as much as one that puts it in Rome.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.markup import outcome
from simenv.quality.embedded import QualityMeasure
from simenv.records import Auction, Query, Record
from simenv.seeding import keyed_rng
from simenv.stats import Estimate, wilson
from simenv.text import sentences
from simenv.validity.scenarios import Scenario, persona

FORMS = ("echo", "other", "refusal", "looped", "cut", "good")
"""From the worst to the best."""
PAIRS = (*zip(FORMS[1:], FORMS, strict=False), *(("good", worse) for worse in FORMS[:-2]))
"""(the answer that must satisfy more, the other one)."""


class QualityContrast(Record):
    """How a measure ordered the pairs of one kind."""

    pairs: int
    """Measured pairs, one per scenario; a pair with an unknown value is left out."""
    right: int
    """Pairs ordered correctly. A tie is not correct."""
    share: Estimate
    """right / pairs, Wilson interval."""


class QualityValidity(Record):
    """Contrasts of a quality measure."""

    measure: str
    """Its name."""
    sha256: str
    """Of its parameters or prompts."""
    part: str
    """test, dev or all."""
    scenarios: int
    means: dict[str, float | None]
    """Form of the answer -> mean satisfaction. None: unknown for every scenario."""
    contrasts: dict[str, QualityContrast]
    """"better > worse" -> how the pairs were ordered."""


def answers(scenario: Scenario, others: Sequence[Scenario], seed: int = 0) -> dict[str, str]:
    """Form -> answer to the scenario's question.

    Args:
        scenario: The scenario.
        others: Scenarios of which one of another category gives the answer to another question.
        seed: Names the draws.
    """
    texts, good = _texts(), scenario.answer
    rng = keyed_rng("quality contrasts", scenario.id, seed)
    foreign = [other.answer for other in others if other.category != scenario.category]
    *_, last = sentences(good)
    tail = " ".join(last.rstrip(".").split()[-4:])
    looped = (f"{good} {last} {last}", f"{good.rstrip('.')}, {tail}, {tail}, {tail}, {tail}.", f"{good} {good}")
    return {
        "echo": str(rng.choice(texts["echoes"][scenario.split])).replace("{query}", scenario.query),
        "other": str(rng.choice(foreign)),
        "refusal": str(rng.choice(texts["refusals"][scenario.split])),
        "looped": str(rng.choice(looped)),
        "cut": good[: len(good) - max(2, int(len(last) * rng.uniform(0.2, 0.8)))].rstrip(" .,"),
        "good": good,
    }


async def measure_contrasts(
    measure: QualityMeasure, scenarios: Sequence[Scenario], part: str, seed: int = 0
) -> QualityValidity:
    """Measures the satisfaction with every answer as its own ad-free reference, and compares the pairs.

    Args:
        measure: Any object with a name, a sha256 and `async measure(persona, auction, outcome, ad_free) -> Feedback`.
        scenarios: The scenarios of the part, of at least two categories.
        part: Name of the part, for the report.
        seed: Names the draws.

    Raises:
        InputError: fewer than two categories, so that no other answer is there to compare with.
    """
    if len({scenario.category for scenario in scenarios}) < 2:
        raise InputError(f"contrasts of quality need scenarios of two categories, got {len(scenarios)} of one")

    async def ask(scenario: Scenario, text: str) -> float | None:
        auction = Auction(id=f"quality.{seed}.{scenario.id}", query=Query(text=scenario.query))
        return (await measure.measure(persona(scenario), auction, outcome(auction, text), text)).satisfaction

    texts = [answers(scenario, scenarios, seed) for scenario in scenarios]
    values = [
        dict(zip(FORMS, await gather(ask(scenario, row[form]) for form in FORMS), strict=True))
        for scenario, row in zip(scenarios, texts, strict=True)
    ]
    known = {form: [v for row in values if (v := row[form]) is not None] for form in FORMS}
    return QualityValidity(
        measure=measure.name,
        sha256=measure.sha256,
        part=part,
        scenarios=len(scenarios),
        means={form: sum(rows) / len(rows) if rows else None for form, rows in known.items()},
        contrasts={f"{better} > {worse}": _contrast(values, better, worse) for better, worse in PAIRS},
    )


def _contrast(values: Sequence[dict[str, float | None]], better: str, worse: str) -> QualityContrast:
    found = [(a, b) for row in values if (a := row[better]) is not None and (b := row[worse]) is not None]
    right = sum(a > b for a, b in found)
    return QualityContrast(pairs=len(found), right=right, share=wilson(right, len(found)))


@cache
def _texts() -> dict[str, dict[str, list[str]]]:
    text = (files("simenv.validity") / "answer_forms.toml").read_text(encoding="utf-8")
    found: dict[str, dict[str, list[str]]] = tomllib.loads(text)
    return found
