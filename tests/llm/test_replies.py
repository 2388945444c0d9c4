"""What models write around their answers, and JSON with faults."""

from __future__ import annotations

import pytest

from simenv.llm.replies import read_json, without_reasoning

HARMONY = "<|channel|>analysis<|message|>They want boots.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Take boots.", "Take boots."),
        (" Take boots.\n", " Take boots.\n"),
        ("<think>Hm.</think>Take boots.", "Take boots."),
        ("<think>\nHm.\n</think>\n\nTake boots.\n", "Take boots."),
        ("<THINK>Hm.</THINK> Take boots.", "Take boots."),
        ("<thinking>Hm.</thinking> Take boots.", "Take boots."),
        ("<think></think>Take boots.", "Take boots."),
        ("<think>Hm. <think>Or?</think>Take boots.", "Take boots."),
        ("<think>1</think>Take <think>2</think>boots.", "Take boots."),
        ("Hm.</think>Take boots.", "Take boots."),
        ("<think>They want", ""),
        ("Take boots. <think>They want", "Take boots."),
        ("<think>", ""),
        ("</think>", ""),
        ('<think>{"a": 1}</think>{"b": 2}', '{"b": 2}'),
        ('{"reason": "<think>x</think>"}', '{"reason": "<think>x</think>"}'),
        ('{"reason": "a </think> b"}', '{"reason": "a </think> b"}'),
        ('[{"reason": "a </think> b",}]', '[{"reason": "a </think> b",}]'),
        ('<think>Hm.</think>{"reason": "<think>"}', '{"reason": "<think>"}'),
        ('```json\n{"reason": "</think>"}\n```', '```json\n{"reason": "</think>"}\n```'),
        (f"{HARMONY}{FINAL}Take boots.<|return|>", "Take boots."),
        (f"{HARMONY}{FINAL}Take boots.", "Take boots."),
        (HARMONY, ""),
        ("<|channel|>analysis<|message|>They want", ""),
    ],
)
def test_the_answer_is_what_follows_the_reasoning(reply: str, answer: str) -> None:
    assert without_reasoning(reply) == answer


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2,], }', {"a": [1, 2]}),
        ("{'a': 'b'}", {"a": "b"}),
        ("{'a': \"it's\"}", {"a": "it's"}),
        (r"{'a': 'it\'s'}", {"a": "it's"}),
        ("{'a': 'say \"b\"'}", {"a": 'say "b"'}),
        (r"{'a': 'one\\'}", {"a": "one\\"}),
        ('{"a": "one\ntwo"}', {"a": "one\ntwo"}),
        ('{"a": True, "b": None}', {"a": True, "b": None}),
        ('{"a": "True, ]",}', {"a": "True, ]"}),
        ('\ufeff {"a": 1}', {"a": 1}),
        ('{"a": 1, "a": 1}', {"a": 1}),
    ],
)
def test_small_faults_of_json_are_read(text: str, value: object) -> None:
    assert read_json(text) == value


@pytest.mark.parametrize(
    "text", ["", "a", '{"a": 1', '{"a": 1} {"a": 1}', '{"a": 1, "a": 2}', "{'a': 'it's'}", "[1 2]", "[" * 100_000]
)
def test_what_is_not_json_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(text)
