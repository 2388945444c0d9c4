"""A loopback server for measurements of clients: OpenAI's protocol, invented replies, delays with jitter, failures.

It runs in a process of its own and parses no more of HTTP than a client's requests need, so that it is not the
bottleneck. The text of a reply depends only on the request's bytes. Delays and failures depend on the seed and on the
order of arrival. Failures are sent at once.

    python benchmarks/speed/loopback_server.py --delay 0.1 --jitter 0.5 --share-429 0.01 --share-500 0.01

prints its port in one line. GET /stats answers {"calls": ..., "failed": ..., "most_in_flight": ...} since the last
GET /reset. It ends when its standard input is closed, or at a signal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import zlib
from collections.abc import Iterator

_WORDS = [
    "take",
    "these",
    "boots",
    "for",
    "wet",
    "trails",
    "they",
    "keep",
    "water",
    "out",
    "and",
    "last",
    "for",
    "many",
    "years",
    "of",
    "walking",
]
_REPLY = (
    b'{"id":"chatcmpl-loopback","object":"chat.completion","created":1,"model":"loopback","choices":[{"index":0,'
    b'"message":{"role":"assistant","content":"%s"},"finish_reason":"stop","logprobs":null}],'
    b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
)


class Traffic:
    """What the server does, and what it has counted."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self._random = random.Random(options.seed)
        self.reset()

    def reset(self) -> None:
        self.calls = self.failed = self.in_flight = self.most_in_flight = 0

    def delay(self) -> float:
        """Seconds until the next reply."""
        jitter: float = self.options.jitter
        seconds: float = self.options.delay
        return seconds * (1 + jitter * (2 * self._random.random() - 1))

    def failure(self) -> bytes | None:
        """The reply to a call that fails, or None if the next call does not."""
        options, draw = self.options, self._random.random()
        if draw < options.share_429:
            return _response(b'{"error":{"message":"too many requests","code":429}}', b"429 Too Many Requests", options)
        if draw < options.share_429 + options.share_500:
            return _response(b'{"error":{"message":"oops","code":500}}', b"500 Internal Server Error")
        return None

    def reply(self, body: bytes) -> bytes:
        """The reply to a call: its words depend on the call's bytes alone."""
        mark, n = zlib.crc32(body), self.options.words
        text = " ".join([f"{mark:08x}", *(_WORDS[(mark + i) % len(_WORDS)] for i in range(n - 1))])
        prompt = len(body) // 4
        return _response(_REPLY % (text.encode(), prompt, n, prompt + n))


def _response(body: bytes, status: bytes = b"200 OK", options: argparse.Namespace | None = None) -> bytes:
    wait = b"" if options is None else b"Retry-After: %g\r\n" % options.retry_after
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
        % (
            status,
            wait,
            len(body),
        )
        + body
    )


class Connection(asyncio.Protocol):
    """One client's connection, kept open between requests."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while (head := self._read.find(b"\r\n\r\n")) >= 0:
            length = 0
            for line in self._read[:head].split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            end = head + 4 + length
            if len(self._read) < end:
                return
            first, body = self._read[: self._read.find(b"\r\n")], self._read[head + 4 : end]
            self._read = self._read[end:]
            self._answer(first, body)

    def _answer(self, first: bytes, body: bytes) -> None:
        traffic = self._traffic
        if first.startswith(b"GET"):
            if b"/reset" in first:
                traffic.reset()
            names = ("calls", "failed", "most_in_flight")
            self._transport.write(_response(json.dumps({name: getattr(traffic, name) for name in names}).encode()))
            return
        traffic.calls += 1
        failure = traffic.failure()
        if failure is not None:
            traffic.failed += 1
            self._transport.write(failure)
            return
        traffic.in_flight += 1
        traffic.most_in_flight = max(traffic.most_in_flight, traffic.in_flight)
        asyncio.get_running_loop().call_later(traffic.delay(), self._send, body)

    def _send(self, body: bytes) -> None:
        self._traffic.in_flight -= 1
        if not self._transport.is_closing():
            self._transport.write(self._traffic.reply(body))


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The options of the server."""
    parser = argparse.ArgumentParser(description="A loopback server for measurements of clients.")
    parser.add_argument("--delay", type=float, default=0.1, help="seconds from a call to its reply")
    parser.add_argument("--jitter", type=float, default=0.5, help="delays are up to this share shorter or longer")
    parser.add_argument("--share-429", type=float, default=0.0, help="share of calls that get status 429")
    parser.add_argument("--share-500", type=float, default=0.0, help="share of calls that get status 500")
    parser.add_argument("--retry-after", type=float, default=1.0, help="seconds in Retry-After of status 429")
    parser.add_argument("--words", type=int, default=60, help="words of a reply")
    parser.add_argument("--seed", type=int, default=0, help="of delays and failures")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    return parser.parse_args(line)


async def serve(options: argparse.Namespace) -> None:
    """Serves until standard input is closed."""
    traffic, loop = Traffic(options), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(traffic), "127.0.0.1", options.port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


@contextlib.contextmanager
def loopback(*options: str) -> Iterator[str]:
    """The server in a process of its own; yields its URL, which ends in /v1."""
    command = [sys.executable, __file__, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.stdin.close()
            process.wait(timeout=20)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments()))
