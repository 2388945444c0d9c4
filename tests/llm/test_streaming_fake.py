"""The fake server streams a reply where the request asks for it."""

from __future__ import annotations

import json
from urllib.request import Request, urlopen

from simenv.testing import FakeOpenAI


def test_a_stream_has_the_text_the_end_and_the_usage() -> None:
    body = {"model": "fake", "messages": [{"role": "user", "content": "Rain?"}], "stream": True, "max_tokens": 4}
    with FakeOpenAI(lambda messages: "Take a  coat.\nIt may rain.") as server:
        request = Request(f"{server.url}/chat/completions", json.dumps(body).encode())
        with urlopen(request) as reply:
            assert reply.headers["Content-Type"] == "text/event-stream"
            lines = reply.read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    events = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    choices = [event["choices"][0] for event in events if event["choices"]]
    assert choices[0]["delta"]["role"] == "assistant"
    assert "".join(choice["delta"].get("content", "") for choice in choices) == "Take a  coat.\nIt"
    assert choices[-1]["finish_reason"] == "length"
    assert events[-1]["usage"]["completion_tokens"] == 4
