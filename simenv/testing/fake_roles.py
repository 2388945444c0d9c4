"""A FAKE model for `FakeOpenAI`: invented replies in every role; the prompt identifies the role."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from simenv.seeding import keyed_int

QUESTIONS = (
    "Which hiking boots stay dry on wet trails?",
    "Where are quiet campsites near a lake?",
    "What knife should I buy for cooking?",
)
"""The queries of every user."""


def clicked(ad_id: str) -> bool:
    """Returns whether the fake judge clicks an ad: if its number is even."""
    number = re.search(r"\d+$", ad_id)
    if number is None:
        raise ValueError(f"expected an ad id that ends in a number, got {ad_id!r}")
    return int(number[0]) % 2 == 0


def unreadable(answer: str) -> bool:
    """Returns whether the fake judge replies in prose, without JSON: for a third of the answers, by their text."""
    return keyed_int("unreadable", answer) % 3 == 0


class FakeRoles:
    """The replies of a model that writes queries and answers, inserts ads and judges: the `reply` of `FakeOpenAI`.

    Ad ids must end in a number, like "ad-7" in `ADS` or "A348".
    """

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        """Role -> requests so far: queries, answer, sentence, one_call, judge, choice, follow_ups, preflight."""
        self.once: Callable[[], None] = lambda: None
        """Called at the first request for queries, and only then."""

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        system = messages[0]["content"] if messages[0]["role"] == "system" else ""
        user = messages[-1]["content"]
        roles = {
            "judge": "decide which of the ads" in system,
            "choice": "offers follow-up questions" in system,
            "follow_ups": "different follow-up questions" in user,
            "one_call": "paid for by advertisers" in system,
            "answer": "Answer the question in two or three" in system,
            "queries": "You are role-playing a person" in user,
            "sentence": "Write ONE sentence" in user,
            "preflight": user == "Hello",
        }
        fitting = [name for name, fits in roles.items() if fits]
        if len(fitting) != 1:
            raise ValueError(f"expected a prompt of one role of {', '.join(roles)}, got one of {fitting}: {user!r}")
        role = fitting[0]
        self.seen[role] = self.seen.get(role, 0) + 1
        reply: str = getattr(self, role)(user)
        return reply

    def preflight(self, user: str) -> str:
        return "Hi"

    def queries(self, user: str) -> str:
        self.once()
        self.once = lambda: None
        return "\n".join(f"{i}. {text}" for i, text in enumerate(QUESTIONS, start=1))

    def follow_ups(self, user: str) -> str:
        return "\n".join(f"{i}. {text}" for i, text in enumerate(QUESTIONS, start=1))

    def choice(self, user: str) -> str:
        offered = re.search(r"<offer (\w+)>\n(?P<text>.*)\n</offer \1>", user, re.DOTALL)
        assert offered
        return json.dumps({"choice": keyed_int("choice", user) % (offered["text"].count("\n") + 2), "reason": "so"})

    def answer(self, user: str) -> str:
        return f"That depends on what you need. You asked: {user}"

    def one_call(self, user: str) -> str:
        listed = re.search(r"\(JSON\):\n(.*)\n", user)
        assert listed
        ads = json.loads(listed[1])
        best = sorted(ads, key=lambda ad: (-ad.get("bid", 0), ad["id"]))[:2]
        return "It depends. " + " ".join(f"Many like @{ad['title']}@[{ad['id']}] for it." for ad in best)

    def sentence(self, user: str) -> str:
        link = re.search(r"Its link: (.*)", user)
        assert link
        # For some ads the link is copied wrongly; the mechanism must not show it.
        return f"Have a look at {link[1] if clicked(link[1].rpartition('[')[2][:-1]) else link[1].lower()} some day."

    def judge(self, user: str) -> str:
        answer = re.search(r"<answer (\w+)>\n(?P<text>.*)\n</answer \1>", user, re.DOTALL)
        shown = re.search(r"by Ad-ID: (.*)", user)
        assert answer
        assert shown
        if unreadable(answer["text"]):
            return "As this person I would click the first one, I think."
        rows = [{"ad_id": i, "clicked": clicked(i), "reason": "it is even or not"} for i in shown[1].split(", ")]
        return f"```json\n{json.dumps({'verdicts': rows})}\n```"
