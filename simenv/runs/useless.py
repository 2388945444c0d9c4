"""Replies that say nothing: refusals, empty answers, failures, and judges that cannot be read.

A run of them has a table that looks like any other. So each kind is counted, and above a share the run says so.
"""

from __future__ import annotations

from collections import Counter

from simenv.links import masked_links
from simenv.records import Transition
from simenv.refusals import is_a_refusal, may_hold_refusal
from simenv.runs.failures import too_many
from simenv.text import sentence_spans

UNREADABLE = "unreadable: "
"""How the reason of a verdict begins that could not be read."""


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
    return may_hold_refusal(transition.outcome.response) and is_a_refusal(text_without_ads(transition))


def is_empty(transition: Transition) -> bool:
    """Whether the answer is blank, or is ads alone where the model's own answer is blank."""
    if not transition.outcome.response.strip():
        return True
    quality = transition.feedback.quality
    ad_free = None if quality is None else quality.ad_free
    return ad_free is not None and not ad_free.strip() and not text_without_ads(transition)


class Findings:
    """What makes the table of a run worthless, counted answer by answer."""

    def __init__(self) -> None:
        self._answers: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._useless: dict[str, Counter[str]] = {"are empty": Counter(), "are refusals": Counter()}
        self._examples: dict[str, str] = {}
        self._verdicts = self._unreadable = 0

    def add(self, t: Transition) -> None:
        """Counts one answer."""
        if t.error is not None:
            self._failed[t.mechanism] += 1
            self._examples.setdefault("failed", t.error.text)
            return
        self._answers[t.mechanism] += 1
        for kind, found in (("are empty", is_empty), ("are refusals", is_refusal)):
            if found(t):
                self._useless[kind][t.mechanism] += 1
                self._examples.setdefault(kind, t.outcome.response)
        for click in t.feedback.clicks:
            self._verdicts += 1
            if click.clicked is None and click.reason.startswith(UNREADABLE):
                self._unreadable += 1
                self._examples.setdefault("unreadable", click.reason)

    def add_all(self, later: Findings) -> None:
        """Adds the counts of later answers."""
        self._answers += later._answers
        self._failed += later._failed
        for kind, counts in later._useless.items():
            self._useless[kind] += counts
        self._examples = later._examples | self._examples
        self._verdicts += later._verdicts
        self._unreadable += later._unreadable

    def problems(self, limit: float, failures: float) -> list[str]:
        """What makes the table worthless, one sentence each.

        Args:
            limit: Largest share of refusals, and of empty answers, of a mechanism.
            failures: How many of the run's answers may fail: a share below 1, or a number.
        """
        said = []
        failed, examples = self._failed.total(), self._examples
        asked = self._answers.total() + failed
        if failed and too_many(failed, asked, failures):
            said.append(f"{failed} of {asked} answers failed; the first: {examples['failed']}")
        for kind, counts in self._useless.items():
            worst = {name: counts[name] for name, n in self._answers.items() if counts[name] > limit * n}
            if worst:
                each = ", ".join(f"{n} of {self._answers[name]} of {name}" for name, n in worst.items())
                first = f"; the first: {examples[kind]!r:.120}" if examples[kind] else ""
                said.append(f"answers {kind}: {each}{first}")
        if self._unreadable and self._unreadable == self._verdicts:
            said.append(f"none of the judge's {self._verdicts} verdicts could be read: {examples['unreadable']}")
        return said
