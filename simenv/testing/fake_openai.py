"""A FAKE server of a language model: real HTTP on this machine, invented replies.

It serves POST /v1/chat/completions of OpenAI's protocol, streamed where asked, and vLLM's /v1/load_lora_adapter and
/v1/unload_lora_adapter. Tokens are counted as words. It tests how a client handles a server and its failures;
measurements with it do not describe any model.

    with FakeOpenAI(lambda messages: "Take [TrailFox Boots](ad-1).") as server:
        server.fail_next(2, "429")
        llm = HostedLLM("openai/fake", api_base=server.url)
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, get_args

from simenv.seeding import keyed_rng
from simenv.testing.fake_stream import as_stream

Fault = Literal["429", "500", "timeout", "truncated", "no_choices", "dropped", "midstream"]
"""timeout: no answer until the server closes. truncated: half of the JSON, with a matching Content-Length. dropped: the
connection is cut before the answer. midstream: half of the answer is sent with the full Content-Length, then the
connection is cut."""
FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass(frozen=True)
class FakeMessage:
    """A reply that is more than a text."""

    message: Mapping[str, Any]
    """The message's fields: content, reasoning_content, refusal, tool_calls."""
    finish: str = "stop"
    usage: Mapping[str, Any] | None = None
    """None: the reply has no usage."""


@dataclass(frozen=True)
class FakeRaw:
    """A reply of any bytes at all, with any status."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    pause: float = 0.0
    """Seconds before each byte. The body is then sent one byte at a time, until the server closes."""
    cut: bool = False
    """Whether the connection is cut after half of the body; at once if there is none."""


class FakeFailure(Exception):
    """A failed request, raised by the reply function or given to `fail_next`.

    Args:
        status: HTTP status.
        message: What is wrong.
        headers: Headers of the reply, for instance Retry-After.
        fields: More fields of the error, for instance code or param.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None, **fields: Any) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": {"message": message, "type": "fake", "code": status, **fields}}


Reply = Callable[[list[dict[str, Any]]], str | FakeMessage | FakeRaw | FakeFailure]


class FakeOpenAI:
    """The server, as a context manager: it listens on a free port of 127.0.0.1 until the block ends.

    Args:
        reply: Gives the reply to a request's messages; called in the thread of the request. If it raises a FakeFailure,
            the client gets that failure, and status 500 for any other exception.
        api_key: The accepted key; None: any key, or none.
        model: The accepted model name; None: any.
        takes_schemas: Whether `response_format` is accepted; otherwise it gets status 400.
        refuses: Parameter -> failure of each request that has it; "system" stands for a message of the system role.
    """

    def __init__(
        self,
        reply: Reply,
        *,
        api_key: str | None = None,
        model: str | None = None,
        takes_schemas: bool = True,
        refuses: Mapping[str, FakeFailure] | None = None,
    ) -> None:
        self.reply = reply
        self.paths: list[str] = []
        """Path and query of all requests."""
        self.api_key = api_key
        self.model = model
        self.takes_schemas = takes_schemas
        self.refuses = dict(refuses or {})
        self.bodies: list[dict[str, Any]] = []
        """Bodies of all requests in order of arrival, including those that failed."""
        self.headers: list[dict[str, str]] = []
        """Headers of all requests, names in lower case."""
        self.adapters: dict[str, str] = {}
        """Name -> folder of the adapters that were loaded and not unloaded. A model name is not held against them."""
        self.most_in_flight = 0
        """Maximum number of concurrent requests."""
        self._closing = threading.Event()
        self._in_flight = 0
        self._faults: deque[Fault | FakeFailure] = deque()
        self._share: tuple[float, Fault] = (0.0, "500")
        self._lock = threading.Lock()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.fake = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> FakeOpenAI:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()  # wakes up handlers that simulate a time-out
        self._http.shutdown()
        self._thread.join()
        self._http.close_connections()
        self._http.server_close()

    @property
    def url(self) -> str:
        """The base URL for a client."""
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def count(self) -> int:
        """Number of requests so far, including failed ones."""
        return len(self.bodies)

    def fail_next(self, k: int, fault: Fault | FakeFailure) -> None:
        """Queues k failures: the next k requests fail this way, after failures that are already queued."""
        self._faults.extend([fault] * k)

    def fail_share(self, share: float, fault: Fault) -> None:
        """Makes this share of the next requests fail. The request number determines which ones."""
        self._share = (share, fault)

    def arrived(self, body: dict[str, Any], headers: dict[str, str]) -> Fault | FakeFailure | None:
        """Records a request and returns its fault, if any."""
        with self._lock:
            number = len(self.bodies)
            self.bodies.append(body)
            self.headers.append(headers)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
            if self._faults:
                return self._faults.popleft()
            share, fault = self._share
            return fault if keyed_rng("fake-openai", number).random() < share else None

    def left(self) -> None:
        """Records the end of a request. Called before the reply is sent, because then the next request may arrive."""
        with self._lock:
            self._in_flight -= 1


class _Server(ThreadingHTTPServer):
    fake: FakeOpenAI
    daemon_threads = False  # so that server_close waits for them
    request_queue_size = 512  # connections that arrive together; more than fit are tried again only after a second

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Prints what went wrong, unless the client has hung up."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self) -> None:
        """Closes connections that clients keep alive."""
        for connection in list(self._open):
            _cut(connection)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"  # keep-alive, like real servers
    wbufsize = -1  # sends head and body together
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        fake = self.server.fake
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fake.paths.append(self.path)
        fault = fake.arrived(body, {name.lower(): value for name, value in self.headers.items()})
        headers: dict[str, str] = {}
        raw: FakeRaw | None = None
        try:
            status, answer = self._answer(body, fault)
            if isinstance(answer, FakeRaw):
                raw, status = answer, answer.status
                answer = None if raw.cut and not raw.body else raw.body
        except FakeFailure as failure:
            status, answer, headers = failure.status, json.dumps(failure.body).encode(), failure.headers
        finally:
            fake.left()
        if answer is None:
            self.close_connection = True
            _cut(self.connection)
            return
        self.send_response(status)
        self.send_header("Content-Type", raw.content_type if raw else "application/json")
        self.send_header("Content-Length", str(len(answer)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if fault == "midstream" or (raw and raw.cut):
            self.wfile.write(answer[: len(answer) // 2])
            self.wfile.flush()
            self.close_connection = True
            _cut(self.connection)
            return
        if raw and raw.pause:
            self._drip(raw)
            return
        with contextlib.suppress(OSError):  # a client may hang up on a long reply
            self.wfile.write(answer)

    def _drip(self, raw: FakeRaw) -> None:
        with contextlib.suppress(OSError):
            for byte in raw.body:
                if self.server.fake._closing.wait(raw.pause):
                    break
                self.wfile.write(bytes([byte]))
                self.wfile.flush()
        self.close_connection = True

    def _answer(self, body: dict[str, Any], fault: Fault | FakeFailure | None) -> tuple[int, bytes | FakeRaw | None]:
        """Returns status and body; the body is None if the connection is cut."""
        fake = self.server.fake
        if isinstance(fault, FakeFailure):
            raise fault
        if fault == "timeout":
            fake._closing.wait(60)
            return 0, None
        if fault == "dropped":
            return 0, None
        if fault in ("429", "500"):
            raise FakeFailure(int(fault), "simulated failure")
        if self.path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter"):
            return self._adapter(body)
        if self.path.partition("?")[0] != "/v1/chat/completions":
            raise FakeFailure(404, f"no such path: {self.path}")
        if fake.api_key is not None and self.headers["Authorization"] != f"Bearer {fake.api_key}":
            raise FakeFailure(401, "incorrect API key")
        if fake.model is not None and body["model"] != fake.model:
            raise FakeFailure(404, f"the model {body['model']!r} does not exist")
        if "response_format" in body and not fake.takes_schemas:
            raise FakeFailure(400, "response_format is not supported here")
        roles = {message["role"] for message in body["messages"]}
        for name, failure in fake.refuses.items():
            if name in body or name in roles:
                raise failure
        try:
            reply = fake.reply(body["messages"])
        except FakeFailure:
            raise
        except Exception as error:  # an error of the reply function must reach the client
            raise FakeFailure(500, f"reply function: {error!r}") from None
        if isinstance(reply, FakeFailure):
            raise reply
        if isinstance(reply, FakeRaw):
            return reply.status, reply
        completion = _completion(body, reply, no_choices=fault == "no_choices")
        answer = as_stream(completion) if body.get("stream") else json.dumps(completion).encode()
        answer = answer[: len(answer) // 2] if fault == "truncated" else answer
        return 200, FakeRaw(answer, content_type="text/event-stream") if body.get("stream") else answer

    def _adapter(self, body: dict[str, Any]) -> tuple[int, bytes]:
        name, known = body["lora_name"], self.server.fake.adapters
        if self.path == "/v1/load_lora_adapter":
            known[name] = body["lora_path"]
        elif known.pop(name, None) is None:
            raise FakeFailure(404, f"the adapter {name!r} is not loaded")
        return 200, b"Success"

    def log_message(self, *_: object) -> None:
        """Suppresses the log on standard error."""


def _completion(body: dict[str, Any], reply: str | FakeMessage, *, no_choices: bool) -> dict[str, Any]:
    said = reply if isinstance(reply, FakeMessage) else _counted(body, reply)
    choice = {"index": 0, "message": {"role": "assistant", **said.message}, "finish_reason": said.finish}
    completion = {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [] if no_choices else [choice],
    }
    return completion if said.usage is None else {**completion, "usage": dict(said.usage)}


def _counted(body: dict[str, Any], text: str) -> FakeMessage:
    """The text, cut at the request's limit, with its words as tokens."""
    words = list(re.finditer(r"\S+", text))
    limit = body.get("max_tokens") or body.get("max_completion_tokens") or len(words)
    cut = len(words) > limit
    prompt_tokens = sum(len(message["content"].split()) for message in body["messages"])
    completion_tokens = min(len(words), limit)
    return FakeMessage(
        {"content": text[: words[limit - 1].end()] if cut else text},
        "length" if cut else "stop",
        {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    )


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the other side may have closed it
        connection.shutdown(socket.SHUT_RDWR)
