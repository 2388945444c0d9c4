"""Replies that say nothing: refusals, empty answers, failures, and judges that cannot be read.

A run of them has a table that looks like any other. So each kind is counted, and above a share the run says so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from simenv.links import masked_links
from simenv.records import Transition
from simenv.runs.failures import too_many
from simenv.text import sentence_spans

UNREADABLE = "unreadable: "
"""How the reason of a verdict begins that could not be read."""
_LONGEST = 300
"""Characters of a refusal: a longer answer that begins with "I can't" says something too."""
_REFUSAL = re.compile(
    r"""(?:(?:i['\u2019]?m|i\ am)\ (?:so\ |very\ |really\ )?sorry|sorry|unfortunately|my\ apologies|i\ apologi[sz]e)?
        [\s,.:;!\u2013\u2014-]*(?:but\ |however,?\ )?(?:as\ an?\ (?:ai|language)[\w\s-]{0,40},?\ )?
        i(?:\ (?:can(?:no|['\u2019])?t|could(?:\ not|n['\u2019]t)|won['\u2019]?t|will\ not|must\ (?:decline|refuse)
              |(?:do\ not|don['\u2019]t)\ feel\ comfortable|refuse|have\ to\ decline|decline)
          |(?:['\u2019]?m|\ am)\ (?:not\ able|unable|sorry)
          |['\u2019]ll\ have\ to\ decline)
        (?:\ to)?\b(?!\ (?:wait|imagine|believe|say\ enough|stress))
    """,
    re.VERBOSE | re.IGNORECASE,
)


def text_without_ads(transition: Transition) -> str:
    """The answer without the sentences that hold an ad."""
    text = transition.outcome.response
    spans = [placement.span for placement in transition.outcome.placements]
    kept = [
        text[start:stop]
        for start, stop in sentence_spans(masked_links(text))
        if not any(start < end and begin < stop for begin, end in spans)
    ]
    return "".join(kept).strip()


def is_refusal(transition: Transition) -> bool:
    """Whether the answer is nothing but a refusal, apart from its ads."""
    text = text_without_ads(transition)
    return 0 < len(text) <= _LONGEST and _REFUSAL.match(text) is not None


def is_empty(transition: Transition) -> bool:
    """Whether the answer is blank, or is ads alone where the model's own answer is blank."""
    if not transition.outcome.response.strip():
        return True
    quality = transition.feedback.quality
    ad_free = None if quality is None else quality.ad_free
    return ad_free is not None and not ad_free.strip() and not text_without_ads(transition)


def problems(transitions: Iterable[Transition], limit: float, failures: float) -> list[str]:
    """What makes the table of a run worthless, one sentence each.

    Args:
        transitions: The run's log.
        limit: Largest share of refusals, and of empty answers, of a mechanism.
        failures: How many of the run's answers may fail: a share below 1, or a number.
    """
    answers: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    useless: dict[str, Counter[str]] = {"are empty": Counter(), "are refusals": Counter()}
    examples: dict[str, str] = {}
    verdicts, unreadable = 0, []
    for t in transitions:
        if t.error is not None:
            failed[t.mechanism] += 1
            examples.setdefault("failed", t.error.text)
            continue
        answers[t.mechanism] += 1
        for kind, found in (("are empty", is_empty(t)), ("are refusals", is_refusal(t))):
            useless[kind][t.mechanism] += found
            if found:
                examples.setdefault(kind, t.outcome.response)
        verdicts += len(t.feedback.clicks)
        unreadable += [c.reason for c in t.feedback.clicks if c.clicked is None and c.reason.startswith(UNREADABLE)]
    said = []
    asked = sum(answers.values()) + sum(failed.values())
    if failed and too_many(sum(failed.values()), asked, failures):
        said.append(f"{sum(failed.values())} of {asked} answers failed; the first: {examples['failed']}")
    for kind, counts in useless.items():
        worst = {name: n for name, n in counts.items() if n > limit * answers[name]}
        if worst:
            each = ", ".join(f"{n} of {answers[name]} of {name}" for name, n in worst.items())
            said.append(f"answers {kind}: {each}" + (f"; the first: {examples[kind]!r:.120}" if examples[kind] else ""))
    if unreadable and len(unreadable) == verdicts:
        said.append(f"none of the judge's {verdicts} verdicts could be read: {unreadable[0]}")
    return said
