"""HTTP for this machine alone: who may ask, how much may be sent and how slowly, and what becomes of errors.

It listens on loopback, takes requests for no other host (a page in a browser could be made to send them) and from no
page of another site, and reads bounded bodies in a bounded time from a bounded number of connections. With a key,
whoever asks must know it; it is read from the header alone, and nothing of a request is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import resource
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import h11
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from madrigal.serving.protocol import RefusedError
from madrigal.serving.service import refusal_of
from madrigal.types import ConfigError

HOST = "127.0.0.1"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST = 1 << 20  # bytes of a body
SENDING = 15.0  # seconds that a client may take to send the head of a request, and as many for its body
CONNECTIONS = 512  # at once
ACCEPTED = 64  # of them are taken in one go: few enough that whoever asks at once is read before it has to make room
QUEUE = 2048  # that wait to be taken
FILES = 4096  # that the process may open: in a storm, many are closed a moment after others came
KEY_NAMES = ("key", "token", "secret", "password", "authorization", "bearer")
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}
BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\nRetry-After: 1\r\n\r\n"
    b'{"error": {"message": "too many connections", "type": "server_error", "param": null, "code": null}}'
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What a handler answers: JSON, a text of some kind, or the events of a stream as they are ready."""

    content: Mapping[str, Any] | bytes | AsyncIterator[Sequence[Mapping[str, Any]]]
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of an address: a body, the parts that the path names in braces, headers by lower-case name."""

    body: bytes
    names: Mapping[str, str]
    headers: Mapping[str, str]


WebApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Handler = Callable[[Asked], Awaitable[Reply]]


@dataclass(frozen=True, slots=True)
class Address:
    """What is answered under a path: a handler for one method.

    Attributes:
        open: without the key, too.
    """

    method: str
    path: str
    handler: Handler
    open: bool = False


def web_app(addresses: Sequence[Address], key: str = "", timeout: float = 300.0) -> WebApp:
    """The web application of some addresses.

    Args:
        key: what `Authorization: Bearer` must hold; "" asks for none.
        timeout: seconds that an answer may take, the time to send it included.
    """
    paths = dict.fromkeys(one.path for one in addresses)
    pages = {path: _Page([one for one in addresses if one.path == path], key) for path in paths}
    router = Router([Route(path, page) for path, page in pages.items()], redirect_slashes=False, default=_Page([], key))
    return _Guard(router, timeout)


class _Page:
    """What is under one path: a handler for each method, for who knows the key. Errors are for the guard."""

    def __init__(self, addresses: Sequence[Address], key: str) -> None:
        self.handlers = {one.method: one.handler for one in addresses}
        self.key = "" if addresses and all(one.open for one in addresses) else key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        if self.key and not hmac.compare_digest(bearer(request.headers).encode("latin-1"), self.key.encode()):
            raise RefusedError(
                "expected the key of this server as Authorization: Bearer KEY",
                HTTPStatus.UNAUTHORIZED,
                code="invalid_api_key",
            )
        if not self.handlers:
            raise RefusedError("there is no such path", HTTPStatus.NOT_FOUND)
        if request.method not in self.handlers:
            raise RefusedError(f"expected {' or '.join(self.handlers)}", HTTPStatus.METHOD_NOT_ALLOWED)
        body = await _read_body(request) if request.method == "POST" else b""
        asked = Asked(body, request.path_params, request.headers)
        reply = await _while_there(request, self.handlers[request.method](asked))
        await _response(reply)(scope, receive, send)


def bearer(headers: Mapping[str, str]) -> str:
    """What a request says as Authorization: Bearer KEY; "" where it says nothing."""
    return headers.get("authorization", "").removeprefix("Bearer ").strip()


def _response(reply: Reply) -> Response:
    headers = {**SAFE, **reply.headers}
    if isinstance(reply.content, bytes):
        return Response(reply.content, media_type=reply.kind, headers=headers)
    if isinstance(reply.content, Mapping):
        return JSONResponse(reply.content, headers=headers)
    return StreamingResponse(_events(reply.content), media_type="text/event-stream", headers=headers)


async def _read_body(request: Request) -> bytes:
    """The body of a request that says that it is JSON, if it comes in time and is not too large."""
    # A page in a browser cannot send this kind to another site unasked.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RefusedError("expected the Content-Type application/json", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
    too_large = RefusedError(f"expected a body of at most {LARGEST} bytes", HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 20 or int(length) > LARGEST):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(SENDING):
            async for chunk in request.stream():
                body += chunk
                if len(body) > LARGEST:
                    raise too_large
    except ClientDisconnect as error:
        raise _LeftError from error
    except TimeoutError as error:
        raise RefusedError(f"the body did not come within {SENDING:g} s", HTTPStatus.REQUEST_TIMEOUT) from error
    return bytes(body)


class _LeftError(Exception):
    """The client has hung up."""


async def _while_there(request: Request, answer: Awaitable[Reply]) -> Reply:
    """An answer, unless whoever asked for it hangs up before."""

    async def hung_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    work, gone = asyncio.ensure_future(answer), asyncio.ensure_future(hung_up())
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise _LeftError
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _events(ready: AsyncIterator[Sequence[Mapping[str, Any]]]) -> AsyncIterator[bytes]:
    async for parts in ready:
        yield b"".join(map(_event, parts))
    yield b"data: [DONE]\n\n"


def _event(part: Mapping[str, Any]) -> bytes:
    return f"data: {json.dumps(part)}\n\n".encode()


def _refused(refusal: RefusedError) -> Response:
    # What was sent beside the head may not have been read: the connection ends.
    headers = {**SAFE, "Connection": "close"}
    if refusal.retry_after:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == HTTPStatus.CONFLICT:
        headers["X-Should-Retry"] = "false"  # clients of OpenAI's would
    if refusal.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    return JSONResponse(refusal.body, refusal.status, headers=headers)


class _Guard:
    """Refuses who asks from elsewhere, ends what takes too long, and answers every error in one shape."""

    def __init__(self, app: WebApp, timeout: float) -> None:
        self.app, self.timeout = app, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun: list[Message] = []

        async def watched(message: Message) -> None:
            begun.append(message) if not begun else None
            await send(message)

        try:
            self._check(scope)
            async with asyncio.timeout(self.timeout):
                await self.app(scope, receive, watched)
            return
        except _LeftError:
            return
        except TimeoutError:
            refusal = RefusedError(
                f"there was no answer within {self.timeout:g} s", HTTPStatus.GATEWAY_TIMEOUT, code="timeout"
            )
        except Exception as error:  # noqa: BLE001 (logged where nobody expected it)
            refusal = refusal_of(error)
        with contextlib.suppress(Exception):  # it may have hung up
            async with asyncio.timeout(SENDING):
                if begun:
                    await send({"type": "http.response.body", "body": _event(refusal.body), "more_body": False})
                else:
                    await _refused(refusal)(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdecimal() else host
        if name.strip("[]").lower() not in LOOPBACK:
            raise RefusedError(f"expected a request to this machine, {HOST}", HTTPStatus.FORBIDDEN)
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            raise RefusedError("pages of other sites may not ask", HTTPStatus.FORBIDDEN)
        names = [name.lower() for name, _ in parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)]
        if any(word in name for name in names for word in KEY_NAMES):
            raise RefusedError("a key in a URL ends up in logs and histories; send it as Authorization: Bearer KEY")


class _Patient(H11Protocol):
    """HTTP/1.1 with an end to its patience: for heads that come drop by drop, and for more connections than places.

    Where all places are taken, whoever has been longest without asking for anything makes room. So many clients that
    send slowly keep nobody out who asks at once.

    Args:
        there: the connections of the server, in the order in which they came; who was found waiting for an answer
            stands behind those who had come by then.
    """

    watch: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, there: dict[_Patient, None], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.there = there

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.there) >= CONNECTIONS and not self._makes_room():
            transport.write(BUSY)
            transport.close()
        else:
            self.there[self] = None
        self._expect_head()

    def _makes_room(self) -> bool:
        """Cuts off who asks for nothing, the first that is found; whether there was one."""
        for _ in range(len(self.there)):
            first = next(iter(self.there))
            del self.there[first]
            if first.asks:
                first.transport.abort()
                return True
            self.there[first] = None
        return False

    @property
    def asks(self) -> bool:
        """Whether nothing has been asked yet, or nothing more: a head or body has not come, or not whole."""
        return self.conn.their_state is h11.IDLE or self.conn.their_state is h11.SEND_BODY

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.watch:
            self.watch.cancel()
        self.there.pop(self, None)
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        """A head has begun, or is over."""
        waiting = self.conn.their_state is h11.IDLE
        if not waiting and self.watch:
            self.watch.cancel()
            self.watch = None
        elif waiting and self.watch is None:
            self.watch = self.loop.call_later(SENDING, self.transport.close)


class _Listening(socket.socket):
    """A socket with a queue of its own length: asyncio would make it as short as what it takes from it in one go."""

    def listen(self, backlog: int = QUEUE) -> None:
        super().listen(QUEUE)


def listen(port: int, command: str) -> socket.socket:
    """A socket that listens on this machine alone; port 0 takes a free one.

    Raises:
        ConfigError: if the port cannot be had.
    """
    listening = _Listening(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((HOST, port))
        listening.listen()
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(f"{command}: port {port} cannot be had ({error}); name another with --port") from error
    return listening


def url_of(listening: socket.socket) -> str:
    """Where a socket listens."""
    return f"http://{HOST}:{listening.getsockname()[1]}"


def server_of(app: WebApp, patience: float) -> uvicorn.Server:
    """A server that ends on Ctrl-C or SIGTERM, and gives what runs then so many seconds to end."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if most == resource.RLIM_INFINITY else min(FILES, most)
    if 0 <= files < wanted:  # often 1,024
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=partial(_Patient, there={}),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="critical",  # errors are answered and logged here, and a URL may hold what nobody should read
            access_log=False,
            server_header=False,
            timeout_keep_alive=5,
            backlog=ACCEPTED,
            timeout_graceful_shutdown=max(1, round(patience)),
        )
    )


def serve(app: WebApp, listening: socket.socket, patience: float = 30.0) -> None:
    """Answers until Ctrl-C or SIGTERM, and then what had been asked before, for so many seconds."""
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # raised again by uvicorn, once it has ended
        server_of(app, patience).run([listening])


@contextmanager
def serving(app: WebApp, patience: float = 5.0, listening: socket.socket | None = None) -> Iterator[str]:
    """A server in a thread of this process, as long as the block lasts: its address.

    Args:
        listening: a socket that listens; None takes a free port.
    """
    listening = listening or listen(0, "serving")
    server = server_of(app, patience)
    thread = threading.Thread(target=server.run, args=([listening],), name="web", daemon=True)
    thread.start()
    try:
        yield url_of(listening)
    finally:
        server.should_exit = True
        thread.join(patience + 5)
