"""The SHAPES of replies that servers send, and what becomes of each.

The tests run them through a client, a judge and a whole run; the documentation shows them as a table.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from simenv.testing.fake_openai import FakeFailure, FakeMessage, FakeRaw

Made = str | FakeMessage | FakeRaw | FakeFailure
Outcome = Literal["read", "empty", "retried", "refused", "cut short"]
"""What a call comes to: see `OUTCOMES`."""
Verdict = Literal["read", "unreadable", "in part"]
"""What becomes of a judge's verdicts: see `VERDICTS`."""

OUTCOMES: Mapping[Outcome, str] = {
    "read": "the answer is read",
    "empty": "an empty answer, which is counted",
    "retried": "asked again; a failed answer after the last attempt",
    "refused": "a failed answer at once",
    "cut short": "a failed answer at once, whose error names max_tokens",
}
VERDICTS: Mapping[Verdict, str] = {
    "read": "; of a judge: the verdicts are read",
    "unreadable": "; of a judge: asked once more, then an abstention",
    "in part": "; of a judge: an abstention on the ads without a verdict",
}
USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
MUCH = 2_100_000


@dataclass(frozen=True)
class Shape:
    """One form of reply.

    Attributes:
        name: What the server sends.
        make: The reply, from the text that it would hold.
        call: What a call comes to.
        verdict: What becomes of a judge's verdicts; None where it is as for any answer.
        tokens: Whether the tokens are known.
    """

    name: str
    make: Callable[[str], Made]
    call: Outcome = "read"
    verdict: Verdict | None = None
    tokens: bool = True


def completion(text: Any, *, finish: str | None = "stop", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    """A chat completion as a server sends it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    whole = {"id": "c1", "object": "chat.completion", "created": 1, "model": "fake", "choices": [choice]}
    return {**whole, "usage": usage, **more}


def _message(finish: str = "stop", usage: Mapping[str, Any] | None = USAGE, **fields: Any) -> Callable[[str], Made]:
    """A message with these fields; $ in them is the text."""

    def filled(value: Any, text: str) -> Any:
        if isinstance(value, str):
            return value.replace("$", text)
        if isinstance(value, list):
            return [filled(each, text) for each in value]
        return {k: filled(v, text) for k, v in value.items()} if isinstance(value, dict) else value

    return lambda text: FakeMessage(filled(fields, text), finish, usage)


def _body(change: Callable[[bytes], bytes], content_type: str = "application/json") -> Callable[[str], Made]:
    return lambda text: FakeRaw(change(json.dumps(completion(text)).encode()), content_type=content_type)


def _whole(**more: Any) -> Callable[[str], Made]:
    return lambda text: FakeRaw(json.dumps(completion(text, **more)).encode())


def _raw(
    body: bytes, status: int = 200, content_type: str = "application/json", pause: float = 0
) -> Callable[[str], Made]:
    return lambda _: FakeRaw(body, status, content_type, pause)


def _fails(status: int, message: str, **fields: Any) -> Callable[[str], Made]:
    return lambda _: FakeFailure(status, message, **fields)


def _without(*names: str) -> Callable[[str], Made]:
    return lambda text: FakeRaw(json.dumps({k: v for k, v in completion(text).items() if k not in names}).encode())


def _verdicts(change: Callable[[list[dict[str, Any]]], str]) -> Callable[[str], Made]:
    """Another form of a judge's reply; other texts stay as they are."""

    def make(text: str) -> Made:
        inner = text.strip().removeprefix("```json").removesuffix("```")
        try:
            return change(json.loads(inner)["verdicts"])
        except (ValueError, TypeError, KeyError):
            return text

    return make


def _nested(rows: list[dict[str, Any]]) -> str:
    return json.dumps({"verdicts": rows})


def _words(rows: list[dict[str, Any]]) -> str:
    return _nested([{**row, "clicked": "yes" if row["clicked"] else "No"} for row in rows])


_CALL = {"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
_HARMONY = "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>$<|return|>"
_EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "Take"}}]}\n\ndata: [DONE]\n\n'
_THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}


def _answers() -> Iterator[Shape]:
    yield Shape("text", lambda text: text)
    yield Shape("content in parts", _message(content=[{"type": "text", "text": "$"}]))
    yield Shape("content in parts, with thinking", _message(content=[_THINKING, {"type": "text", "text": "$"}]))
    yield Shape("`reasoning_content` beside the text", _message(content="$", reasoning_content="Hm."))
    yield Shape("`<think>` before the text", _message(content="<think>Hm.</think>$"))
    yield Shape("`<THINKING>` in capitals", _message(content="<THINKING>\nHm.\n</THINKING>\n$"))
    yield Shape("a lone `</think>`", _message(content="Hm.</think>$"))
    yield Shape("channels of analysis and answer", _message(content=_HARMONY))
    yield Shape("no `usage`", _message(usage=None, content="$"), tokens=False)
    yield Shape("`usage` of zeros", _message(usage=dict.fromkeys(USAGE, 0), content="$"), tokens=False)
    yield Shape("negative `usage`", _message(usage=dict.fromkeys(USAGE, -1), content="$"), tokens=False)
    yield Shape("`usage` null", _whole(usage=None), tokens=False)
    yield Shape("`finish_reason` null", _whole(finish=None))
    yield Shape("unknown fields", _whole(timings={"ms": 3}, system_fingerprint="b1"))
    yield Shape("no `id`, `created`, `model`", _without("id", "created", "model"))
    yield Shape("a byte order mark before the JSON", _body(lambda body: b"\xef\xbb\xbf" + body))
    yield Shape("white space around the JSON", _body(lambda body: b"\n\n" + body + b"\n"))
    yield Shape("half a surrogate pair", lambda text: text.replace(" ", " \ud83d", 1), verdict="unreadable")
    yield Shape("an empty text", _message(content=""), "empty", "unreadable")
    yield Shape("a refusal in words", _message(content="I can't help with that."), verdict="unreadable")


def _of_judges() -> Iterator[Shape]:
    yield Shape(
        "verdicts in a Markdown fence", _verdicts(lambda rows: f"```json\n{_nested(rows)}\n```"), verdict="read"
    )
    yield Shape(
        "prose before the fence", _verdicts(lambda rows: f"Here:\n```json\n{_nested(rows)}\n```\nDone."), verdict="read"
    )
    yield Shape("verdicts as a bare list", _verdicts(json.dumps), verdict="read")
    yield Shape("a trailing comma", _verdicts(lambda rows: _nested(rows)[:-2] + ",]}"), verdict="read")
    yield Shape("single quotes and True, False", _verdicts(lambda rows: str({"verdicts": rows})), verdict="read")
    yield Shape('"yes" and "No"', _verdicts(_words), verdict="read")
    yield Shape(
        "ids in capitals",
        _verdicts(lambda rows: _nested([{**r, "ad_id": r["ad_id"].upper()} for r in rows])),
        verdict="read",
    )
    yield Shape("verdicts in prose", _verdicts(lambda rows: "I would click the first."), verdict="unreadable")
    yield Shape("half of the JSON", _verdicts(lambda rows: _nested(rows)[:-9]), verdict="unreadable")
    yield Shape(
        "two verdicts on one ad",
        _verdicts(lambda rows: _nested([*rows, {**rows[0], "clicked": not rows[0]["clicked"]}])),
        verdict="unreadable",
    )
    yield Shape(
        "verdicts on ads that are not shown",
        _verdicts(lambda rows: _nested([{**row, "ad_id": "other"} for row in rows])),
        verdict="unreadable",
    )
    yield Shape("no verdict on an ad", _verdicts(lambda rows: _nested(rows[1:])), verdict="in part")


def _refusals() -> Iterator[Shape]:
    yield Shape("a `refusal`", _message(content=None, refusal="I cannot help"), "refused")
    yield Shape("a content filter, no text", _message("content_filter", content=None), "refused")
    yield Shape("a content filter, some text", _message("content_filter", content="Take"), "refused")
    yield Shape("a content filter, status 400", _fails(400, "no such talk", code="content_filter"), "refused")
    yield Shape("a tool call", _message("tool_calls", content=None, tool_calls=[_CALL]), "refused")
    yield Shape("status 400", _fails(400, "bad request"), "refused")
    yield Shape("status 401", _fails(401, "wrong key"), "refused")
    yield Shape("status 402", _fails(402, "pay first"), "refused")
    yield Shape("status 403", _fails(403, "not yours"), "refused")
    yield Shape("status 404", _fails(404, "no such model"), "refused")
    yield Shape("status 413", _fails(413, "too large"), "refused")
    yield Shape("status 422 with a list", _raw(b'{"detail": [{"loc": ["body"], "msg": "bad"}]}', 422), "refused")
    yield Shape("status 429, quota used up", _fails(429, "see billing", code="insufficient_quota"), "refused")
    yield Shape("a stream of events", _raw(_EVENTS, content_type="text/event-stream"), "refused")
    yield Shape("a stream of events, said to be JSON", _raw(_EVENTS), "refused")
    yield Shape("status 400: streams alone", _fails(400, "stream must be true"), "refused")
    yield Shape("more than 2 MB", lambda _: FakeMessage({"content": "boots " * (MUCH // 6)}), "refused")
    yield Shape("reasoning up to the limit, `content` null", _message("length", content=None), "cut short")
    yield Shape("reasoning up to the limit, in `<think>`", _message("length", content="<think>Hm"), "cut short")
    yield Shape("reasoning up to the limit, beside", _message("length", content="", reasoning="Hm"), "cut short")


def _failures() -> Iterator[Shape]:
    yield Shape("`content` null", _message(content=None), "retried")
    yield Shape("an open `<think>` that ends", _message(content="<think>Hm."), "retried")
    yield Shape("status 408", _fails(408, "too slow"), "retried")
    yield Shape("status 429", _fails(429, "too many requests"), "retried")
    yield Shape("status 500", _fails(500, "oops"), "retried")
    yield Shape("status 502 in HTML", _raw(b"<html>Bad gateway</html>", 502, "text/html"), "retried")
    yield Shape("status 503", _fails(503, "loading the model"), "retried")
    yield Shape("status 529", _fails(529, "overloaded"), "retried")
    yield Shape("a page in HTML", _raw(b"<html>Log in</html>", content_type="text/html"), "retried")
    yield Shape("an empty body", _raw(b""), "retried")
    yield Shape("`null`", _raw(b"null"), "retried")
    yield Shape("a list", _raw(b"[]"), "retried")
    yield Shape("no choices", _whole(choices=[]), "retried")
    yield Shape("half of the body", _body(lambda body: body[: len(body) // 2]), "retried")
    yield Shape("two bodies in one", _body(lambda body: body * 2), "retried")
    yield Shape("another encoding than UTF-8", _body(lambda body: body.replace(b'"fake"', b'"caf\xe9"')), "retried")
    yield Shape("an error with status 200", _raw(b'{"error": {"message": "busy", "code": 503}}'), "retried")
    yield Shape("a completion of the old form", _raw(b'{"choices": [{"text": "Take boots.", "index": 0}]}'), "retried")
    yield Shape("another protocol", _raw(b'{"message": {"content": "Take boots."}, "done": true}'), "retried")
    yield Shape("the connection is cut", lambda _: FakeRaw(b"", cut=True), "retried")
    yield Shape("the connection is cut in the body", lambda text: FakeRaw(text.encode() * 9, cut=True), "retried")
    yield Shape("no reply", lambda _: FakeRaw(b"{}", pause=60), "retried")
    yield Shape("a byte now and then", _raw(b'{"id": "drop by drop"}' * 100, pause=0.05), "retried")


SHAPES: tuple[Shape, ...] = (*_answers(), *_of_judges(), *_refusals(), *_failures())
