"""A small HTTP server for a verifier, for this machine alone.

    POST /predict    {"question": "...", "answers": ["...", ...], "choices": [...]}    ->    {"scores": [0.93, ...]}
    GET  /health     ->    {"status": "ok"}

It listens on the loopback address only, takes requests for no other host (a page in a browser could be made to send
them), one answer at a time to the model, bounded bodies, a bounded number of connections, and a bounded time
for each to send its request. Whatever is wrong comes back as {"error": "..."}.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from madrigal.tasks.discussion.verifier import Question, Verifier, verified
from madrigal.tasks.discussion.verifier.config import LOOPBACK
from madrigal.types import ConfigError, RewardError

HOST = "127.0.0.1"
LARGEST = 1 << 20  # bytes of a request
MOST = 256  # answers in a request
SILENCE = 30.0  # seconds that a client may say nothing
SENDING = 60.0  # seconds that a client may take to send its whole request
CONNECTIONS = 64  # at once; each has a thread
BUSY = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n" + b'{"error": "too many connections"}'
)


class RefusedError(Exception):
    """A request that is not answered: status and reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason


class Server(ThreadingHTTPServer):
    """A thread for each of at most CONNECTIONS connections; the others are told to come again."""

    daemon_threads = True

    def __init__(self, port: int, handler: type[BaseHTTPRequestHandler]) -> None:
        self.places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__((HOST, port), handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self.places.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.sendall(BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def make_server(verifier: Verifier, port: int = 0) -> Server:
    """A server that listens and waits for `serve_forever`; port 0 takes a free one.

    Raises:
        ConfigError: if the port cannot be had.
    """
    try:
        return Server(port, _handler(verifier))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"verifier serve: port {port} cannot be had ({error}); name another with --port") from error


def address_of(server: Server) -> str:
    """Where a server listens."""
    return f"http://{HOST}:{server.server_address[1]}"


def _handler(verifier: Verifier) -> type[BaseHTTPRequestHandler]:
    """The class that `http.server` asks for; requests go one at a time to the verifier."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        timeout = SILENCE

        def setup(self) -> None:
            super().setup()
            self.watch = threading.Timer(SENDING, _stop_listening, [self.request])
            self.watch.daemon = True
            self.watch.start()

        def finish(self) -> None:
            self.watch.cancel()
            super().finish()

        def do_GET(self) -> None:
            self.answer("/health", lambda: {"status": "ok"})

        def do_POST(self) -> None:
            self.answer("/predict", self.predict)

        def predict(self) -> dict[str, Any]:
            _check_kind(self.headers.get("Content-Type", ""))
            question, answers = read_request(self.rfile.read(_length(self.headers.get("Content-Length"))))
            self.watch.cancel()
            try:
                with lock:
                    return {"scores": list(verified(verifier, question, answers))}
            except RewardError as error:
                raise RefusedError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
            except Exception as error:  # a verifier may be anybody's; whoever asked learns of it
                reason = f"the verifier failed: {type(error).__name__}: {error}"
                raise RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, reason[:500]) from error

        def answer(self, path: str, reply: Callable[[], dict[str, Any]]) -> None:
            try:
                _check_host(self.headers.get("Host", ""))
                if self.path != path:
                    raise RefusedError(HTTPStatus.NOT_FOUND, "expected POST /predict or GET /health")
                status, body = HTTPStatus.OK, reply()
            except RefusedError as refusal:
                status, body = refusal.status, {"error": refusal.reason}
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are not logged; they hold what models wrote."""

    return Handler


def read_request(body: bytes) -> tuple[Question, list[str]]:
    """Question and answers of a request.

    Raises:
        RefusedError: saying what was expected.
    """
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(HTTPStatus.BAD_REQUEST, "expected a body of JSON") from error
    match fields:
        case {"question": str(question), "answers": list(answers)} if set(fields) <= {"question", "answers", "choices"}:
            choices = fields.get("choices", [])
            if _are_texts(answers) and _are_texts(choices) and 0 < len(answers) <= MOST:
                return Question(question, choices=tuple(choices)), answers
    wanted = f'{{"question": text, "answers": [1 to {MOST} texts]}}, and "choices": [texts] where there are some'
    raise RefusedError(HTTPStatus.BAD_REQUEST, f"expected {wanted}")


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _length(header: str | None) -> int:
    if header is None or not (header.isascii() and header.isdecimal()):
        raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "expected a Content-Length")
    if len(header) > 20 or int(header) > LARGEST:
        raise RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {LARGEST} bytes, got {header[:20]}")
    return int(header)


def _stop_listening(client: socket.socket) -> None:
    """Wakes the thread that waits for more of a request: it reads an end."""
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RD)


def _check_kind(content: str) -> None:
    """A page in a browser cannot send this kind to another site unasked."""
    if content.partition(";")[0].strip().lower() != "application/json":
        raise RefusedError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected the Content-Type application/json")


def _check_host(host: str) -> None:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
    if name.strip("[]") not in LOOPBACK:
        raise RefusedError(HTTPStatus.FORBIDDEN, f"expected a request to this machine, {HOST}")
