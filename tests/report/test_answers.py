"""The answers of the report: cut where ads and violations are, and drawn as whole questions."""

from __future__ import annotations

from typing import Any

from simenv.env.environment import transcript
from simenv.records import Gem, MarkupViolation, Quality, Transition
from simenv.report.answer import faults, pack, pieces
from simenv.report.answers import Sample
from tests.support.hand_made import turn

CLICKED = (True, 0.5)


def test_a_text_is_cut_at_its_ads_and_a_link_is_its_title() -> None:
    t = turn(0, {"a": CLICKED, "b": CLICKED}, text="Look 👢 here:")
    assert pieces(t) == ["Look 👢 here: ", ("Ad a", 0, -1), " ", ("Ad b", 1, -1)]


def test_a_violation_may_cover_an_ad() -> None:
    t = turn(0, {"a": CLICKED}, text="The auction chose")
    end = len(t.outcome.response)
    leak = MarkupViolation(kind="leaked_process", text=t.outcome.response, span=(0, end))
    covered = t.model_copy(update={"outcome": t.outcome.model_copy(update={"violations": (leak,)})})
    assert pieces(covered) == [("The auction chose ", -1, 0), ("Ad a", 0, 0)]
    assert faults(covered) == ["leaked process"]


def test_a_violation_may_cut_through_an_ad() -> None:
    t = turn(0, {"a": CLICKED}, text="x")
    start, end = t.outcome.placements[0].span
    part = MarkupViolation(kind="broken_markup", text="..", span=(start + 3, end))
    cut = t.model_copy(update={"outcome": t.outcome.model_copy(update={"violations": (part,)})})
    link = t.outcome.response[start:end]
    assert pieces(cut) == ["x ", (link[:3], 0, -1), (link[3:], 0, 0)]


def test_an_answer_has_the_quantities_that_were_measured() -> None:
    gem = Gem(
        flow=50, coherence=60, transition=None, transition_least=None, alignment=None, has_ad=0, injected=0, trust=30
    )
    t = turn(0, {"a": CLICKED})
    feedback = t.feedback.model_copy(update={"quality": Quality(gem=gem)})
    fields = pack(t.model_copy(update={"feedback": feedback}), {}).fields
    assert fields["gem"] == [("flow", 50), ("coherence", 60), ("has ad", 0), ("injected", 0), ("trust", 30)]
    assert "gem" not in pack(t, {}).fields


def sampled(answers: list[Transition], most: int) -> tuple[Sample, dict[str, Any]]:
    sample = Sample(most)
    for t in answers:
        sample.add(t)
    return sample, sample.page(["m", "n"], {})


def test_of_a_long_log_whole_questions_are_drawn() -> None:
    answers = [turn(i, {"a": CLICKED}, mechanism=name) for i in range(50) for name in ("m", "n")]
    sample, page = sampled(answers, most=21)
    assert (sample.answers, sample.kept, sample.questions, sample.kept_questions) == (100, 20, 50, 10)
    assert len(page["questions"]) == 10
    assert [answer["question"] for answer in page["answers"]] == [i for i in range(10) for _ in "mn"]
    assert [answer["mechanism"] for answer in page["answers"]] == [0, 1] * 10


def test_the_draw_does_not_depend_on_the_order() -> None:
    answers = [turn(i, {"a": CLICKED}, mechanism=name) for i in range(50) for name in ("m", "n")]
    _, page = sampled(answers, most=20)
    by_mechanism = sorted(answers, key=lambda t: (t.mechanism, -t.index))
    _, other = sampled(by_mechanism, most=20)
    assert sorted(page["questions"]) == sorted(other["questions"])


def test_one_question_is_never_cut() -> None:
    answers = [turn(0, {"a": CLICKED}, mechanism=name) for name in ("m", "n")]
    sample, _ = sampled(answers, most=1)
    assert sample.kept == 2


def test_equal_rows_are_held_once() -> None:
    _, page = sampled([turn(i, {"a": CLICKED}, mechanism=name) for i in range(3) for name in ("m", "n")], most=100)
    assert len(page["ads"]) == 3
    assert len(page["candidates"]) == 1
    assert len(page["personas"]) == 1


def test_candidates_that_differ_between_mechanisms_are_told_apart() -> None:
    """Bidders that learn bid by mechanism."""
    one, other = (turn(0, {"a": CLICKED}, mechanism=name) for name in ("m", "n"))
    bids = tuple(bid.model_copy(update={"amount": bid.amount / 2}) for bid in other.auction.bids)
    other = other.model_copy(update={"auction": other.auction.model_copy(update={"bids": bids})})
    _, page = sampled([one, other], most=100)
    assert len(page["questions"]) == 1
    assert [answer["candidates"] for answer in page["answers"]] == [0, 1]
    assert [row[0][1] for row in page["candidates"]] == [10.0, 5.0]


def test_a_note_of_the_mechanism_is_shown() -> None:
    row = turn(0, {"a": CLICKED})
    details = {"note": "waits:\nit\x1b is early"}
    noted = row.model_copy(update={"outcome": row.outcome.model_copy(update={"details": details})})
    assert pack(noted, {}).fields["note"] == "waits:\nit\x1b is early"
    assert "\n  note: waits: it\\x1b is early" in transcript(noted)
    for other in ({}, {"note": 3}):
        plain = noted.model_copy(update={"outcome": row.outcome.model_copy(update={"details": other})})
        assert "note" not in pack(plain, {}).fields
        assert "note" not in transcript(plain)


def test_questions_of_linked_turns_name_their_session() -> None:
    apart = turn(0, {"a": CLICKED}, mechanism="m")
    auction = apart.auction.model_copy(update={"horizon": 3, "session_id": "0.4.walker"})
    _, plain = sampled([apart], most=10)
    _, linked = sampled([apart.model_copy(update={"auction": auction})], most=10)
    assert linked["questions"] == [[*plain["questions"][0], "0.4.walker", 3]]
