"""A scripted OpenAI-compatible server, neither Forkpoint nor vLLM, so that clients can be tested with every failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Reply = Callable[[dict[str, Any]], tuple[int, Any]]
"""A request's body -> the status and JSON to send; status 0 hangs up."""

Route = Callable[[str, dict[str, Any] | None], tuple[int, Any]]
"""Like Reply, for any other path below /v1; the body of a GET is None."""


@dataclass
class StubServer:
    """`requests` are the bodies of the requests for chat completions, in the order of their arrival."""

    url: str
    requests: list[dict[str, Any]] = field(default_factory=list)


def completion(text: str, tokens: int = 3, finish_reason: str = "stop", **extra: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens},
        **extra,
    }


def error(message: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": "BadRequestError", "param": None, "code": 400}}


def nothing_else(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
    """There is no other route."""
    return 404, error("Not Found")


@contextmanager
def stub_server(reply: Reply, route: Route = nothing_else) -> Iterator[StubServer]:
    """Serve chat completions with `reply` and all other routes with `route` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(*route(self.path.removeprefix("/v1"), None))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if not self.path.endswith("/chat/completions"):
                return self._send(*route(self.path.removeprefix("/v1"), body))
            running.requests.append(body)
            status, data = reply(body)
            return self._send(status, data) if status else None

        def _send(self, status: int, data: Any) -> None:
            raw = json.dumps(data).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
            """Nothing: the tests look at `requests`."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # with the default of 5, bursts of connections wait a second for a second SYN

    server = Server(("127.0.0.1", 0), Handler)
    running = StubServer(f"http://127.0.0.1:{server.server_port}/v1")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
