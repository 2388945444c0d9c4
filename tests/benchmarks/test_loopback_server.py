"""The loopback server that clients are measured against: its replies, its failures and its counts."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from benchmarks.speed.loopback_server import Connection, Traffic, arguments


def request(body: bytes = b"", line: str = "POST /v1/chat/completions") -> bytes:
    return f"{line} HTTP/1.1\r\nHost: here\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def ask(sent: list[bytes], *options: str) -> list[tuple[str, dict[str, str], Any]]:
    """Status, headers and body of the replies on one connection."""
    traffic = Traffic(arguments(["--delay", "0.001", *options]))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(traffic), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        replies = []
        for part in sent:
            for half in (part[:50], part[50:]):  # a request may arrive in pieces
                writer.write(half)
                await writer.drain()
                await asyncio.sleep(0.001)
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in head[1:] if line)
            replies.append((head[0], headers, json.loads(await reader.readexactly(int(headers["Content-Length"])))))
        writer.close()
        await writer.wait_closed()
    return replies


def test_a_reply_depends_on_the_request_alone_and_calls_are_counted() -> None:
    stats = request(line="GET /stats")
    sent = [request(b'{"a": 1}'), request(b'{"a": 2}'), request(b'{"a": 1}'), stats, request(line="GET /reset"), stats]
    *replies, counts, _, after = [body for _, _, body in asyncio.run(ask(sent, "--words", "5"))]
    first, second, third = (reply["choices"][0]["message"]["content"] for reply in replies)
    assert first == third != second
    assert len(first.split()) == replies[0]["usage"]["completion_tokens"] == 5
    assert counts == {"calls": 3, "failed": 0, "most_in_flight": 1}
    assert after == {"calls": 0, "failed": 0, "most_in_flight": 0}


def test_a_share_of_calls_fails() -> None:
    options = ("--share-429", "0.5", "--share-500", "0.5", "--retry-after", "0.25")
    replies = asyncio.run(ask([request(b"{}")] * 10, *options))
    waits = {line: headers.get("Retry-After") for line, headers, _ in replies}
    assert waits == {"HTTP/1.1 429 Too Many Requests": "0.25", "HTTP/1.1 500 Internal Server Error": None}
