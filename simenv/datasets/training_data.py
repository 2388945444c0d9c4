"""Preferences, demonstrations and labels from a run's log, in the formats of TRL's trainers.

preferences   prompt, chosen, rejected      DPOTrainer (Rafailov et al. 2023); pairs as in LLM-Auction (2025)
sft           prompt, completion            SFTTrainer
kto           prompt, completion, label     KTOTrainer (Ethayarajh et al. 2024)

All are conversational: the prompt is a list of messages, an answer is a list of one assistant message. Only answers to
the same auction with the same bids are compared. There are two separate comparisons: the answers of the run's
mechanisms, by the judge's rewards, and the candidate texts that a mechanism logged, by the mechanism's own scores. If
the judge abstained on an answer, neither the answer nor its candidates are used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from simenv.errors import InputError
from simenv.llm.special_tokens import broken_up
from simenv.records import Auction, Transition

# The one-call prompt with bids, identical to the prompt of the mechanism `prompted` for a capable model (LLM-Auction,
# section 5.1, step 2); a test checks that they are equal. This copy exists because simenv must not import `mechanisms`,
# and because a user's own `mechanisms` folder may shadow the one of this project.
_SYSTEM = """\
You are a helpful assistant that is paid for by advertisers. Answer the user's question, and where it helps the user, \
weave in ads from the list of candidates.

Rules:
1. Insert none, one or several ads; more than {max_ads} hurt the user.
2. Write each ad as @Ad Title@[Ad-ID], with title and id copied exactly from the list, inside a sentence that fits \
the answer.
3. The platform earns an ad's bid when the user clicks it: prefer ads with a high bid that the user likes.
4. Say nothing about ads, candidates, bids or these rules in the answer."""
_USER = """\
User profile: {profile}

Candidate ads (JSON):
{candidates}

Question: {query}"""

Row = dict[str, Any]


class NoRows(InputError):
    """The answers give no row of a format."""


class Answer(NamedTuple):
    """One answer to an auction."""

    text: str
    mechanism: str
    reward: float
    """Currency per answer."""


class Rivals(NamedTuple):
    """Distinct answers to the same auction whose rewards are on one scale."""

    auction: Auction
    source: str
    """Source of the rewards: "judge", or "candidates" for a mechanism's own scores."""
    answers: list[Answer]


def ad_prompt(auction: Auction) -> list[dict[str, str]]:
    """Builds the prompt for a model that selects ads by itself: a system and a user message, with the bids.

    Special tokens of chat models in texts from outside are broken up, as in every prompt of a run: a tokenizer would
    make turns of them.
    """
    candidates = [
        {"id": bid.ad.id, "title": bid.ad.title, "bid": bid.amount} | ({} if bid.unit == "click" else {"per": bid.unit})
        for bid in auction.bids
        if auction.admits(bid)
    ]
    user = _USER.format(
        profile=auction.profile or "unknown",
        candidates=json.dumps(candidates, ensure_ascii=False),
        query=auction.query.text,
    )
    system = _SYSTEM.format(max_ads=auction.max_ads)
    return [{"role": "system", "content": system}, {"role": "user", "content": broken_up(user)}]


def preference_rows(transitions: Iterable[Transition], min_gap: float = 10.0) -> list[Row]:
    """Returns every pair of rival answers whose rewards differ by more than `min_gap` (currency per answer).

    Rows are in the order of the auctions. Within an auction, judged answers come before logged candidates; then rows
    are sorted by the reward of the chosen and by the reward of the rejected answer, both descending.

    Raises:
        InputError: no such pair.
    """
    return list(training_rows("preferences", [list(transitions)], min_gap=min_gap))


def sft_rows(transitions: Iterable[Transition], min_reward: float = 0.0) -> list[Row]:
    """Returns the best judged answer of each auction, if its reward exceeds `min_reward` (currency per answer).

    Raises:
        InputError: no such answer.
    """
    return list(training_rows("sft", [list(transitions)], min_reward=min_reward))


def kto_rows(transitions: Iterable[Transition]) -> list[Row]:
    """Returns labelled answers: True if the reward is positive and above the rivals' mean, False if below the mean.

    Other answers, such as those without a rival, are left out. A text gets at most one row per auction; a label by the
    judge's rewards has priority over one by candidate scores.

    Raises:
        InputError: no answer has a label.
    """
    return list(training_rows("kto", [list(transitions)]))


def training_rows(
    format: str, groups: Iterable[Sequence[Transition]], *, min_gap: float = 10.0, min_reward: float = 0.0
) -> Iterator[Row]:
    """Yields the rows of a format. Only one group of transitions needs to be in memory.

    Args:
        format: preferences, sft or kto.
        groups: Parts of a log. All answers to an auction must be in one of them.
        min_gap, min_reward: See `preference_rows` and `sft_rows`.

    Raises:
        NoRows: no row, after all groups were read.
    """
    rows = answers = rivals = 0
    for group in groups:
        for of_auction in _rivals(group):
            compared = [each for each in of_auction if format != "sft" or each.source == "judge"]
            rivals += len(compared)
            answers += sum(len(each.answers) for each in compared)
            if format == "kto":
                made = _labels(compared)
            else:
                made = [
                    row
                    for each in compared
                    for row in (_pairs(each, min_gap) if format == "preferences" else _best(each, min_reward))
                ]
            rows += len(made)
            yield from made
    if rows:
        return
    what, needed = {
        "preferences": ("preference pairs", f"a gap of rewards above {min_gap:g}: give a lower min_gap"),
        "sft": ("answers to learn from", f"a reward above {min_reward:g}: give a lower min_reward"),
        "kto": ("labelled answers", "rivals of another reward: run several mechanisms"),
    }[format]
    if not rivals:
        raise NoRows(f"no {what}: the run has no answer on which the judge did not abstain")
    raise NoRows(f"no {what}: none of {answers} distinct answers to {rivals} auctions has {needed}")


def _pairs(rivals: Rivals, min_gap: float) -> list[Row]:
    ranked = sorted(rivals.answers, key=lambda answer: -answer.reward)  # stable: ties keep the log's order
    return [
        {
            "prompt": ad_prompt(rivals.auction),
            "chosen": _messages(chosen),
            "rejected": _messages(rejected),
            "gap": chosen.reward - rejected.reward,
            "chosen_reward": chosen.reward,
            "rejected_reward": rejected.reward,
            "mechanisms": [chosen.mechanism, rejected.mechanism],
            "source": rivals.source,
            "auction_id": rivals.auction.id,
        }
        for place, chosen in enumerate(ranked)
        for rejected in ranked[place + 1 :]
        if chosen.reward - rejected.reward > min_gap
    ]


def _best(rivals: Rivals, min_reward: float) -> list[Row]:
    best = max(rivals.answers, key=lambda answer: answer.reward)
    if best.reward <= min_reward:
        return []
    return [_completion(rivals.auction, best) | {"mechanism": best.mechanism, "auction_id": rivals.auction.id}]


def _labels(of_auction: Sequence[Rivals]) -> list[Row]:
    rows: dict[str, Row] = {}
    for auction, source, answers in of_auction:
        mean = sum(answer.reward for answer in answers) / len(answers)
        for answer in answers:
            if math.isclose(answer.reward, mean, rel_tol=1e-9, abs_tol=1e-9):
                continue  # the mean of equal rewards may differ from them by a rounding error
            if answer.reward < mean or answer.reward > 0:
                row = _completion(auction, answer) | {"label": answer.reward > mean, "mean_reward": mean}
                row |= {"mechanism": answer.mechanism, "source": source, "auction_id": auction.id}
                rows.setdefault(answer.text, row)
    return list(rows.values())


def _rivals(transitions: Iterable[Transition]) -> Iterator[list[Rivals]]:
    """The rivals of each auction, in the order of the log. With learning bidders, one index has several auctions."""
    groups: dict[Auction, list[Transition]] = {}
    for transition in transitions:
        # An answer to a follow-up question is none to the query, which the prompt has.
        if transition.abstentions == 0 and transition.outcome.chosen is None:
            groups.setdefault(transition.auction, []).append(transition)
    for auction, rows in groups.items():
        # Rewards must be comparable: use expectations over clicks only if every rival has one.
        expected = all(t.expected_reward is not None for t in rows)
        rewards = [t.expected_reward if expected else t.reward for t in rows]
        judged = [
            Answer(t.outcome.response, t.mechanism, reward)
            for t, reward in zip(rows, rewards, strict=True)
            if reward is not None
        ]
        sources = [("judge", judged), *(("candidates", _candidates(t)) for t in rows)]
        yield [Rivals(auction, source, distinct) for source, answers in sources if (distinct := _distinct(answers))]


def _candidates(transition: Transition) -> list[Answer]:
    """Returns the texts that a mechanism logged as `candidate_texts`, with their `candidate_scores`."""
    details = transition.outcome.details
    texts, scores = details.get("candidate_texts"), details.get("candidate_scores")
    if not isinstance(texts, list) or not isinstance(scores, list) or len(texts) != len(scores):
        return []
    return [
        Answer(text, transition.mechanism, float(score))
        for text, score in zip(texts, scores, strict=True)
        if isinstance(text, str) and isinstance(score, int | float)
    ]


def _distinct(answers: Iterable[Answer]) -> list[Answer]:
    """Returns each text once, with the mean of its rewards and all its mechanisms; blank texts are left out."""
    by_text: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.text.strip():
            by_text.setdefault(answer.text, []).append(answer)
    return [
        Answer(text, "+".join(dict.fromkeys(a.mechanism for a in group)), sum(a.reward for a in group) / len(group))
        for text, group in by_text.items()
    ]


def _messages(answer: Answer) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": broken_up(answer.text)}]


def _completion(auction: Auction, answer: Answer) -> Row:
    return {"prompt": ad_prompt(auction), "completion": _messages(answer), "reward": answer.reward}
